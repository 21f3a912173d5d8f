//! The adapter over real loopback sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use faststate_core::{
    Access, Context, Event, ReactiveState, Rejection, StateConfig, StateRegistry,
    endpoint::{Endpoint, Limits},
};
use faststate_salvo::{Current, FastState, Page, PageError};
use salvo::{Router, Writer, handler, writing::Text};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// Everything here is over within this.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    count: i64,
}

impl ReactiveState for Counter {
    const NAME: &'static str = "counter";
}

#[derive(Serialize, Deserialize)]
struct Increment {
    amount: i64,
}

impl Event for Increment {
    type State = Counter;
    const NAME: &'static str = "increment";

    fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        counter.count += self.amount;
        Ok(())
    }
}

/// An event with a path of its own and an id.
#[derive(Serialize, Deserialize)]
struct Rename {
    name: String,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Product {
    name: String,
}

impl ReactiveState for Product {
    const NAME: &'static str = "product";
}

impl Event for Rename {
    type State = Product;
    const NAME: &'static str = "rename";
    const PATH: Option<&'static str> = Some("/products/{id}/name");

    fn apply(&self, product: &mut Product, _: &mut Context<Product>) -> Result<(), Rejection> {
        product.name.clone_from(&self.name);
        Ok(())
    }
}

#[handler]
async fn index(page: Page, counter: Current<Counter>) -> Text<String> {
    let (signals, follow) = (page.signals(), page.follow_action());
    Text::Html(format!("<body data-signals=\"{signals}\" data-init=\"{follow}\">{}</body>", counter.count))
}

#[handler]
async fn one_product(page: Page) -> Result<Text<String>, PageError> {
    page.follow_id::<Product>("none").await?;
    Ok(Text::Html(String::new()))
}

#[handler]
async fn broken() -> Result<Text<String>, PageError> {
    let number: i32 = "the password is hunter2".parse()?;
    Ok(Text::Html(number.to_string()))
}

struct Running {
    address: SocketAddr,
    endpoint: Endpoint,
    registry: Arc<StateRegistry>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

async fn start(set: impl FnOnce(FastState) -> FastState) -> Running {
    let registry = StateRegistry::builder()
        .state::<Counter>(StateConfig::global().access(Access::public()), |state| state.event::<Increment>())
        .state::<Product>(StateConfig::record().access(Access::public()), |state| {
            state
                .event::<Rename>()
                .initial(|key| async move { (key.id().as_deref() != Some("none")).then(Product::default) })
        })
        .build()
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = set(FastState::new(Arc::clone(&registry)).drain_window(Duration::from_millis(300)));
    let endpoint = server.endpoint().clone();
    let router = Router::new()
        .get(index)
        .push(Router::with_path("product").get(one_product))
        .push(Router::with_path("broken").get(broken));
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        server.serve_until(listener, router, stopped).await
    });
    Running { address, endpoint, registry, stop: Some(stop), serving }
}

impl Running {
    async fn connect(&self) -> Client {
        Client { socket: TcpStream::connect(self.address).await.unwrap(), received: Vec::new() }
    }

