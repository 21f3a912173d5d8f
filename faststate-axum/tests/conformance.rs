//! Runs the adapter's conformance suite over loopback sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::{net::SocketAddr, time::Duration};

use axum::{Router, response::Html, routing::get};
use faststate_axum::{Current, FastState, Page, PageError};
use faststate_testkit::suites::{adapter, fixture};
use tokio::{sync::oneshot, task::JoinHandle};

async fn shown(page: Page, counter: Current<fixture::FixtureCounter>) -> Html<String> {
    Html(fixture::page(&page, &counter))
}

async fn missing(page: Page) -> Result<(), PageError> {
    page.follow_id::<fixture::Vault>("none").await?;
    Ok(())
}

async fn broken() -> Result<(), PageError> {
    Err(fixture::INTERNAL.into())
}

fn pages() -> Router {
    Router::new()
        .route("/page", get(shown).post(shown))
        .route("/missing", get(missing))
        .route("/broken", get(broken))
}

/// Starts a server of the fixture; returns its address, the stop signal and its task.
fn serve() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<std::io::Result<()>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = fixture::endpoint(fixture::registry().unwrap());
    let server = FastState::from_endpoint(endpoint).drain_window(Duration::from_millis(500));
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(server.serve_until(listener, pages(), async {
        let _ = stopped.await;
    }));
    (address, stop, serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapter_passes_conformance_suite() {
    let (address, _stop, _serving) = serve();
    adapter::all(address).await.unwrap();
    adapter::server(address).await.unwrap();
    adapter::pages_belong_to_their_viewer(address).await.unwrap();
}

/// Through axum's own server and router, as in a bigger application.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn router_passes_conformance_suite() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = fixture::endpoint(fixture::registry().unwrap());
    let site = FastState::from_endpoint(endpoint);
    let app = pages().layer(site.pages()).merge(site.router());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, app).into_future());
    adapter::all(address).await.unwrap();
    adapter::pages_belong_to_their_viewer(address).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_15_shutdown_drops_nothing() {
    let (address, stop, serving) = serve();
    adapter::drain_drops_nothing(address, || {
        stop.send(()).unwrap();
        async {
            serving.await.unwrap().unwrap();
        }
    })
    .await
    .unwrap();
}
