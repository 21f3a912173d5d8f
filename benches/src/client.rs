//! Connections that send events, one after the other.

use std::io;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Child, Server};

/// How many connect at once.
pub(crate) const CONNECTING: usize = 64;

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
    /// A new client; where there are sessions it opens a page first and gets its cookie there. Elsewhere it has one
    /// as long, so that all are sent the same.
    ///
    /// # Errors
    /// When the server does not answer.
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

    /// So many new clients.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn many(child: &Child, count: usize) -> io::Result<Vec<Self>> {
        futures::stream::iter(0..count).map(|_| Self::new(child)).buffered(CONNECTING).try_collect().await
    }

    /// Whether a stream begins with the first event instead of with the board.
    #[must_use]
    pub fn sends_nothing_first(&self) -> bool {
        self.server == Server::Nchan
    }

    /// A connection to the server.
    ///
    /// # Errors
    /// When the server is gone.
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
    /// When the server is gone.
    pub async fn poster(self) -> io::Result<Poster> {
        let socket = self.connect().await?;
        Ok(Poster { client: self, socket, read: Vec::with_capacity(4096) })
    }
}

impl Poster {
    /// Sets one number and waits for the answer; `follows` says that the caller's page follows the board.
    ///
    /// # Errors
    /// When the answer is no success.
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
