//! A relay that records what crosses the network.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::devtools::lock;

/// A TCP relay between a client and a server that records all bytes of both directions.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    /// Opens a relay to `server` on a free port.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let recorded = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let all = Arc::clone(&recorded);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (Ok(from), Ok(to)) = (server.try_clone(), client.try_clone()) else { continue };
                for (from, to) in [(from, to), (client, server)] {
                    let all = Arc::clone(&all);
                    thread::spawn(move || pass(from, to, &all));
                }
            }
        });
        Self { address, recorded }
    }

    /// The address on which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forgets everything recorded so far.
    pub fn forget(&self) {
        lock(&self.recorded).iter_mut().for_each(Vec::clear);
    }

    /// Whether `text` has crossed the network in cleartext.
    #[must_use]
    pub fn has_seen(&self, text: &str) -> bool {
        let seen = |bytes: &Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        lock(&self.recorded).iter().any(seen)
    }
}

/// Forwards one direction, and records it before it is forwarded.
fn pass(mut from: TcpStream, mut to: TcpStream, all: &Mutex<Vec<Vec<u8>>>) {
    let own = {
        let mut all = lock(all);
        all.push(Vec::new());
        all.len() - 1
    };
    let mut buffer = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        lock(all)[own].extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
