//! One connection: HTTP/1.1 over a hardened socket.
//!
//! What is FastState's goes to the endpoint as hyper gives it, the rest to the application. A stream leaves hyper
//! behind when it begins, and the 16 KB of buffers with it: see [`Stream`].

use std::{
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::watch};

use super::{Application, Connection, RequestBody, body::Arriving, socket::Socket, stream::Stream};
use crate::{
    BoxError,
    endpoint::{Endpoint, ReplyBody},
};

/// For a request's head, and between requests.
const HEADER_TIME: Duration = Duration::from_secs(30);

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
    pub(super) fn new(endpoint: Endpoint, application: A) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
        Self { shared: Arc::new(Shared { endpoint, application, http }), stop: watch::Sender::new(false) }
    }

    /// Has every connection close once its answer, if one is on its way, is complete.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Serves a connection until either side closes it.
    pub(super) fn serve(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + use<A> {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.subscribe());
        async move {
            // Frames are small, and each is written whole.
            let _ = socket.set_nodelay(true);
            if let Some((socket, response)) = shared.converse(socket, peer, stop).await
                && let Err(error) = Stream::new(socket, response).await
            {
                tracing::debug!(%error, "a stream broke");
            }
        }
    }
}

impl<A: Application> Shared<A> {
    /// Answers requests until the connection ends or a stream begins: that takes the socket over.
    async fn converse(
        self: Arc<Self>,
        socket: TcpStream,
        peer: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) -> Option<(Socket, Response<ReplyBody>)> {
        let client = self.application.connect(socket.local_addr().ok()?, peer);
        let stream = Mutex::new(None);
        let service = service_fn(|request| self.answer(request, peer, &client, &stream));
        let socket = TokioIo::new(Socket::new(socket));
        let mut serving = Box::new(self.http.serve_connection(socket, service).with_upgrades());
        let mut stopping = pin!(stop.wait_for(|stop| *stop));
        let mut stopped = false;
        let response = poll_fn(|cx| {
            if !stopped && stopping.as_mut().poll(cx).is_ready() {
                stopped = true;
                Pin::new(&mut *serving).graceful_shutdown();
            }
            match Pin::new(&mut *serving).poll(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(None),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a connection broke");
                    Poll::Ready(None)
                }
                Poll::Pending if client.is_given_up() => Poll::Ready(None),
                Poll::Pending => {
                    stream.lock().take().map_or(Poll::Pending, |response| Poll::Ready(Some(response)))
                }
            }
        })
        .await?;
        Some((serving.into_parts()?.io.into_inner(), response))
    }

    /// What is FastState's goes to the endpoint, the rest to the application. A stream is left in `stream`, and
    /// never answered here.
    async fn answer<C: Connection>(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        client: &C,
        stream: &Mutex<Option<Response<ReplyBody>>>,
    ) -> Result<Response<Answer<C::Body>>, BoxError> {
        if self.endpoint.answers(request.uri().path()) {
            let is_chunked = request.version() == Version::HTTP_11;
            let response = self.endpoint.respond(request, Some(peer)).await;
            if is_chunked && response.body().is_stream() {
                *stream.lock() = Some(response);
                return pending().await;
            }
            return Ok(response.map(Answer::FastState));
        }
        if let Some(refusal) = self.endpoint.refusal(request.version(), request.headers()) {
            return Ok(refusal.map(Answer::FastState));
        }
        let request = request.map(|body| RequestBody::new(Arriving::Incoming(body)));
        // In a box: hyper keeps room for this future as long as the connection.
        let response = Box::pin(client.answer(request)).await?;
        Ok(response.map(Answer::Application))
    }
}

/// The body of an answer.
enum Answer<B> {
    FastState(ReplyBody),
    Application(B),
}

impl<B> Body for Answer<B>
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
