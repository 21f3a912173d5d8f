//! Tests of FastState inside a Salvo application, for behaviour that is specific to Salvo.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::net::SocketAddr;

use faststate_salvo::{Current, FastState, Page};
use faststate_testkit::suites::{client::RawClient, fixture};
use salvo::{Request, Router, Writer, handler, writing::Text};

async fn serve(router: Router) -> RawClient {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let site = FastState::from_endpoint(fixture::endpoint(fixture::registry().unwrap()));
    tokio::spawn(site.serve_until(listener, router, std::future::pending()));
    RawClient::new(address, "it answers")
}

#[handler]
async fn greeting(profile: Current<fixture::FixtureProfile>) -> String {
    profile.name.clone()
}

#[handler]
async fn addresses(request: &mut Request) -> String {
    let peer: Option<SocketAddr> = request.remote_addr().clone().into_std();
    format!("{peer:?} {:?}", request.local_addr().clone().into_std())
}

#[handler]
async fn mirror(request: &mut Request) -> Text<String> {
    Text::Plain(String::from_utf8(request.payload().await.unwrap().to_vec()).unwrap())
}

#[handler]
async fn hang_up(request: &mut Request) -> &'static str {
    request.extensions().get::<salvo::conn::ConnCtrl>().unwrap().abort();
    "too late"
}

#[tokio::test]
async fn refused_argument_responds_instead_of_handler() {
    let mut client = serve(Router::with_path("profile").get(greeting)).await;
    let mut refused = client.get("/profile").await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(refused.header("set-cookie").is_some(), "it is a page of a session nevertheless");
    assert!(refused.text().await.unwrap().contains("<h1>"));
}

#[tokio::test]
async fn handler_without_hoop_reports_only_to_the_log() {
    #[handler]
    async fn shown(page: Page) -> Text<String> {
        Text::Html(page.signals())
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = salvo::conn::tcp::TcpAcceptor::try_from(listener).unwrap();
    tokio::spawn(salvo::Server::new(acceptor).serve(Router::new().get(shown)));
    let mut page = RawClient::new(address, "it answers").get("/").await.unwrap();
    assert_eq!(page.status(), 500);
    let text = page.text().await.unwrap();
    assert!(text.contains("Reference") && !text.contains("hang"), "{text}");
}

#[tokio::test]
async fn handlers_get_bodies_and_addresses_and_can_abort() {
    let router = Router::new()
        .push(Router::with_path("who").get(addresses))
        .push(Router::with_path("echo").post(mirror))
        .push(Router::with_path("leave").get(hang_up));
    let mut client = serve(router).await;
    let address = client.address();
    let who = client.get("/who").await.unwrap().text().await.unwrap();
    assert!(who.starts_with("Some(127.0.0.1:") && who.ends_with(&format!("Some({address})")), "{who}");
    let echo = client.post("/echo", "what came").await.unwrap().text().await.unwrap();
    assert_eq!(echo, "what came");
    assert!(client.get("/leave").await.is_err(), "it is closed without an answer");
}
