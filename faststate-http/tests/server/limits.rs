//! Limits of connections, and timeouts of slow clients.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;

use super::{Client, FOLLOW, Running, eventually, start};

/// Opens this many connections, each with a stream.
async fn follow(running: &Running, count: usize) -> Vec<Client> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = running.connect().await;
        stream.send(FOLLOW, "").await;
        stream.until("\nid: ").await;
        streams.push(stream);
    }
    streams
}

#[tokio::test]
async fn law_06_connection_is_answered_503_when_server_is_full() {
    let running = start(|server| server.max_connections(2));
    let mut open = follow(&running, 2).await;
    let refused = running.ask("GET /who HTTP/1.1", "").await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 5\r\n"), "{refused}");
    assert!(refused.contains("connection: close\r\n"), "{refused}");
    open.pop();
    eventually("the stream ends", || running.endpoint.connections() == 1).await;
    assert!(running.ask("GET /who HTTP/1.1", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn law_06_connection_is_answered_429_when_its_address_is_full() {
    let running = start(|server| server.connections_per_address(3));
    let open = follow(&running, 3).await;
    let refused = running.ask("GET /who HTTP/1.1", "").await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let socket = other.connect(running.address).await.unwrap();
    let mut other = Client { socket, received: Vec::new() };
    other.send("GET /who HTTP/1.1", "").await;
    assert!(other.rest().await.starts_with("HTTP/1.1 200"), "another address is not affected");
    drop(open);
}

#[tokio::test]
async fn law_06_idle_connections_of_one_address_leave_room_for_others() {
    // The fixture trusts a proxy, so connections have no limit per address.
    let running = start(|server| server.max_connections(8));
    let idle: Vec<_> = futures::future::join_all((0..7).map(|_| running.connect())).await;
    assert!(running.ask("GET /who HTTP/1.1", "").await.starts_with("HTTP/1.1 200"));
    drop(idle);
    let running = start(|server| server.max_connections(8).connections_per_address(1_000));
    let _idle = futures::future::join_all((0..7).map(|_| running.connect())).await;
    assert!(running.ask("GET /who HTTP/1.1", "").await.starts_with("HTTP/1.1 429"), "at most half");
}

#[tokio::test]
async fn idle_connection_is_closed_after_its_timeout() {
    let time = Duration::from_secs(1);
    let running = start(|server| server.idle_timeout(time));
    let mut idle = running.connect().await;
    for _ in 0..2 {
        idle.write("GET /faststate/health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        idle.until("\"status\":\"ok\"").await;
        let start = Instant::now();
        tokio::time::sleep(time / 2).await;
        assert!(start.elapsed() > time || idle.socket.try_read(&mut [0]).is_err(), "it was closed early");
    }
    let start = Instant::now();
    idle.rest().await;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn law_06_connection_is_closed_when_its_head_never_ends() {
    let running = start(|server| server.idle_timeout(Duration::from_secs(1)));
    let mut client = running.connect().await;
    client.write("GET /faststate/health HTTP/1.1\r\nhost: ").await;
    let start = Instant::now();
    client.rest().await;
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
}

#[tokio::test]
async fn law_06_stream_ends_when_its_client_closes_the_sending_side() {
    let running = start(|server| server);
    // Before the stream begins: the client gets the state, and a clean end.
    let mut client = running.connect().await;
    client.send(FOLLOW, "").await;
    client.socket.shutdown().await.unwrap();
    let all = client.rest().await;
    assert!(all.contains("\"count\":0") && all.ends_with("\r\n0\r\n\r\n"), "{all}");
    // While the stream is open.
    let mut streams = follow(&running, 1).await;
    streams[0].socket.shutdown().await.unwrap();
    let rest = streams[0].rest().await;
    assert!(rest.ends_with("0\r\n\r\n"), "a clean end: {rest:?}");
    eventually("the streams end", || running.endpoint.connections() == 0).await;
}

#[tokio::test]
async fn long_head_is_answered_431() {
    let running = start(|server| server);
    let mut client = running.connect().await;
    let head = format!("GET /who HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(500 * 1024));
    client.write(&head).await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn http_1_0_request_needs_no_host() {
    let running = start(|server| server);
    let mut client = running.connect().await;
    client.write("GET /anything HTTP/1.0\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("the plain /anything"), "{answer}");
}
