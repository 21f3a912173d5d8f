//! Clients that send events one at a time.

use std::io;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Child, Server};

/// The number of concurrent connection attempts.
pub(crate) const CONNECT_CONCURRENCY: usize = 64;

/// One client of a server: a browser with its session's cookie.
#[derive(Clone, Debug)]
pub struct Client {
    server: Server,
    address: (&'static str, u16),
    cookie: String,
}

/// A connection that sends events.
#[derive(Debug)]
pub struct Poster {
    client: Client,
    socket: TcpStream,
    read: Vec<u8>,
}

impl Client {
    /// Creates a client. On a server with sessions it opens a page first and gets its cookie there. On others it sends a
    /// cookie of the same length, so that all requests are equal.
    ///
    /// # Errors
    /// Fails if the server does not respond.
    pub async fn new(child: &Child) -> io::Result<Self> {
        let cookie = format!("faststate_{:0<8}={:0<70}", "", "");
        let mut client = Self { server: child.server(), address: child.address(), cookie };
        if client.server.has_sessions() {
            let mut socket = client.connect().await?;
            socket.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
            client.cookie = cookie.ok_or_else(|| io::Error::other("a page without a cookie"))?.to_owned();
        }
        Ok(client)
    }

    /// Creates `count` clients.
    ///
    /// # Errors
    /// Fails like [`new`](Self::new).
    pub async fn many(child: &Child, count: usize) -> io::Result<Vec<Self>> {
        futures::stream::iter(0..count)
            .map(|_| Self::new(child))
            .buffered(CONNECT_CONCURRENCY)
            .try_collect()
            .await
    }

    /// Returns whether a stream starts with the first event instead of with the board.
    #[must_use]
    pub fn sends_nothing_first(&self) -> bool {
        self.server == Server::Nchan
    }

    /// Opens a connection to the server.
    ///
    /// # Errors
    /// Fails if the server does not accept the connection.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    /// The request that follows the board.
    #[must_use]
    pub fn follow(&self) -> String {
        self.server.follow(&self.cookie)
    }

    /// A connection that sends events.
    ///
    /// # Errors
    /// Fails if the server does not accept the connection.
    pub async fn poster(self) -> io::Result<Poster> {
        let socket = self.connect().await?;
        Ok(Poster { client: self, socket, read: Vec::with_capacity(4096) })
    }
}

impl Poster {
    /// Sets one number and waits for the response. `follows` states whether the client's page follows the board.
    ///
    /// # Errors
    /// Fails if the response is not a success.
    pub async fn set(&mut self, slot: usize, value: u32, follows: bool) -> io::Result<()> {
        let request = self.client.server.set(&self.client.cookie, slot, value, follows);
        self.socket.write_all(request.as_bytes()).await?;
        self.read.clear();
        let head = loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let text = String::from_utf8_lossy(&self.read[..head]).to_ascii_lowercase();
        if !text.starts_with("http/1.1 2") {
            return Err(io::Error::other(text));
        }
        if let Some(length) = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()) {
            let length: usize = length.trim().parse().map_err(io::Error::other)?;
            while self.read.len() < head + length {
                self.fill().await?;
            }
        } else if text.contains("transfer-encoding: chunked") {
            while !self.read.ends_with(b"0\r\n\r\n") {
                self.fill().await?;
            }
        }
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
