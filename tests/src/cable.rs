//! A network connection that can silently drop everything.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use crate::devtools::lock;

/// A TCP relay between a client and a server. While cut, it accepts connections and bytes but forwards nothing;
/// after it is mended, it forwards the bytes that it accepted, like a slow network.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    server: Mutex<SocketAddr>,
    cut: Mutex<bool>,
    mended: Condvar,
}

impl Cable {
    /// Opens a relay to `server` on a free port.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let wire =
            Arc::new(Wire { server: Mutex::new(server), cut: Mutex::new(false), mended: Condvar::new() });
        let accepting = Arc::clone(&wire);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let wire = Arc::clone(&accepting);
                thread::spawn(move || wire.connect(client));
            }
        });
        Self { address, wire }
    }

    /// The address on which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects new connections to another server; open connections are unaffected.
    pub fn lead_to(&self, server: SocketAddr) {
        *lock(&self.wire.server) = server;
    }

    /// Stops forwarding.
    pub fn cut(&self) {
        *lock(&self.wire.cut) = true;
    }

    /// Resumes forwarding.
    pub fn mend(&self) {
        *lock(&self.wire.cut) = false;
        self.wire.mended.notify_all();
    }
}

impl Wire {
    fn connect(self: Arc<Self>, client: TcpStream) {
        self.wait();
        let Ok(server) = TcpStream::connect(*lock(&self.server)) else { return };
        let (Ok(from), Ok(to)) = (server.try_clone(), client.try_clone()) else { return };
        let back = Arc::clone(&self);
        thread::spawn(move || back.pass(from, to));
        self.pass(client, server);
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            self.wait();
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    /// Waits until it is no longer cut.
    fn wait(&self) {
        let cut = lock(&self.cut);
        drop(self.mended.wait_while(cut, |cut| *cut));
    }
}
