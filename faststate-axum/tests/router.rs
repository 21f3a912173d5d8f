//! Tests of FastState inside an axum application, for behaviour that is specific to axum. Without sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    response::Response,
    routing::get,
};
use faststate_axum::{Current, FastState, Page, PageError};
use faststate_testkit::suites::fixture::{self, FixtureCounter};
use http::StatusCode;
use tower_service::Service as _;

fn site() -> FastState {
    FastState::from_endpoint(fixture::endpoint(fixture::registry().unwrap()))
}

async fn ask(router: &Router, method: &str, path: &str) -> (Response, String) {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.body(Body::empty()).unwrap();
    let response = router.clone().call(request).await.unwrap();
    let (head, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    (Response::from_parts(head, Body::empty()), text)
}

#[tokio::test]
async fn router_coexists_with_stateful_routes_and_fallback() {
    async fn shown(State(name): State<&'static str>, counter: Current<FixtureCounter>) -> String {
        format!("{name} {}", counter.count)
    }
    let site = site();
    let router: Router = Router::new()
        .route("/", get(shown))
        .fallback(|| async { "nothing here" })
        .layer(site.pages())
        .merge(site.router().with_state(()))
        .with_state("the count is");
    let (added, _) = ask(&router, "POST", "/faststate/counter/increment?amount=3").await;
    assert_eq!(added.status(), StatusCode::OK);
    let (page, text) = ask(&router, "GET", "/").await;
    assert_eq!(text, "the count is 3");
    assert_eq!(page.headers()["cache-control"], "private, no-cache");
    let (other, text) = ask(&router, "GET", "/elsewhere").await;
    assert_eq!(text, "nothing here");
    assert!(!other.headers().contains_key("set-cookie"), "nobody asked for a page");
    // Everything under its prefix is FastState's, whether it is there or not.
    for path in ["/faststate", "/faststate/", "/faststate/a", "/faststate/a/b/c/d"] {
        let (unknown, _) = ask(&router, "GET", path).await;
        assert_eq!(unknown.headers()["content-type"], "application/problem+json", "{path}");
    }
}

#[tokio::test]
async fn handler_without_layer_reports_only_to_the_log() {
    async fn shown(page: Page) -> String {
        page.signals()
    }
    let router = Router::new().route("/", get(shown));
    let (page, text) = ask(&router, "GET", "/").await;
    assert_eq!(page.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("Reference") && !text.contains("layer"), "{text}");
}

#[tokio::test]
async fn refused_argument_responds_instead_of_handler() {
    async fn vault(page: Page) -> Result<String, PageError> {
        page.follow_id::<fixture::Vault>("v1").await?;
        Ok("open".to_owned())
    }
    async fn profile(profile: Current<fixture::FixtureProfile>) -> String {
        profile.name.clone()
    }
    let router =
        Router::new().route("/vault", get(vault)).route("/profile", get(profile)).layer(site().pages());
    let (refused, text) = ask(&router, "GET", "/vault").await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND, "{text}");
    let (refused, text) = ask(&router, "GET", "/profile").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{text}");
    assert!(refused.headers().contains_key("set-cookie"), "it is a page of a session nevertheless");
}

#[tokio::test]
async fn handlers_receive_the_client_address() {
    async fn who(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
        peer.to_string()
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = site().serve_until(listener, Router::new().route("/", get(who)), std::future::pending());
    let serving = tokio::spawn(serving);
    let mut client = faststate_testkit::suites::client::RawClient::new(address, "it answers");
    let text = client.get("/").await.unwrap().text().await.unwrap();
    assert!(text.starts_with("127.0.0.1:"), "{text}");
    serving.abort();
}
