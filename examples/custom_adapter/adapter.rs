//! An adapter over bare hyper. One function renders all pages; the endpoint answers everything else.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use faststate::{
    BoxError,
    endpoint::{Endpoint, Page, Problem, ReplyBody, RequestPage, error_page},
};
use http_body_util::{Either, Full};
use hyper::{
    Request, Response,
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

/// The deadline of a request head, counted from the previous response: longer than proxies keep an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The deadline of a shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

type Answer = Response<Either<ReplyBody, Full<Bytes>>>;

/// The response to a page request: HTML unless its content type differs.
pub(crate) type Shown = Result<Response<Bytes>, BoxError>;

/// A FastState server on bare hyper, with a function that renders pages.
#[derive(Clone)]
pub(crate) struct FastState<P> {
    endpoint: Endpoint,
    pages: P,
    drain_window: Duration,
}

impl<P, F> FastState<P>
where
    P: Fn(Page, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Shown> + Send + 'static,
{
    pub(crate) fn new(endpoint: Endpoint, pages: P) -> Self {
        Self { endpoint, pages, drain_window: Duration::from_secs(5) }
    }

    /// Serves pages and FastState's own routes until Ctrl-C, then drains and returns.
    pub(crate) async fn serve(self, address: impl ToSocketAddrs) -> io::Result<()> {
        let stop = async { drop(tokio::signal::ctrl_c().await) };
        self.serve_until(TcpListener::bind(address).await?, stop).await
    }

    async fn serve_until(self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
        let (connections, mut stop) = (GracefulShutdown::new(), pin!(stop));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        // No `half_close`: with it, hyper detects a disconnected stream client only at the next write.
        http.max_header_size(MAX_HEAD_BYTES).max_buf_size(MAX_HEAD_BYTES);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            let Ok((socket, peer)) = accepted else {
                // Without free file descriptors, `accept` would fail again immediately.
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Each small frame is written in one piece.
            let _ = socket.set_nodelay(true);
            let site = self.clone();
            let service = service_fn(move |request| {
                let site = site.clone();
                async move { Ok::<_, BoxError>(site.answer(request, peer).await) }
            });
            let connection = connections.watch(http.serve_connection(TokioIo::new(socket), service));
            tokio::spawn(connection);
        }
        // Reconnecting browsers reach another node instead of this listener's backlog.
        drop(listener);
        let ending = async { tokio::join!(connections.shutdown(), self.endpoint.drain(self.drain_window)) };
        let _ = timeout(SHUTDOWN_TIMEOUT, ending).await;
        self.endpoint.registry().settle().await;
        Ok(())
    }

    async fn answer(self, mut request: Request<Incoming>, peer: SocketAddr) -> Answer {
        // Pages can read the client address from the extensions.
        request.extensions_mut().insert(peer);
        if self.endpoint.handles(request.uri().path()) {
            return self.endpoint.respond(request, Some(peer)).await.map(Either::Left);
        }
        if let Some(refusal) = self.endpoint.refusal(request.version(), request.uri(), request.headers()) {
            return refusal.map(Either::Left);
        }
        let (visit, (head, body)) = (RequestPage::new(self.endpoint), request.into_parts());
        let shown = async {
            let page = visit.page(&head).await?;
            (self.pages)(page, Request::from_parts(head, body)).await
        };
        let mut answer = match shown.await {
            Ok(shown) => shown.map(|body| Either::Right(body.into())),
            Err(error) => error_page(&Problem::unexpected(error)).map(Either::Left),
        };
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        answer.headers_mut().entry(CONTENT_TYPE).or_insert(html);
        visit.mark(answer.headers_mut());
        answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_every_promise_of_an_adapter() {
    use faststate::conformance::{adapter, fixture};

    async fn pages(page: Page, request: Request<Incoming>) -> Shown {
        match request.uri().path() {
            "/missing" => drop(page.follow_id::<fixture::Vault>("none").await?),
            "/broken" => return Err(fixture::INTERNAL.into()),
            _ => {}
        }
        let counter = page.follow::<fixture::FixtureCounter>().await?;
        Ok(Response::new(fixture::page(&page, &counter).into()))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = fixture::endpoint(fixture::registry().unwrap());
    let site = FastState { endpoint, pages, drain_window: Duration::from_millis(500) };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(site.serve_until(listener, async { drop(stopped.await) }));
    adapter::all(address).await.unwrap();
    adapter::pages_belong_to_their_viewer(address).await.unwrap();
    adapter::page_request_without_one_host_is_refused(address).await.unwrap();
    adapter::request_head_over_64_kib_is_refused(address).await.unwrap();
    let begin = || {
        stop.send(()).unwrap();
        async { serving.await.unwrap().unwrap() }
    };
    adapter::drain_drops_nothing(address, begin).await.unwrap();
}
