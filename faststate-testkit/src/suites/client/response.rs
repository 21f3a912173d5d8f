//! Reads a response as it arrives.

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::RawConnection;
use crate::suites::{Failure, ensure, wait::CHECK_TIMEOUT};

/// A response head, and its body as it arrives.
#[derive(Debug)]
pub struct ClientResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: RemainingBody,
    connection: RawConnection,
}

/// The part of the body that has not arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RemainingBody {
    /// This many bytes.
    Length(u64),
    /// This many bytes of a chunk, followed by more chunks.
    Chunk(u64),
    /// All bytes until the connection ends.
    Rest,
    Over,
}

const HTTP: &str = "a response is HTTP/1.1";

impl ClientResponse {
    pub(super) async fn read(mut connection: RawConnection, has_body: bool) -> Result<Self, Failure> {
        let first = connection.line().await?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let Some(status) = status else {
            return Err(Failure::new(HTTP, format!("it begins with {first:?}")));
        };
        let mut headers = Vec::new();
        loop {
            let line = connection.line().await?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(Failure::new(HTTP, format!("a header is {line:?}")));
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Self { status, headers, body: RemainingBody::Over, connection };
        answer.body = if has_body { answer.framing()? } else { RemainingBody::Over };
        Ok(answer)
    }

    fn framing(&self) -> Result<RemainingBody, Failure> {
        if matches!(self.status, 100..200 | 204 | 304) {
            return Ok(RemainingBody::Over);
        }
        let length = self.header("content-length");
        match (self.header("transfer-encoding"), length) {
            (Some("chunked"), None) => Ok(RemainingBody::Chunk(0)),
            (Some(encoding), _) => Err(Failure::new(
                HTTP,
                format!("the transfer encoding is {encoding}, with the content length {length:?}"),
            )),
            (None, Some(length)) => {
                length.parse().map(RemainingBody::Length).map_err(|error| Failure::error(HTTP, &error))
            }
            (None, None) => Ok(RemainingBody::Rest),
        }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every header, its name in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the next bytes of the body, or `None` when it is complete.
    ///
    /// # Errors
    /// Fails if nothing arrives for 10 s, or if the connection ends before the body.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.body == RemainingBody::Chunk(0) {
            self.next_chunk().await?;
        }
        let left = match self.body {
            RemainingBody::Over | RemainingBody::Length(0) => return Ok(None),
            RemainingBody::Length(left) | RemainingBody::Chunk(left) => left,
            RemainingBody::Rest => u64::MAX,
        };
        let piece = self.connection.some(left).await?;
        if piece.is_empty() {
            ensure!(
                self.body == RemainingBody::Rest,
                self.connection.promise,
                "the connection ended in the middle of the body"
            );
            self.body = RemainingBody::Over;
            return Ok(None);
        }
        let left = left - piece.len() as u64;
        match self.body {
            RemainingBody::Length(_) => self.body = RemainingBody::Length(left),
            RemainingBody::Chunk(_) => {
                self.body = RemainingBody::Chunk(left);
                if left == 0 {
                    let end = self.connection.line().await?;
                    ensure!(end.is_empty(), HTTP, "a chunk ends with {end:?}");
                }
            }
            RemainingBody::Rest | RemainingBody::Over => {}
        }
        Ok(Some(piece))
    }

    async fn next_chunk(&mut self) -> Result<(), Failure> {
        let line = self.connection.line().await?;
        let size = line.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(|error| Failure::error(HTTP, &error))?;
        self.body = RemainingBody::Chunk(size);
        if size == 0 {
            while !self.connection.line().await?.is_empty() {}
            self.body = RemainingBody::Over;
        }
        Ok(())
    }

    /// Reads the rest of the body.
    ///
    /// # Errors
    /// Fails like [`piece`](Self::piece), and if the body does not end within 10 s.
    pub async fn bytes(&mut self) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        let end = Instant::now() + CHECK_TIMEOUT;
        while let Some(piece) = timeout_at(end, self.piece()).await.unwrap_or_else(|_| self.endless())? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    fn endless(&self) -> Result<Option<Bytes>, Failure> {
        Err(Failure::new(self.connection.promise, format!("the body did not end within {CHECK_TIMEOUT:?}")))
    }

    /// Reads the rest of the body as text.
    ///
    /// # Errors
    /// Fails like [`piece`](Self::piece), and if the body is not UTF-8.
    pub async fn text(&mut self) -> Result<String, Failure> {
        String::from_utf8(self.bytes().await?).map_err(|error| Failure::error("a body is UTF-8", &error))
    }

    /// Reads the rest of the body as JSON.
    ///
    /// # Errors
    /// Fails like [`piece`](Self::piece), and if the body is not JSON.
    pub async fn json(&mut self) -> Result<Value, Failure> {
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let text = String::from_utf8_lossy(&bytes);
            Failure::new("a body of the type JSON is JSON", format!("{error}: {text:?}"))
        })
    }

    /// Returns the connection, for another request after the complete body or for an early disconnect.
    #[must_use]
    pub fn into_connection(self) -> RawConnection {
        self.connection
    }
}
