//! Reading requests from a socket.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use faststate_core::BoxError;
use http::{HeaderValue, Request, header, request::Parts};
use http_body::{Body, Frame};
use tokio::{
    io::{AsyncRead as _, AsyncReadExt as _, ReadBuf},
    net::tcp::OwnedReadHalf,
};

use crate::flaw::Flaw;

/// The longest head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Reads the bytes that a client sends.
pub(crate) struct Reader {
    pub(crate) socket: OwnedReadHalf,
    pub(crate) arrived: BytesMut,
}

/// A request's body.
pub(crate) struct Incoming<'a> {
    reader: &'a mut Reader,
    framing: Framing,
    flaw: Flaw,
    read: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    /// The rest of a chunk, in bytes, and the line end after it.
    Chunk(usize),
    /// The line with the size of the next chunk.
    Size,
    /// The line after the last chunk.
    End,
    Over,
}

impl Reader {
    pub(crate) fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, arrived: BytesMut::new() }
    }

    /// Reads the next request's head; returns `None` if there is none or it is malformed.
    pub(crate) async fn head(&mut self) -> Option<Parts> {
        let end = loop {
            if let Some(end) = self.arrived.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            if self.arrived.len() > MAX_HEAD_BYTES || self.socket.read_buf(&mut self.arrived).await.ok()? == 0
            {
                return None;
            }
        };
        let head = self.arrived.split_to(end);
        let mut lines = str::from_utf8(&head).ok()?.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let mut request = Request::builder().method(first.next()?).uri(first.next()?);
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            request = request.header(name, HeaderValue::from_str(value.trim()).ok()?);
        }
        Some(request.body(()).ok()?.into_parts().0)
    }

    /// Completes when the client has closed its sending side.
    pub(crate) async fn gone(&mut self) {
        while matches!(self.socket.read_buf(&mut self.arrived).await, Ok(read) if read > 0) {
            self.arrived.clear();
        }
    }
}

impl<'a> Incoming<'a> {
    pub(crate) fn new(reader: &'a mut Reader, parts: &Parts, flaw: Flaw) -> Option<Self> {
        let length = parts.headers.get(header::CONTENT_LENGTH);
        let framing = match (parts.headers.get(header::TRANSFER_ENCODING), length) {
            (Some(_), _) if flaw == Flaw::RefusesChunks => Framing::Over,
            (Some(encoding), None) if encoding == "chunked" => Framing::Size,
            (None, Some(length)) => Framing::Length(length.to_str().ok()?.parse().ok()?),
            (None, None) => Framing::Over,
            _ => return None,
        };
        Some(Self { reader, framing, flaw, read: 0 })
    }

    /// Returns at most `max` received bytes, or `None` if the connection ends.
    fn poll_some(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Bytes>> {
        if self.reader.arrived.is_empty() && !ready!(self.poll_more(cx)) {
            return Poll::Ready(None);
        }
        let length = max.min(self.reader.arrived.len());
        Poll::Ready(Some(self.reader.arrived.split_to(length).freeze()))
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(end) = self.reader.arrived.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.reader.arrived.split_to(end).freeze();
                self.reader.arrived.advance(2);
                return Poll::Ready(Some(line));
            }
            if !ready!(self.poll_more(cx)) {
                return Poll::Ready(None);
            }
        }
    }

    /// Returns whether more bytes have arrived.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut space = [0; 8192];
        let mut buffer = ReadBuf::new(&mut space);
        let read = ready!(Pin::new(&mut self.reader.socket).poll_read(cx, &mut buffer));
        self.reader.arrived.extend_from_slice(buffer.filled());
        Poll::Ready(read.is_ok() && !buffer.filled().is_empty())
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        let broken = || Poll::Ready(Some(Err("the body broke off".into())));
        loop {
            match self.framing {
                Framing::Over | Framing::Length(0) => return Poll::Ready(None),
                Framing::Length(left) => {
                    let Some(some) = ready!(self.poll_some(cx, left)) else { return broken() };
                    self.framing = Framing::Length(left - some.len());
                    return Poll::Ready(Some(Ok(some)));
                }
                Framing::Chunk(0) => {
                    if ready!(self.poll_line(cx)).is_none() {
                        return broken();
                    }
                    self.framing = Framing::Size;
                }
                Framing::Chunk(left) => {
                    let Some(some) = ready!(self.poll_some(cx, left)) else { return broken() };
                    self.framing = Framing::Chunk(left - some.len());
                    return Poll::Ready(Some(Ok(some)));
                }
                Framing::Size => {
                    let Some(line) = ready!(self.poll_line(cx)) else { return broken() };
                    let size =
                        str::from_utf8(&line).ok().and_then(|line| usize::from_str_radix(line, 16).ok());
                    let Some(size) = size else { return broken() };
                    self.framing = if size > 0 { Framing::Chunk(size) } else { Framing::End };
                }
                Framing::End => {
                    if ready!(self.poll_line(cx)).is_none() {
                        return broken();
                    }
                    self.framing = Framing::Over;
                }
            }
        }
    }
}

impl Body for Incoming<'_> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = match ready!(self.poll_body(cx)) {
            Some(Err(_)) if self.flaw == Flaw::TakesHalfABody => None,
            Some(Ok(mut some)) if self.flaw == Flaw::CutsBodies => {
                let left = (64 * 1024_usize).saturating_sub(self.read);
                self.read += some.len();
                some.truncate(left);
                Some(Ok(some))
            }
            next => next,
        };
        Poll::Ready(next.map(|next| next.map(Frame::data)))
    }
}
