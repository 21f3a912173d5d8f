//! A proxy that can lose responses and cut connections.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crate::{devtools::lock, http::header};

/// A proxy between a browser and a server. It can lose the response to a POST after the server has
/// processed the request.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
}

/// No cut is requested.
const NO_CUT: usize = usize::MAX;

#[derive(Debug)]
struct Wire {
    server: SocketAddr,
    to_lose: AtomicUsize,
    /// The number of response bytes to forward before every connection is cut.
    until_cut: AtomicUsize,
    ids: Mutex<Vec<String>>,
    /// The number of POSTs to answer with a 502 instead of the server's response.
    to_refuse: AtomicUsize,
    /// Whether the next POST waits for [`Proxy::release`].
    holds: Mutex<bool>,
    released: Condvar,
    /// The response to every request instead of the server's.
    answer: Mutex<Option<String>>,
    browsers: Mutex<Vec<TcpStream>>,
    blocks_cookies: AtomicBool,
}

const BAD_GATEWAY: &str = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 11\r\nConnection: close\r\n\r\nBad Gateway";

impl Proxy {
    /// Starts a proxy in front of `server` on a free port.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let wire = Arc::new(Wire {
            server,
            to_lose: AtomicUsize::new(0),
            until_cut: AtomicUsize::new(NO_CUT),
            ids: Mutex::default(),
            to_refuse: AtomicUsize::new(0),
            holds: Mutex::default(),
            released: Condvar::new(),
            answer: Mutex::default(),
            browsers: Mutex::default(),
            blocks_cookies: AtomicBool::new(false),
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

    /// The URL of a path through the proxy.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Loses the responses to the next POSTs: the server processes them, but the browser receives nothing.
    pub fn lose_answers(&self, count: usize) {
        self.wire.to_lose.store(count, Ordering::SeqCst);
    }

    /// Answers the next POSTs with a 502 instead of the server's response.
    pub fn refuse_posts(&self, count: usize) {
        self.wire.to_refuse.store(count, Ordering::SeqCst);
    }

    /// Holds back the next POST, but not later ones on other connections.
    pub fn hold_post(&self) {
        *lock(&self.wire.holds) = true;
    }

    /// Whether the POST to hold back has not arrived yet.
    #[must_use]
    pub fn awaits_post(&self) -> bool {
        *lock(&self.wire.holds)
    }

    /// Forwards the held-back POST.
    pub fn release(&self) {
        self.wire.released.notify_all();
    }

    /// Closes every connection, and answers each further request with this response; `None` forwards to the server again.
    pub fn answer_with(&self, answer: Option<&str>) {
        *lock(&self.wire.answer) = answer.map(str::to_owned);
        for browser in lock(&self.wire.browsers).drain(..) {
            let _ = browser.shutdown(Shutdown::Both);
        }
    }

    /// Hides the server's cookies from the browser, like a browser that blocks them.
    pub fn block_cookies(&self) {
        self.wire.blocks_cookies.store(true, Ordering::SeqCst);
    }

    /// Cuts the connection that forwards the response byte after `bytes`, at any position; once.
    pub fn cut_after(&self, bytes: usize) {
        self.wire.until_cut.store(bytes, Ordering::SeqCst);
    }

    /// Whether the connection has been cut.
    #[must_use]
    pub fn has_cut(&self) -> bool {
        self.wire.until_cut.load(Ordering::SeqCst) == NO_CUT
    }

    /// The event ids of the POSTs so far, including repeats.
    #[must_use]
    pub fn event_ids(&self) -> Vec<String> {
        lock(&self.wire.ids).clone()
    }
}

impl Wire {
    fn connect(self: &Arc<Self>, browser: &TcpStream) {
        lock(&self.browsers).extend(browser.try_clone());
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
            let is_post = buffer.starts_with(b"POST ");
            if let Some(answer) = self.own_answer(is_post) {
                let _ = browser.write_all(answer.as_bytes());
                let _ = browser.shutdown(Shutdown::Both);
                return;
            }
            if is_post {
                self.wait();
                let head = String::from_utf8_lossy(&buffer[..length]);
                lock(&self.ids).extend(header(&head, "faststate-event").map(str::to_owned));
                if takes_one(&self.to_lose) {
                    losing.store(1, Ordering::SeqCst);
                }
            }
            if server.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    }

    /// The response to this request instead of the server's.
    fn own_answer(&self, is_post: bool) -> Option<String> {
        let refused = is_post && takes_one(&self.to_refuse);
        lock(&self.answer).clone().or_else(|| refused.then(|| BAD_GATEWAY.to_owned()))
    }

    /// Waits until the held-back POST is released; other requests pass.
    fn wait(&self) {
        let mut holds = lock(&self.holds);
        if std::mem::take(&mut *holds) {
            drop(self.released.wait(holds));
        }
    }

    /// Forwards the server's response, unless it must be lost or cut: then both sides are disconnected.
    fn answers(&self, mut server: TcpStream, mut browser: TcpStream, losing: &AtomicUsize) {
        let mut buffer = [0; 64 * 1024];
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            if losing.load(Ordering::SeqCst) > 0 {
                break;
            }
            if self.blocks_cookies.load(Ordering::SeqCst) {
                rename_cookies(&mut buffer[..length]);
            }
            let passes = self.passes(length);
            if browser.write_all(&buffer[..passes]).is_err() || passes < length {
                break;
            }
        }
        let _ = browser.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }

    /// The number of these bytes to forward before the cut.
    fn passes(&self, length: usize) -> usize {
        let count = |left: usize| {
            if left == NO_CUT { None } else { Some(left.checked_sub(length).unwrap_or(NO_CUT)) }
        };
        match self.until_cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) {
            Ok(left) => length.min(left),
            Err(_) => length,
        }
    }
}

/// Renames each `Set-Cookie` to a name of the same length.
fn rename_cookies(answer: &mut [u8]) {
    const NAME: &[u8] = b"set-cookie:";

    for at in 0..answer.len().saturating_sub(NAME.len()) {
        if answer[at..at + NAME.len()].eq_ignore_ascii_case(NAME) {
            answer[at] = b'x';
        }
    }
}

/// Decrements the counter; returns whether it was above zero.
fn takes_one(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}
