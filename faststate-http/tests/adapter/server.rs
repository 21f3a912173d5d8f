//! A minimal HTTP/1.1 server that answers one request per connection.

use std::{
    fmt::{Debug, Write as _},
    net::SocketAddr,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use faststate_http::endpoint::Endpoint;
use futures::FutureExt as _;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    flaw::Flaw,
    incoming::{Incoming, Reader},
    pages,
};

/// The time to read the client's remaining bytes, so that the client does not lose the response in a reset.
const LINGER: Duration = Duration::from_secs(1);

/// A server that runs until it is stopped or dropped.
pub(crate) struct Server {
    address: SocketAddr,
    endpoint: Endpoint,
    stop: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(endpoint: Endpoint, flaw: Flaw) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut stopped) = watch::channel(());
        let serving = endpoint.clone();
        let accepting = tokio::spawn(async move {
            // Each connection holds a receiver, so the channel closes when all connections have ended.
            let connections = stopped.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stopped.changed() => return,
                };
                let Ok((socket, peer)) = accepted else { continue };
                let connection = Connection { endpoint: serving.clone(), flaw, peer };
                let mut stopping = connections.clone();
                tokio::spawn(async move { connection.serve(socket, &mut stopping).await });
            }
        });
        Self { address, endpoint, stop, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server; completes when all connections have ended.
    pub(crate) fn stop(self, window: Duration) -> impl Future<Output = ()> {
        self.stop.send_replace(());
        async move {
            self.accepting.await.unwrap();
            self.endpoint.drain(window).await;
            self.stop.closed().await;
        }
    }
}

struct Connection {
    endpoint: Endpoint,
    flaw: Flaw,
    peer: SocketAddr,
}

impl Connection {
    async fn serve(&self, socket: TcpStream, stopping: &mut watch::Receiver<()>) {
        let (read, mut write) = socket.into_split();
        let mut reader = Reader::new(read);
        loop {
            let parts = tokio::select! {
                parts = reader.head() => parts,
                // No request has begun.
                _ = stopping.changed(), if reader.arrived.is_empty() => None,
            };
            let Some(parts) = parts else { return };
            let answered = tokio::select! {
                answered = self.answer(parts, &mut reader, &mut write) => answered,
                _ = stopping.changed(), if self.flaw == Flaw::CutsAllWhenItStops => None,
            };
            if answered.is_none() {
                return;
            }
            if self.flaw != Flaw::TakesBodiesForRequests {
                break;
            }
        }
        let _ = write.shutdown().await;
        let _ = timeout(LINGER, reader.gone()).await;
    }

    /// Answers one request; returns `None` if the client has gone.
    async fn answer(
        &self,
        parts: http::request::Parts,
        reader: &mut Reader,
        write: &mut OwnedWriteHalf,
    ) -> Option<()> {
        let flaw = self.flaw;
        let is_head = parts.method == Method::HEAD;
        let keeper = parts.headers.contains_key("x-roles");
        let incoming = Incoming::new(reader, &parts, flaw)?;
        let page = match self.endpoint.handles(parts.uri.path()) {
            true => None,
            false => pages::answer(&self.endpoint, &parts, flaw).await,
        };
        let answer = if let Some(page) = page {
            page
        } else {
            let request = flaw.request(Request::from_parts(parts, incoming));
            let peer = (flaw != Flaw::HidesAddresses).then_some(self.peer);
            flaw.answer(self.endpoint.respond(request, peer).await, keeper).await
        };
        let (parts, mut body) = answer.into_parts();
        let length = body.size_hint().exact();
        write.write_all(head(parts.status, &parts.headers, length, flaw).as_bytes()).await.ok()?;
        if is_head || parts.status == StatusCode::NO_CONTENT {
            return Some(());
        }
        let streams = parts.headers.contains_key("x-accel-buffering");
        let sent = match length {
            Some(_) => {
                let bytes = body.collect().await.unwrap().to_bytes();
                return write.write_all(&bytes).await.ok();
            }
            None => {
                tokio::select! {
                    sent = self.stream(&mut body, write, streams) => sent,
                    () = reader.gone() => None,
                }
            }
        };
        if sent.is_none() && flaw == Flaw::KeepsFollowers {
            std::mem::forget(body);
        }
        sent
    }

    /// Writes a body of unknown length.
    async fn stream<B>(&self, body: &mut B, write: &mut OwnedWriteHalf, streams: bool) -> Option<()>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Debug,
    {
        let mut held = BytesMut::new();
        let mut ahead = None;
        loop {
            let piece = match ahead.take() {
                Some(piece) => piece,
                None => next(body).await,
            };
            let Some(piece) = piece else { break };
            match self.flaw {
                Flaw::CollectsFrames => held.extend_from_slice(&piece),
                Flaw::HoldsOneFrameBack => {
                    let before = std::mem::replace(&mut held, BytesMut::from(&*piece));
                    chunk(write, &before).await?;
                }
                Flaw::DropsTheLastFrame => {
                    // This flaw checks for the end of the body before it sends the piece.
                    ahead = next(body).now_or_never();
                    if ahead == Some(None) {
                        break;
                    }
                    chunk(write, &piece).await?;
                }
                _ => chunk(write, &piece).await?,
            }
        }
        chunk(write, &held).await?;
        if self.flaw == Flaw::CutsStreamsAtTheEnd && streams {
            return None;
        }
        write.write_all(b"0\r\n\r\n").await.ok()
    }
}

/// Returns the next piece of a body.
async fn next<B>(body: &mut B) -> Option<Bytes>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Debug,
{
    let frame = body.frame().await?.unwrap();
    Some(frame.into_data().unwrap_or_default())
}

async fn chunk(write: &mut OwnedWriteHalf, piece: &[u8]) -> Option<()> {
    if piece.is_empty() {
        return Some(());
    }
    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
    chunk.extend_from_slice(piece);
    chunk.extend_from_slice(b"\r\n");
    write.write_all(&chunk).await.ok()
}

fn head(status: StatusCode, headers: &HeaderMap, length: Option<u64>, flaw: Flaw) -> String {
    let mut head = format!("HTTP/1.1 {} x\r\n", status.as_u16());
    if flaw != Flaw::TakesBodiesForRequests {
        let _ = write!(head, "{}: close\r\n", header::CONNECTION);
    }
    for (name, value) in headers {
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap());
    }
    match length {
        _ if status == StatusCode::NO_CONTENT => {}
        Some(length) => drop(write!(head, "content-length: {length}\r\n")),
        None => head.push_str("transfer-encoding: chunked\r\n"),
    }
    head.push_str("\r\n");
    head
}
