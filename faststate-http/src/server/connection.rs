//! One connection: HTTP/1.1 over a hardened socket.
//!
//! What is FastState's goes to the endpoint as hyper gives it, the rest to the application. A stream leaves hyper
//! behind when it begins, and the 16 KB of buffers with it: see [`Stream`].

use std::{
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use faststate_core::BoxError;
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};

use super::{
    Application, Connection, RequestBody, body::Arriving, detached_stream::Stream, linger::linger,
    socket::Socket,
};
use crate::endpoint::{Endpoint, HEAD_BYTES, Peer, ReplyBody};

/// What all connections share.
pub(super) struct Server<A> {
    shared: Arc<Shared<A>>,
    stop: watch::Sender<bool>,
}

struct Shared<A> {
    endpoint: Endpoint,
    application: A,
    http: http1::Builder,
}

impl<A: Application> Server<A> {
    /// `idle_timeout` is the time for a request's head, from the connection's start or the previous response.
    pub(super) fn new(endpoint: Endpoint, application: A, idle_timeout: Duration) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(idle_timeout)
            // A longer head is answered 431, as is one with more than hyper's 100 headers.
            .max_header_size(HEAD_BYTES)
            .max_buf_size(HEAD_BYTES)
            // A client that sends nothing after its request waits for the response.
            .half_close(true);
        Self { shared: Arc::new(Shared { endpoint, application, http }), stop: watch::Sender::new(false) }
    }

    /// Has every connection close once its answer, if one is on its way, is complete.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Serves a connection until either side closes it.
    pub(super) fn serve(&self, socket: TcpStream, peer: SocketAddr) -> Option<Serving> {
        // Frames are small, and each is written whole.
        let _ = socket.set_nodelay(true);
        let local = socket.local_addr().ok()?;
        Some(self.serve_on(socket, local, peer))
    }

    fn serve_on<S>(&self, socket: S, local: SocketAddr, peer: SocketAddr) -> Serving<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        Serving::Conversing(Box::pin(shared.converse(socket, local, peer, self.stop.subscribe())))
    }
}

/// A connection that is served. A stream takes the place of what answered requests, which is larger.
pub(super) enum Serving<S = TcpStream> {
    Conversing(Pin<Box<dyn Future<Output = Option<Stream<S>>> + Send>>),
    Streaming(Stream<S>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Serving<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match &mut *self {
                Self::Conversing(conversing) => match ready!(conversing.as_mut().poll(cx)) {
                    Some(stream) => Self::Streaming(stream),
                    None => return Poll::Ready(()),
                },
                Self::Streaming(stream) => {
                    if let Err(error) = ready!(Pin::new(stream).poll(cx)) {
                        tracing::debug!(%error, "a stream broke");
                    }
                    return Poll::Ready(());
                }
            };
        }
    }
}

impl<A: Application> Shared<A> {
    /// Answers requests until the connection ends or a stream begins: that takes the socket over.
    async fn converse<S>(
        self: Arc<Self>,
        socket: S,
        local: SocketAddr,
        peer: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) -> Option<Stream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let client = self.application.connect(local, peer);
        let stream = Mutex::new(None);
        let service = service_fn(|request| self.answer(request, peer, &client, &stream));
        let socket = TokioIo::new(Socket::new(socket));
        let mut serving = Box::new(self.http.serve_connection(socket, service).with_upgrades());
        let mut stopping = pin!(stop.wait_for(|stop| *stop));
        let mut stopped = false;
        let ended = poll_fn(|cx| {
            if !stopped && stopping.as_mut().poll(cx).is_ready() {
                stopped = true;
                Pin::new(&mut *serving).graceful_shutdown();
            }
            match Pin::new(&mut *serving).poll(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(End::Closed),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a connection broke");
                    Poll::Ready(if error.is_parse() { End::Refused } else { End::Closed })
                }
                Poll::Pending if client.is_given_up() => Poll::Ready(End::Closed),
                Poll::Pending => {
                    stream.lock().take().map_or(Poll::Pending, |response| Poll::Ready(End::Stream(response)))
                }
            }
        })
        .await;
        match ended {
            End::Closed => None,
            End::Refused => {
                linger(&mut serving.into_parts()?.io.into_inner()).await;
                None
            }
            End::Stream(response) => Some(Stream::new(serving.into_parts()?.io.into_inner(), response)),
        }
    }

    /// What is FastState's goes to the endpoint, the rest to the application. A stream is left in `stream`, and
    /// never answered here.
    async fn answer<C: Connection>(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        client: &C,
        stream: &Mutex<Option<Response<ReplyBody>>>,
    ) -> Result<Response<ResponseBody<C::Body>>, BoxError> {
        if self.endpoint.handles(request.uri().path()) {
            let is_chunked = request.version() == Version::HTTP_11;
            let response = self.endpoint.respond(request, Some(peer)).await;
            if is_chunked && response.body().is_stream() {
                *stream.lock() = Some(response);
                return pending().await;
            }
            return Ok(response.map(ResponseBody::FastState));
        }
        if let Some(refusal) = self.endpoint.refusal(request.version(), request.uri(), request.headers()) {
            return Ok(refusal.map(ResponseBody::FastState));
        }
        let mut request = request.map(|body| RequestBody::new(Arriving::Incoming(body)));
        request.extensions_mut().insert(Peer(peer));
        // In a box: hyper keeps room for this future as long as the connection.
        let response = Box::pin(client.answer(request)).await?;
        Ok(response.map(ResponseBody::Application))
    }
}

/// How answering requests ends.
enum End {
    Closed,
    /// The last request was answered before it was read to its end.
    Refused,
    Stream(Response<ReplyBody>),
}

/// The body of an answer.
enum ResponseBody<B> {
    FastState(ReplyBody),
    Application(B),
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::FastState(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Self::Application(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::FastState(body) => body.is_end_stream(),
            Self::Application(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::FastState(body) => body.size_hint(),
            Self::Application(body) => body.size_hint(),
        }
    }
}
