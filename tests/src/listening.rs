//! Reads every byte of an SSE stream without a browser.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::{devtools::lock, wait::until};

/// The bytes of one stream so far.
#[derive(Debug)]
pub struct Listening {
    heard: Arc<Mutex<Vec<u8>>>,
    ended: Arc<AtomicBool>,
    connection: TcpStream,
}

impl Listening {
    /// Requests a path. Each of `headers` ends with a line end.
    #[must_use]
    pub fn to(address: SocketAddr, path: &str, headers: &str) -> Self {
        let mut connection = TcpStream::connect(address).expect("the server listens");
        write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n").expect("it is asked");
        let (heard, ended) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default());
        let mut reader = connection.try_clone().expect("a second handle");
        let (hears, ends) = (Arc::clone(&heard), Arc::clone(&ended));
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                lock(&hears).extend_from_slice(&piece[..length]);
                // The last chunk of a chunked body: the connection itself stays open.
                if lock(&hears).ends_with(b"\r\n0\r\n\r\n") {
                    break;
                }
            }
            ends.store(true, Ordering::SeqCst);
        });
        Self { heard, ended, connection }
    }

    /// The bytes so far, including the response head.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.heard)).into_owned()
    }

    /// Waits until the stream contains `text`.
    pub fn until(&self, text: &str) {
        until(&format!("{text:?} on the stream"), || self.text(), |heard| heard.contains(text));
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.connection.shutdown(std::net::Shutdown::Both);
    }
}
