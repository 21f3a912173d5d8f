//! A stream that is written directly to its socket, without hyper.
//!
//! Frames are encoded once and shared by all followers, so a stream only has to write them. hyper would keep 16 KB of
//! buffers for each connection, for a next request that never comes.

use std::{
    future::Future,
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use bytes::{Buf as _, Bytes};
use http::{Response, header};
use http_body::Body as _;
use httpdate::HttpDate;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::socket::Socket;
use crate::endpoint::ReplyBody;

/// The chunk that ends a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A stream over HTTP/1.1 in chunks. The future completes when either side ends the stream, and closes the
/// connection.
///
/// A client ends the stream by closing its sending side, because a browser that leaves the page does only that. Such a
/// client still receives the head and the first piece, so that a client which closes its sending side right after its
/// request receives the state.
pub(super) struct DetachedStream<S = TcpStream> {
    socket: Socket<S>,
    /// `None` once the stream has ended. Dropping the body leaves its topics, even if the client does not read the rest.
    body: Option<ReplyBody>,
    writing: Chunk,
    /// Whether a piece of the body has been polled.
    begun: bool,
    /// Whether `writing` is the last chunk.
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> DetachedStream<S> {
    pub(super) fn new(socket: Socket<S>, response: Response<ReplyBody>) -> Self {
        let (parts, body) = response.into_parts();
        let mut head = Vec::with_capacity(512);
        // Writing to a vector does not fail.
        let _ = write!(head, "HTTP/1.1 {}\r\n", parts.status);
        for (name, value) in &parts.headers {
            let _ = write!(head, "{name}: ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        let _ = write!(head, "{}: {}\r\n", header::DATE, HttpDate::from(SystemTime::now()));
        head.extend_from_slice(b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n");
        Self { socket, body: Some(body), writing: Chunk::raw(head.into()), begun: false, ended: false }
    }

    /// Reads and discards data from the client; completes when the client has closed its sending side.
    fn poll_hung_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut discarded = [0; 64];
        loop {
            let mut discarded = ReadBuf::new(&mut discarded);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut discarded))?;
            if discarded.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for DetachedStream<S> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let hung_up = this.poll_hung_up(cx)?.is_ready();
        if hung_up && this.begun {
            this.body = None;
        }
        loop {
            while !this.writing.is_empty() {
                let slices = this.writing.slices();
                match ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, &slices))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => this.writing.advance(written),
                }
            }
            if this.ended {
                return Pin::new(&mut this.socket).poll_shutdown(cx);
            }
            let piece = match &mut this.body {
                Some(body) => ready!(Pin::new(body).poll_frame(cx)),
                None => None,
            };
            this.begun = true;
            this.ended = piece.is_none();
            if hung_up || this.ended {
                this.body = None;
            }
            this.writing = match piece {
                Some(Ok(frame)) => frame.into_data().map_or_else(|_| Chunk::default(), Chunk::of),
                None => Chunk::raw(Bytes::from_static(LAST_CHUNK)),
            };
        }
    }
}

/// The unwritten rest of one chunk: its size line, its bytes and its line end.
#[derive(Default)]
struct Chunk {
    /// The size in hexadecimal digits and a line end, aligned to the end of the array.
    size: [u8; 10],
    size_left: u8,
    bytes: Bytes,
    end: &'static [u8],
}

impl Chunk {
    fn raw(bytes: Bytes) -> Self {
        Self { bytes, ..Self::default() }
    }

    fn of(bytes: Bytes) -> Self {
        let mut size = [0; 10];
        size[8..].copy_from_slice(b"\r\n");
        let (mut at, mut rest) = (8, bytes.len());
        // Eight digits suffice: the limits on states keep frames far below 4 GiB.
        while at > 0 && (rest > 0 || at == 8) {
            at -= 1;
            size[at] = b"0123456789abcdef"[rest % 16];
            rest /= 16;
        }
        Self { size, size_left: 10 - at as u8, bytes, end: b"\r\n" }
    }

    fn is_empty(&self) -> bool {
        self.size_left == 0 && self.bytes.is_empty() && self.end.is_empty()
    }

    fn slices(&self) -> [IoSlice<'_>; 3] {
        let size = &self.size[self.size.len() - usize::from(self.size_left)..];
        [IoSlice::new(size), IoSlice::new(&self.bytes), IoSlice::new(self.end)]
    }

    fn advance(&mut self, written: usize) {
        let size = written.min(self.size_left.into());
        self.size_left -= size as u8;
        let bytes = (written - size).min(self.bytes.len());
        self.bytes.advance(bytes);
        self.end = &self.end[written - size - bytes..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(mut chunk: Chunk, step: usize) -> String {
        let mut out = Vec::new();
        while !chunk.is_empty() {
            let all: Vec<u8> = chunk.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            let some = step.min(all.len());
            out.extend_from_slice(&all[..some]);
            chunk.advance(some);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn chunk_is_written_whole_when_writes_are_partial() {
        let text = "x".repeat(0x1a3);
        for step in 1..500 {
            assert_eq!(written(Chunk::of(text.clone().into()), step), format!("1a3\r\n{text}\r\n"), "{step}");
        }
        assert_eq!(written(Chunk::of("y".into()), 1), "1\r\ny\r\n");
        assert_eq!(written(Chunk::raw("head".into()), 3), "head");
    }
}
