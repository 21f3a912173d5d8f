//! A raw HTTP/1.1 client that sends exact bytes and reads responses as they arrive.
//!
//! It shares no code with `endpoint` or a framework. It can stop in the middle of a request, disconnect in the middle of a
//! frame, and read a response piece by piece. Each wait has a deadline of 10 s.

mod response;

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

pub use self::response::ClientResponse;
use super::{Failure, wait::CHECK_TIMEOUT};

/// An HTTP client: a server address, headers for each request, and the promise that a missing response breaks.
#[derive(Clone, Debug)]
pub struct RawClient {
    address: SocketAddr,
    promise: &'static str,
    headers: Vec<(String, String)>,
    cookie: Option<String>,
    keeps: bool,
}

/// One connection and its unread bytes.
#[derive(Debug)]
pub struct RawConnection {
    socket: TcpStream,
    arrived: BytesMut,
    promise: &'static str,
}

impl RawClient {
    /// Creates a client of the server at `address`, without cookies or headers.
    ///
    /// A [`Failure`] names `promise` if the server refuses the connection, disconnects or does not respond.
    #[must_use]
    pub const fn new(address: SocketAddr, promise: &'static str) -> Self {
        Self { address, promise, headers: Vec::new(), cookie: None, keeps: false }
    }

    /// Sets a header of each request.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the headers that Datastar sends from a page of this site.
    #[must_use]
    pub fn datastar(self) -> Self {
        self.with("datastar-request", "true").with("sec-fetch-site", "same-origin")
    }

    /// Keeps the cookie that a response sets, and sends it with the next request.
    #[must_use]
    pub const fn keeping_cookies(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// Sets the cookie (`name=value`).
    #[must_use]
    pub fn with_cookie(mut self, cookie: impl Into<String>) -> Self {
        self.cookie = Some(cookie.into());
        self
    }

    /// The cookie of the next request.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// The server's address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a request head without its final blank line, so that more headers can follow.
    #[must_use]
    pub fn head(&self, method: &str, target: &str) -> String {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            let _ = write!(head, "host: {}\r\n", self.address);
        }
        let cookie = self.cookie.as_deref().map(|cookie| ("cookie", cookie));
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.chain(cookie) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Fails if the server does not accept the connection.
    pub async fn connect(&self) -> Result<RawConnection, Failure> {
        let socket = within(self.promise, CHECK_TIMEOUT, TcpStream::connect(self.address)).await?;
        // Each write leaves as its own segment.
        within(self.promise, CHECK_TIMEOUT, async { socket.set_nodelay(true) }).await?;
        Ok(RawConnection { socket, arrived: BytesMut::new(), promise: self.promise })
    }

    /// Sends a request over a new connection and reads the response head.
    ///
    /// # Errors
    /// Fails if there is no response, or if it is not HTTP.
    pub async fn send(
        &mut self,
        method: &str,
        target: &str,
        body: impl AsRef<[u8]> + Send,
    ) -> Result<ClientResponse, Failure> {
        let body = body.as_ref();
        let mut head = self.head(method, target);
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            let _ = write!(head, "content-length: {}\r\n", body.len());
        }
        let mut connection = self.connect().await?;
        connection.write(&[head.as_bytes(), b"\r\n", body].concat()).await?;
        let answer =
            if method == "HEAD" { connection.answer_to_head().await? } else { connection.answer().await? };
        self.keep(&answer);
        Ok(answer)
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// Fails like [`send`](Self::send).
    pub async fn get(&mut self, target: &str) -> Result<ClientResponse, Failure> {
        self.send("GET", target, "").await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// Fails like [`send`](Self::send).
    pub async fn post(
        &mut self,
        target: &str,
        json: impl AsRef<[u8]> + Send,
    ) -> Result<ClientResponse, Failure> {
        let mut typed = self.clone().with("content-type", "application/json");
        let answer = typed.send("POST", target, json).await?;
        self.cookie = typed.cookie;
        Ok(answer)
    }

    /// Keeps the cookie that the response sets, if any.
    pub fn keep(&mut self, answer: &ClientResponse) {
        let set = answer.header("set-cookie").and_then(|set| set.split(';').next());
        if let Some(cookie) = set.filter(|_| self.keeps) {
            self.cookie = Some(cookie.to_owned());
        }
    }
}

impl RawConnection {
    /// Sends exactly these bytes. A disconnect of the server is reported when the response is read.
    ///
    /// # Errors
    /// Fails if the server reads nothing for 10 s.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match timeout(CHECK_TIMEOUT, self.socket.write_all(bytes)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(Failure::new(self.promise, format!("the server read nothing for {CHECK_TIMEOUT:?}")))
            }
        }
    }

    /// Reads the head of the next response.
    ///
    /// # Errors
    /// Fails if there is no response, or if it is not HTTP.
    pub async fn answer(self) -> Result<ClientResponse, Failure> {
        ClientResponse::read(self, true).await
    }

    /// Reads the head of the response to a HEAD request, which has no body.
    ///
    /// # Errors
    /// Fails like [`answer`](Self::answer).
    pub async fn answer_to_head(self) -> Result<ClientResponse, Failure> {
        ClientResponse::read(self, false).await
    }

    /// Closes the sending side of the connection.
    ///
    /// # Errors
    /// Fails if the connection is already closed.
    pub async fn half_close(&mut self) -> Result<(), Failure> {
        within(self.promise, CHECK_TIMEOUT, self.socket.shutdown()).await
    }

    /// Closes the connection with a reset.
    ///
    /// # Errors
    /// Fails if the system does not support it.
    pub fn reset(self) -> Result<(), Failure> {
        self.socket.set_zero_linger().map_err(|error| Failure::error(self.promise, &error))
    }

    /// Returns whether the server has closed the connection, after all earlier bytes have been read.
    ///
    /// # Errors
    /// Fails if nothing arrives for 10 s.
    pub async fn is_closed(&mut self) -> Result<bool, Failure> {
        Ok(self.arrived.is_empty() && self.arrive().await? == 0)
    }

    /// Waits for more bytes. Returns 0 at the end of the connection.
    async fn arrive(&mut self) -> Result<usize, Failure> {
        within(self.promise, CHECK_TIMEOUT, self.socket.read_buf(&mut self.arrived)).await
    }

    /// Returns the next line, without its line break.
    async fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.arrived.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.arrived.split_to(end + 2);
                let text = str::from_utf8(&line[..end]);
                return text
                    .map(str::to_owned)
                    .map_err(|error| Failure::error("the lines of a response are UTF-8", &error));
            }
            if self.arrive().await? == 0 {
                let found =
                    format!("the server disconnected after {:?}", String::from_utf8_lossy(&self.arrived));
                return Err(Failure::new(self.promise, found));
            }
        }
    }

    /// Returns up to `most` bytes, or none at the end of the connection.
    async fn some(&mut self, most: u64) -> Result<Bytes, Failure> {
        if self.arrived.is_empty() {
            self.arrive().await?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.arrived.len());
        Ok(self.arrived.split_to(most).freeze())
    }
}

/// Awaits a socket operation for at most `limit`.
async fn within<T>(
    promise: &str,
    limit: Duration,
    operation: impl Future<Output = std::io::Result<T>> + Send,
) -> Result<T, Failure> {
    match timeout(limit, operation).await {
        Ok(done) => done.map_err(|error| Failure::error(promise, &error)),
        Err(_) => Err(Failure::new(promise, format!("nothing happened within {limit:?}"))),
    }
}
