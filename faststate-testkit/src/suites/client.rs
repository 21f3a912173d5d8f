//! A raw HTTP/1.1 client: exact bytes go out, answers are taken as they arrive.
//!
//! It knows nothing of `endpoint`, of a framework or of another client's kindness: it can stop in the
//! middle of a request, hang up in the middle of a frame, and read an answer piece by piece. Each thing
//! that it waits for has a deadline of 10 s.

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

/// Whom to ask, what to send with each request, and which promise is broken by no answer.
#[derive(Clone, Debug)]
pub struct RawClient {
    address: SocketAddr,
    promise: &'static str,
    headers: Vec<(String, String)>,
    cookie: Option<String>,
    keeps: bool,
}

/// One connection, with what has arrived and is not taken yet.
#[derive(Debug)]
pub struct RawConnection {
    socket: TcpStream,
    arrived: BytesMut,
    promise: &'static str,
}

impl RawClient {
    /// A client of the server at `address`, without cookies or headers of its own.
    ///
    /// `promise` is what a [`Failure`] names when the server is not there, hangs up or says nothing.
    #[must_use]
    pub const fn new(address: SocketAddr, promise: &'static str) -> Self {
        Self { address, promise, headers: Vec::new(), cookie: None, keeps: false }
    }

    /// This client, with a header on each request instead of those of this name.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// This client, as Datastar sends from a page of this site.
    #[must_use]
    pub fn datastar(self) -> Self {
        self.with("datastar-request", "true").with("sec-fetch-site", "same-origin")
    }

    /// This client, with a jar for one cookie: what `Set-Cookie` sets goes with the next request.
    #[must_use]
    pub const fn keeping_cookies(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// This client, with this cookie (`name=value`).
    #[must_use]
    pub fn with_cookie(mut self, cookie: impl Into<String>) -> Self {
        self.cookie = Some(cookie.into());
        self
    }

    /// The cookie that goes with the next request.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// The server's address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request's head without the blank line that ends it, so that more headers can follow.
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

    /// A new connection.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(&self) -> Result<RawConnection, Failure> {
        let socket = within(self.promise, CHECK_TIMEOUT, TcpStream::connect(self.address)).await?;
        // Pieces of a request leave as they are written.
        within(self.promise, CHECK_TIMEOUT, async { socket.set_nodelay(true) }).await?;
        Ok(RawConnection { socket, arrived: BytesMut::new(), promise: self.promise })
    }

    /// Sends a request over a new connection and reads the answer's head.
    ///
    /// # Errors
    /// When there is no answer, or it is no HTTP.
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
    /// As [`send`](Self::send).
    pub async fn get(&mut self, target: &str) -> Result<ClientResponse, Failure> {
        self.send("GET", target, "").await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// As [`send`](Self::send).
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

    /// Puts the answer's cookie into the jar, if there is one.
    pub fn keep(&mut self, answer: &ClientResponse) {
        let set = answer.header("set-cookie").and_then(|set| set.split(';').next());
        if let Some(cookie) = set.filter(|_| self.keeps) {
            self.cookie = Some(cookie.to_owned());
        }
    }
}

impl RawConnection {
    /// Sends exactly these bytes. That the server has hung up shows when its answer is read.
    ///
    /// # Errors
    /// When the server takes nothing for 10 s.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match timeout(CHECK_TIMEOUT, self.socket.write_all(bytes)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::new(self.promise, format!("it took nothing for {CHECK_TIMEOUT:?}"))),
        }
    }

    /// Reads the head of the next answer.
    ///
    /// # Errors
    /// When there is none, or it is no HTTP.
    pub async fn answer(self) -> Result<ClientResponse, Failure> {
        ClientResponse::read(self, true).await
    }

    /// Reads the head of the answer to a HEAD, which has no body.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub async fn answer_to_head(self) -> Result<ClientResponse, Failure> {
        ClientResponse::read(self, false).await
    }

    /// Says that nothing more is sent, and reads on.
    ///
    /// # Errors
    /// When the connection is closed already.
    pub async fn half_close(&mut self) -> Result<(), Failure> {
        within(self.promise, CHECK_TIMEOUT, self.socket.shutdown()).await
    }

    /// Hangs up in a way that the server cannot mistake: with a reset.
    ///
    /// # Errors
    /// When the system knows no such thing.
    pub fn reset(self) -> Result<(), Failure> {
        self.socket.set_zero_linger().map_err(|error| Failure::error(self.promise, &error))
    }

    /// Whether the server has closed the connection, once everything before has been taken.
    ///
    /// # Errors
    /// When it says nothing for 10 s.
    pub async fn is_closed(&mut self) -> Result<bool, Failure> {
        Ok(self.arrived.is_empty() && self.arrive().await? == 0)
    }

    /// Waits for more bytes; 0 at the end of the connection.
    async fn arrive(&mut self) -> Result<usize, Failure> {
        within(self.promise, CHECK_TIMEOUT, self.socket.read_buf(&mut self.arrived)).await
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.arrived.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.arrived.split_to(end + 2);
                let text = str::from_utf8(&line[..end]);
                return text
                    .map(str::to_owned)
                    .map_err(|error| Failure::error("an answer's lines are text", &error));
            }
            if self.arrive().await? == 0 {
                let found = format!("it hung up after {:?}", String::from_utf8_lossy(&self.arrived));
                return Err(Failure::new(self.promise, found));
            }
        }
    }

    /// Some bytes, at most `most`; nothing at the end of the connection.
    async fn some(&mut self, most: u64) -> Result<Bytes, Failure> {
        if self.arrived.is_empty() {
            self.arrive().await?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.arrived.len());
        Ok(self.arrived.split_to(most).freeze())
    }
}

/// What an operation on a socket gives, in time.
async fn within<T>(
    promise: &str,
    patience: Duration,
    doing: impl Future<Output = std::io::Result<T>> + Send,
) -> Result<T, Failure> {
    match timeout(patience, doing).await {
        Ok(done) => done.map_err(|error| Failure::error(promise, &error)),
        Err(_) => Err(Failure::new(promise, format!("nothing happened within {patience:?}"))),
    }
}
