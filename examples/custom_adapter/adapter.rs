//! An adapter over bare hyper: how thin one is. It knows one page, at `/`; everything else is the endpoint's.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use faststate::{
    BoxError, Registry,
    endpoint::{Endpoint, Page, Problem, ReplyBody, Visit},
};
use http_body_util::{Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    time::{sleep, timeout},
};

/// For a request's head, and for everything to end after the order to stop.
const PATIENCE: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

type Answer = Response<Either<ReplyBody, Full<Bytes>>>;

/// FastState on bare hyper.
#[derive(Clone)]
pub(crate) struct FastState {
    endpoint: Endpoint,
    drain_window: Duration,
}

impl FastState {
    pub(crate) fn new(registry: Arc<impl Registry>) -> Self {
        Self::over(Endpoint::new(registry))
    }

    pub(crate) fn over(endpoint: Endpoint) -> Self {
        Self { endpoint, drain_window: Duration::from_secs(5) }
    }

    /// Serves a page and FastState's own routes until Ctrl-C, then drains and returns.
    pub(crate) async fn serve<F>(self, address: impl ToSocketAddrs, index: fn(Page) -> F) -> io::Result<()>
    where
        F: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        let stop = async { drop(tokio::signal::ctrl_c().await) };
        self.serve_until(TcpListener::bind(address).await?, index, stop).await
    }

    async fn serve_until<F>(
        self,
        listener: TcpListener,
        index: fn(Page) -> F,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()>
    where
        F: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        let (connections, mut stop) = (GracefulShutdown::new(), pin!(stop));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            let Ok((socket, peer)) = accepted else {
                // Without file descriptors it fails again at once.
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Frames are small, and each is written whole.
            let _ = socket.set_nodelay(true);
            let site = self.clone();
            let service = service_fn(move |request| {
                let site = site.clone();
                async move { Ok::<_, BoxError>(site.answer(request, peer, index).await) }
            });
            let connection = connections.watch(http.serve_connection(TokioIo::new(socket), service));
            tokio::spawn(connection);
        }
        // Browsers that reconnect find another node instead of waiting in this one's queue.
        drop(listener);
        let ending = async { tokio::join!(connections.shutdown(), self.endpoint.drain(self.drain_window)) };
        let _ = timeout(PATIENCE, ending).await;
        self.endpoint.registry().settle().await;
        Ok(())
    }

    async fn answer<F>(self, request: Request<Incoming>, peer: SocketAddr, index: fn(Page) -> F) -> Answer
    where
        F: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        if self.endpoint.answers(request.uri().path()) {
            return self.endpoint.respond(request, Some(peer)).await.map(Either::Left);
        }
        let mut answer = Response::new(Either::Right(Full::default()));
        if request.uri().path() != "/" {
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return answer;
        }
        let (visit, (head, _)) = (Visit::new(self.endpoint), request.into_parts());
        let shown = async { index(visit.page(&head).await?).await };
        match shown.await {
            Ok(html) => *answer.body_mut() = Either::Right(html.into()),
            Err(error) => answer = Problem::unexpected(error).page().map(Either::Left),
        }
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        visit.mark(answer.headers_mut());
        answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_every_promise_of_an_adapter() {
    use faststate::conformance::{adapter, fixture};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let site = FastState::over(fixture::endpoint(fixture::registry().unwrap()));
    let site = FastState { drain_window: Duration::from_millis(500), ..site };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let serving = tokio::spawn(site.serve_until(listener, |page| async move { Ok(page.signals()) }, stopped));
    adapter::all(address).await.unwrap();
    let begin = || {
        stop.send(()).unwrap();
        async { serving.await.unwrap().unwrap() }
    };
    adapter::a_drain_drops_nothing(address, begin).await.unwrap();
}
