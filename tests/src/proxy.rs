//! A network that can be cut.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{devtools::lock, http::header};

/// Stands between a browser and a server, and can lose the answer to a POST after the server has
/// done what was asked.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
}

/// No cut is asked for.
const NEVER: usize = usize::MAX;

#[derive(Debug)]
struct Wire {
    server: SocketAddr,
    to_lose: AtomicUsize,
    /// How many more bytes of answers pass before every connection is cut.
    until_cut: AtomicUsize,
    ids: Mutex<Vec<String>>,
}

impl Proxy {
    /// A proxy in front of `server`, on a free port.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let wire = Arc::new(Wire {
            server,
            to_lose: AtomicUsize::new(0),
            until_cut: AtomicUsize::new(NEVER),
            ids: Mutex::default(),
        });
        let accepting = Arc::clone(&wire);
        thread::spawn(move || {
            for browser in listener.incoming().map_while(Result::ok) {
                let wire = Arc::clone(&accepting);
                thread::spawn(move || wire.connect(&browser));
            }
        });
        Self { address, wire }
    }

    /// A path's address through the proxy.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Loses the answers to the next POSTs: the server does them, and the browser never hears of it.
    pub fn lose_answers(&self, count: usize) {
        self.wire.to_lose.store(count, Ordering::SeqCst);
    }

    /// Cuts the connection that passes the answers' next byte after so many, in the middle of whatever it
    /// says; once.
    pub fn cut_after(&self, bytes: usize) {
        self.wire.until_cut.store(bytes, Ordering::SeqCst);
    }

    /// Whether the connection has been cut.
    #[must_use]
    pub fn has_cut(&self) -> bool {
        self.wire.until_cut.load(Ordering::SeqCst) == NEVER
    }

    /// The event ids of the POSTs so far, repeats included.
    #[must_use]
    pub fn event_ids(&self) -> Vec<String> {
        lock(&self.wire.ids).clone()
    }
}

impl Wire {
    fn connect(self: &Arc<Self>, browser: &TcpStream) {
        let Ok(server) = TcpStream::connect(self.server) else { return };
        let losing = Arc::new(AtomicUsize::new(0));
        let (Ok(from), Ok(to)) = (server.try_clone(), browser.try_clone()) else { return };
        let (wire, lost) = (Arc::clone(self), Arc::clone(&losing));
        thread::spawn(move || wire.answers(from, to, &lost));
        self.requests(browser, &server, &losing);
        let _ = server.shutdown(Shutdown::Both);
    }

    /// A browser writes a whole request head at once, so a chunk that starts with POST is one.
    fn requests(&self, mut browser: &TcpStream, mut server: &TcpStream, losing: &AtomicUsize) {
        let mut buffer = [0; 64 * 1024];
        while let Ok(length @ 1..) = browser.read(&mut buffer) {
            if buffer.starts_with(b"POST ") {
                let head = String::from_utf8_lossy(&buffer[..length]);
                lock(&self.ids).extend(header(&head, "faststate-event").map(str::to_owned));
                let one_less = |count: usize| count.checked_sub(1);
                if self.to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                    losing.store(1, Ordering::SeqCst);
                }
            }
            if server.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    }

    /// Passes on what the server says, unless it is to be lost or cut: then both sides are cut off.
    fn answers(&self, mut server: TcpStream, mut browser: TcpStream, losing: &AtomicUsize) {
        let mut buffer = [0; 64 * 1024];
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            if losing.load(Ordering::SeqCst) > 0 {
                break;
            }
            let passes = self.passes(length);
            if browser.write_all(&buffer[..passes]).is_err() || passes < length {
                break;
            }
        }
        let _ = browser.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }

    /// How many of these bytes pass before the cut.
    fn passes(&self, length: usize) -> usize {
        let count =
            |left: usize| if left == NEVER { None } else { Some(left.checked_sub(length).unwrap_or(NEVER)) };
        match self.until_cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) {
            Ok(left) => length.min(left),
            Err(_) => length,
        }
    }
}