    async fn ask(&self, head: &str, body: &str) -> String {
        let mut client = self.connect().await;
        client.send(head, body).await;
        client.rest().await
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn stopped(self) {
        tokio::time::timeout(DEADLINE, self.serving).await.unwrap().unwrap().unwrap();
    }
}

struct Client {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Client {
    async fn send(&mut self, head: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "{head}\r\nhost: app.example\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        self.socket.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads on until `text` has arrived; gives everything up to then, and nothing of it again.
    async fn until(&mut self, text: &str) -> String {
        let reading = async {
            loop {
                let all = String::from_utf8_lossy(&self.received).into_owned();
                if all.contains(text) {
                    self.received.clear();
                    return all;
                }
                assert!(self.socket.read_buf(&mut self.received).await.unwrap() > 0, "no `{text}` in {all}");
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.unwrap()
    }

    async fn rest(&mut self) -> String {
        let reading = self.socket.read_to_end(&mut self.received);
        tokio::time::timeout(DEADLINE, reading).await.unwrap().unwrap();
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_event_and_a_stream_over_sockets() {
    let running = start(|server| server).await;
    let mut stream = running.connect().await;
    stream.send("GET /faststate/sse?states=counter HTTP/1.1", "").await;
    let head = stream.until("\nid: ").await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-type: text/event-stream\r\n"),
        "{head}"
    );
    assert!(head.contains("cache-control: no-cache, no-transform\r\n") && head.contains("retry: "), "{head}");
    let answer = running.ask("POST /faststate/counter/increment?amount=2 HTTP/1.1", "").await;
    assert!(answer.ends_with("{\"counter\":{\"count\":2}}"), "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(answer.contains("content-length: 23\r\n"), "{answer}");
    let news = stream.until("\nid: ").await;
    assert!(
        news.contains("event: datastar-patch-signals\ndata: signals {\"counter\":{\"count\":2,"),
        "{news}"
    );
}

#[tokio::test]
async fn an_events_own_path_is_decoded_once() {
    let running = start(|server| server).await;
    let answer = running.ask("POST /products/a%2Fb%2541/name?name=x HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let product = running.registry.record::<Product>("a/b%41").unwrap().read().await.unwrap();
    assert_eq!(product.name, "x");
}

#[tokio::test]
async fn a_page_follows_what_its_arguments_showed() {
    let running = start(|server| server).await;
    let answer = running.ask("GET / HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("set-cookie: faststate="), "{answer}");
    assert!(answer.contains("cache-control: private, no-cache\r\n"), "{answer}");
    assert!(answer.contains("'count':0") && answer.contains("'/faststate/sse?states=counter'"), "{answer}");
    let cookie = answer.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    let again = running.ask(&format!("GET / HTTP/1.1\r\ncookie: {cookie}"), "").await;
    assert!(!again.contains("set-cookie"), "{again}");
}

#[tokio::test]
async fn errors_are_pages() {
    let running = start(|server| server).await;
    let answer = running.ask("GET /product HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("text/html; charset=utf-8"), "{answer}");
    assert!(answer.contains("not found, or not yours to see"), "{answer}");
    let answer = running.ask("GET /broken HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("hunter2"), "{answer}");
    let answer = running.ask("GET /faststate/nothing HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn bodies_are_capped_over_sockets() {
    let running = start(|server| server.limits(Limits { body_bytes: 100, ..Limits::default() })).await;
    let head = "POST /faststate/counter/increment HTTP/1.1\r\ncontent-type: application/json";
    let answer = running.ask(head, &format!("{{\"amount\":1{}}}", " ".repeat(100))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = running.ask(head, &" ".repeat(1_000_000)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "an answer instead of a reset: {answer}");
    let answer = running.ask(head, "{\"amount\":1}").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn law_06_a_client_that_hangs_up_leaves_its_topics() {
    let running = start(|server| server).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = running.connect().await;
        stream.send("GET /faststate/sse?states=counter HTTP/1.1", "").await;
        stream.until("\nid: ").await;
        streams.push(stream);
    }
    let counter = running.registry.global::<Counter>().unwrap();
    assert_eq!((running.endpoint.connections(), counter.followers()), (50, 50));
    drop(streams);
    eventually("the streams are left", || running.endpoint.connections() == 0 && counter.followers() == 0)
        .await;
}

#[tokio::test]
async fn law_15_a_shutdown_ends_streams_and_finishes_events() {
    let mut running = start(|server| server).await;
    let mut stream = running.connect().await;
    stream.send("GET /faststate/sse?states=counter HTTP/1.1", "").await;
    stream.until("\nid: ").await;
    // The event has been sent in part when the server is asked to stop.
    let mut event = running.connect().await;
    let head = "POST /faststate/counter/increment HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"am";
    event.socket.write_all(head.as_bytes()).await.unwrap();
    running.ask("POST /faststate/counter/increment?amount=1 HTTP/1.1", "").await;
    stream.until("\nid: ").await;
    let address = running.address;
    running.stop();
    eventually("it stops accepting", || std::net::TcpStream::connect(address).is_err()).await;
    event.socket.write_all(b"ount\":1}").await.unwrap();
    let answer = event.until("}}").await;
    assert!(answer.contains("{\"counter\":{\"count\":2}}"), "{answer}");
    let rest = stream.rest().await;
    assert!(rest.ends_with("0\r\n\r\n"), "a clean end: {rest:?}");
    let registry = Arc::clone(&running.registry);
    running.stopped().await;
    assert_eq!(registry.global::<Counter>().unwrap().read().await.unwrap().count, 2);
}

#[tokio::test]
async fn law_15_an_idle_connection_does_not_hold_a_shutdown_up() {
    let mut running = start(|server| server).await;
    let _silent = running.connect().await;
    let mut idle = running.connect().await;
    idle.socket.write_all(b"GET /faststate/health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    idle.until("\"status\":\"ok\"").await;
    let start = Instant::now();
    running.stop();
    running.stopped().await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
