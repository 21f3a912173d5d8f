//! One connection: HTTP/1.1 over a socket with timeouts.
//!
//! Requests for FastState's paths go to the endpoint, the others to the application. When a stream begins, it takes the
//! socket from hyper and frees hyper's 16 KB of buffers: see [`DetachedStream`].

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
    Application, ClientConnection, RequestBody, body::BodySource, detached_stream::DetachedStream,
    linger::linger, socket::Socket,
};
use crate::endpoint::{Endpoint, MAX_HEAD_BYTES, PeerAddress, ReplyBody};

/// Serves connections until it is stopped.
pub(super) struct HttpServer<A> {
    shared: Arc<ServerState<A>>,
    stop: watch::Sender<bool>,
}

/// The state that all connections share.
struct ServerState<A> {
    endpoint: Endpoint,
    application: A,
    http: http1::Builder,
}

impl<A: Application> HttpServer<A> {
    /// Creates a server. `idle_timeout` limits the time for a request's head, counted from the start of the connection
    /// or from the previous response.
    pub(super) fn new(endpoint: Endpoint, application: A, idle_timeout: Duration) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(idle_timeout)
            // hyper answers 431 to a longer head, and to one with more than 100 headers.
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_HEAD_BYTES)
            // A client that has closed its sending side still gets its response.
            .half_close(true);
        Self {
            shared: Arc::new(ServerState { endpoint, application, http }),
            stop: watch::Sender::new(false),
        }
    }

    /// Closes every connection, after the response in progress if there is one.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Returns the future that serves a connection until either side closes it.
    pub(super) fn serve(&self, socket: TcpStream, peer: SocketAddr) -> Option<ConnectionTask> {
        // Each frame is small and written at once, so there is nothing to coalesce.
        let _ = socket.set_nodelay(true);
        let local = socket.local_addr().ok()?;
        Some(self.serve_on(socket, local, peer))
    }

    fn serve_on<S>(&self, socket: S, local: SocketAddr, peer: SocketAddr) -> ConnectionTask<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        ConnectionTask::Requests(Box::pin(shared.answer_requests(socket, local, peer, self.stop.subscribe())))
    }
}

/// The future of one connection. A stream replaces the larger future that answered requests.
pub(super) enum ConnectionTask<S = TcpStream> {
    Requests(Pin<Box<dyn Future<Output = Option<DetachedStream<S>>> + Send>>),
    Stream(DetachedStream<S>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for ConnectionTask<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match &mut *self {
                Self::Requests(requests) => match ready!(requests.as_mut().poll(cx)) {
                    Some(stream) => Self::Stream(stream),
                    None => return Poll::Ready(()),
                },
                Self::Stream(stream) => {
                    if let Err(error) = ready!(Pin::new(stream).poll(cx)) {
                        tracing::debug!(%error, "stream failed");
                    }
                    return Poll::Ready(());
                }
            };
        }
    }
}

impl<A: Application> ServerState<A> {
    /// Answers requests until the connection ends or a stream begins. The stream takes the socket.
    async fn answer_requests<S>(
        self: Arc<Self>,
        socket: S,
        local: SocketAddr,
        peer: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) -> Option<DetachedStream<S>>
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
                Poll::Ready(Ok(())) => Poll::Ready(RequestsEnd::Closed),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "connection failed");
                    Poll::Ready(if error.is_parse() { RequestsEnd::Refused } else { RequestsEnd::Closed })
                }
                Poll::Pending if client.is_given_up() => Poll::Ready(RequestsEnd::Closed),
                Poll::Pending => stream
                    .lock()
                    .take()
                    .map_or(Poll::Pending, |response| Poll::Ready(RequestsEnd::Stream(response))),
            }
        })
        .await;
        match ended {
            RequestsEnd::Closed => None,
            RequestsEnd::Refused => {
                linger(&mut serving.into_parts()?.io.into_inner()).await;
                None
            }
            RequestsEnd::Stream(response) => {
                Some(DetachedStream::new(serving.into_parts()?.io.into_inner(), response))
            }
        }
    }

    /// Answers a request through the endpoint or the application. A stream's response is put into `stream`, and this
    /// future then never completes.
    async fn answer<C: ClientConnection>(
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
        let mut request = request.map(|body| RequestBody::new(BodySource::Incoming(body)));
        request.extensions_mut().insert(PeerAddress(peer));
        // Boxed, because hyper reserves space for this future for the whole connection.
        let response = Box::pin(client.answer(request)).await?;
        Ok(response.map(ResponseBody::Application))
    }
}

/// The reason why a connection stops answering requests.
enum RequestsEnd {
    Closed,
    /// The last request was refused before it was read completely.
    Refused,
    Stream(Response<ReplyBody>),
}

/// The body of a response.
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
