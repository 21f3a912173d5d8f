//! The server that adapters share, over loopback sockets, with a minimal framework.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod limits;
mod plain;
#[cfg(target_os = "linux")]
mod vanished;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use faststate_core::StateRegistry;
use faststate_http::endpoint::Endpoint;
use faststate_testkit::suites::{
    adapter,
    fixture::{self, FixtureCounter},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

use self::plain::FastState;

/// The time within which every wait must end.
const DEADLINE: Duration = Duration::from_secs(60);

const FOLLOW: &str = "GET /faststate/sse?states=counter HTTP/1.1";

struct Running {
    address: SocketAddr,
    endpoint: Endpoint,
    registry: Arc<StateRegistry>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

/// Starts a server of the fixture on loopback.
fn start(set: impl FnOnce(FastState) -> FastState) -> Running {
    start_on("127.0.0.1", set)
}

/// Starts a server of the fixture on a free port of this address.
fn start_on(address: &str, set: impl FnOnce(FastState) -> FastState) -> Running {
    let registry = fixture::registry().unwrap();
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = FastState::from_endpoint(fixture::endpoint(Arc::clone(&registry) as _));
    let server = server.hosts(["127.0.0.1", "localhost", "app.example", "x"]);
    let server = set(server.drain_window(Duration::from_millis(300)));
    let endpoint = server.endpoint().clone();
    let (stop, stopped) = oneshot::channel();
    let stopped = async { drop(stopped.await) };
    let serving = tokio::spawn(server.serve_until(listener, (), stopped));
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
        self.write(&format!(
            "{head}\r\nhost: app.example\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
        .await;
    }

    async fn write(&mut self, bytes: &str) {
        self.socket.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads until `text` has arrived; returns and discards everything up to then.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_passes_the_adapter_suite() {
    let mut running = start(|server| server);
    let address = running.address;
    adapter::all(address).await.unwrap();
    adapter::server(address).await.unwrap();
    adapter::drain_drops_nothing(address, || {
        running.stop();
        running.stopped()
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn stream_carries_the_change_of_an_event() {
    let running = start(|server| server);
    let mut stream = running.connect().await;
    stream.send(FOLLOW, "").await;
    let head = stream.until("\nid: ").await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-type: text/event-stream\r\n"),
        "{head}"
    );
    assert!(head.contains("cache-control: no-cache, no-transform\r\n") && head.contains("retry: "), "{head}");
    let answer = running.ask("POST /faststate/counter/increment?amount=2 HTTP/1.1", "").await;
    assert!(answer.ends_with("{\"counter\":{\"count\":2}}"), "{answer}");
    assert!(answer.contains("content-length: 23\r\n"), "{answer}");
    let news = stream.until("\nid: ").await;
    assert!(
        news.contains("event: datastar-patch-signals\ndata: signals {\"counter\":{\"count\":2,"),
        "{news}"
    );
}

#[tokio::test]
async fn http_1_0_client_follows_without_chunks() {
    let running = start(|server| server);
    let mut stream = running.connect().await;
    stream.write("GET /faststate/sse?states=counter HTTP/1.0\r\nhost: x\r\n\r\n").await;
    let head = stream.until("\nid: ").await;
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("transfer-encoding"), "{head}");
}

#[tokio::test]
async fn application_answers_all_other_paths() {
    let running = start(|server| server);
    let answer = running.ask("GET /anything HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("the plain /anything"), "{answer}");
    let answer = running.ask("POST /echo HTTP/1.1", "what came").await;
    assert!(answer.ends_with("\r\n\r\nwhat came"), "{answer}");
    let mut client = running.connect().await;
    let from = client.socket.local_addr().unwrap();
    client.send("GET /who HTTP/1.1", "").await;
    assert!(client.rest().await.ends_with(&format!("{from} to {}", running.address)));
}

#[tokio::test]
async fn application_can_close_a_connection_without_response() {
    let running = start(|server| server);
    assert_eq!(running.ask("GET /fail HTTP/1.1", "").await, "");
    assert_eq!(running.ask("GET /leave HTTP/1.1", "").await, "");
}

#[tokio::test]
async fn application_can_upgrade_to_another_protocol() {
    let running = start(|server| server);
    let mut client = running.connect().await;
    client.write("GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: twice\r\n\r\nab").await;
    client.until("\r\n\r\naabb").await;
    client.write("c").await;
    client.until("cc").await;
}

#[tokio::test]
async fn law_06_topics_are_left_when_clients_hang_up() {
    let running = start(|server| server);
    let mut streams = Vec::new();
    for at in 0..fixture::limits().streams {
        let mut stream = running.connect().await;
        let from = format!("{FOLLOW}\r\n{}: 10.0.0.{at}", fixture::FORWARDED);
        stream.send(&from, "").await;
        stream.until("\nid: ").await;
        streams.push(stream);
    }
    let counter = running.registry.global::<FixtureCounter>().unwrap();
    assert_eq!((running.endpoint.connections(), counter.followers()), (streams.len(), streams.len()));
    drop(streams);
    eventually("the streams end", || running.endpoint.connections() == 0 && counter.followers() == 0).await;
}

#[tokio::test]
async fn law_15_shutdown_ends_streams_and_finishes_events() {
    let mut running = start(|server| server);
    let mut stream = running.connect().await;
    stream.send(FOLLOW, "").await;
    stream.until("\nid: ").await;
    // The server is stopped after a part of the event has been sent.
    let mut event = running.connect().await;
    event
        .write("POST /faststate/counter/increment HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"am")
        .await;
    running.ask("POST /faststate/counter/increment?amount=1 HTTP/1.1", "").await;
    stream.until("\nid: ").await;
    let address = running.address;
    running.stop();
    eventually("it stops accepting", || std::net::TcpStream::connect(address).is_err()).await;
    event.write("ount\":1}").await;
    let answer = event.until("}}").await;
    assert!(answer.contains("{\"counter\":{\"count\":2}}"), "{answer}");
    let rest = stream.rest().await;
    assert!(rest.ends_with("0\r\n\r\n"), "a clean end: {rest:?}");
    let registry = Arc::clone(&running.registry);
    running.stopped().await;
    assert_eq!(registry.global::<FixtureCounter>().unwrap().read().await.unwrap().count, 2);
}

#[tokio::test]
async fn law_15_idle_connection_does_not_delay_shutdown() {
    let mut running = start(|server| server);
    let _silent = running.connect().await;
    let mut idle = running.connect().await;
    idle.write("GET /faststate/health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    idle.until("\"status\":\"ok\"").await;
    let start = Instant::now();
    running.stop();
    running.stopped().await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// Browsers treat a page of another site as same-origin if the site's name resolves to this server.
#[tokio::test]
async fn law_08_server_on_loopback_answers_only_loopback_names() {
    let serve = async |set: fn(FastState) -> FastState| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = set(FastState::new(fixture::registry().unwrap()));
        tokio::spawn(server.serve_until(listener, (), std::future::pending()));
        address
    };
    let asked = async |address: SocketAddr, path: &str, host: &str| {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let method = if path.contains("increment") { "POST" } else { "GET" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nsec-fetch-site: same-origin\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        let length = socket.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let paths = ["/anything", "/faststate/counter/increment?amount=1", "/faststate/sse?states=counter"];
    let address = serve(|server| server).await;
    for path in paths {
        for host in ["evil.example", "localhost.evil.example:5000", "10.0.0.1"] {
            let answer = asked(address, path, host).await;
            assert!(answer.starts_with("HTTP/1.1 421") && !answer.contains("set-cookie"), "{path}: {answer}");
        }
        for host in ["localhost", "127.0.0.1:80", "[::1]:5000", "demo.localhost"] {
            let answer = asked(address, path, host).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{path} of {host}: {answer}");
        }
    }
    assert!(asked(address, paths[1], "evil.example").await.contains("`hosts`"), "the setting is named");
    let proxied = |server: FastState| server.trusted_proxy_header("x-forwarded-for".parse().unwrap());
    for set in [proxied, |server: FastState| server.hosts(["app.example"])] {
        let address = serve(set).await;
        for path in paths {
            let answer = asked(address, path, "app.example:8080").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn default_cookie_name_contains_the_port() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = FastState::new(fixture::registry().unwrap());
    tokio::spawn(server.serve_until(listener, (), std::future::pending()));
    let mut client = Client { socket: TcpStream::connect(address).await.unwrap(), received: Vec::new() };
    let head =
        "POST /faststate/counter/increment?amount=1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n";
    client.write(&format!("{head}connection: close\r\n\r\n")).await;
    let answer = client.rest().await;
    assert!(answer.contains(&format!("set-cookie: faststate_{}=", address.port())), "{answer}");
}
