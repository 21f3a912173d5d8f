//! One connection: HTTP/1.1 over a hardened socket.
//!
//! What is FastState's goes to the endpoint as hyper gives it, the rest through Salvo. A stream leaves hyper
//! behind when it begins, and the 16 KB of buffers with it: see [`Stream`].

use std::{
    future::{Future, pending, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use faststate_core::endpoint::{Endpoint, ReplyBody};
use http::{Request, Response, Version, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use salvo::{
    Service,
    conn::{ConnCtrl, StraightStream},
    fuse::FuseConfig,
    http::ResBody,
};
use tokio::{net::TcpStream, sync::watch};

use crate::stream::{Socket, Stream};

/// For a request's head, and between requests.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// Between pieces of a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// For a client to read something of what waits for it.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// What all connections share.
pub(crate) struct Server {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

struct Shared {
    endpoint: Endpoint,
    service: Service,
    http: http1::Builder,
    fuse: FuseConfig,
}

impl Server {
    pub(crate) fn new(endpoint: Endpoint, service: Service) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
        let fuse =
            FuseConfig::disabled().with_request_body_timeout(BODY_TIME).with_write_stall_timeout(WRITE_TIME);
        Self { shared: Arc::new(Shared { endpoint, service, http, fuse }), stop: watch::Sender::new(false) }
    }

    /// Has every connection close once its answer, if one is on its way, is complete.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Serves a connection until either side closes it.
    pub(crate) fn serve(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
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

impl Shared {
    /// Answers requests until the connection ends or a stream begins: that takes the socket over.
    async fn converse(
        self: Arc<Self>,
        socket: TcpStream,
        peer: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) -> Option<(Socket, Response<ReplyBody>)> {
        let local = socket.local_addr().ok()?;
        let control = ConnCtrl::new();
        let stream = Mutex::new(None);
        // In a box: hyper keeps room for this future as long as the connection.
        let service = service_fn(|request| Box::pin(self.answer(request, local, peer, &control, &stream)));
        let socket = StraightStream::new(socket, Some(self.fuse), control.clone(), None);
        let mut serving = Box::new(self.http.serve_connection(TokioIo::new(socket), service).with_upgrades());
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
                // A handler may have given it up.
                Poll::Pending if control.is_aborted() => Poll::Ready(None),
                Poll::Pending => {
                    stream.lock().take().map_or(Poll::Pending, |response| Poll::Ready(Some(response)))
                }
            }
        })
        .await?;
        Some((serving.into_parts()?.io.into_inner(), response))
    }

    /// What is FastState's goes to the endpoint, the rest through Salvo. A stream is left in `stream`, and never
    /// answered here.
    async fn answer(
        &self,
        request: Request<Incoming>,
        local: SocketAddr,
        peer: SocketAddr,
        control: &ConnCtrl,
        stream: &Mutex<Option<Response<ReplyBody>>>,
    ) -> Result<Response<Answer>, hyper::Error> {
        if self.endpoint.answers(request.uri().path()) {
            let is_chunked = request.version() == Version::HTTP_11;
            let response = self.endpoint.respond(request, Some(peer)).await;
            if is_chunked && response.body().is_stream() {
                *stream.lock() = Some(response);
                return pending().await;
            }
            return Ok(response.map(Answer::FastState));
        }
        let salvo = self.service.hyper_handler(
            local.into(),
            peer.into(),
            Scheme::HTTP,
            Some(self.fuse),
            control.clone(),
            None,
        );
        Ok(salvo.call(request).await?.map(Answer::Salvo))
    }
}

/// The body of an answer.
enum Answer {
    FastState(ReplyBody),
    Salvo(ResBody),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::FastState(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Self::Salvo(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::FastState(body) => body.is_end_stream(),
            Self::Salvo(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::FastState(body) => body.size_hint(),
            Self::Salvo(body) => body.size_hint(),
        }
    }
}
