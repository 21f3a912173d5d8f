//! What a server owes its clients before a framework sees them.

use std::{fmt::Write as _, net::SocketAddr};

use super::{Failure, RawClient, count, ensure, followed_stream::FollowedStream, problem, tool};
use crate::browser::page::BrowserPage;

const EVENT: &str = "/faststate/counter/increment";

/// The promises of a server of one's own: an adapter that listens itself calls this beside
/// [`all`](super::all). A framework's own server may keep them or not.
///
/// # Errors
/// The first promise that is broken.
pub async fn server(address: SocketAddr) -> Result<(), Failure> {
    half_closed_request_is_answered(address).await?;
    page_request_without_one_host_is_refused(address).await?;
    request_head_over_64_kib_is_refused(address).await
}

/// A client that closes its sending side after the request gets the answer: an event's, and a stream's beginning.
pub async fn half_closed_request_is_answered(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a client that closes its sending side after the request gets the answer";
    for round in 0..4 {
        let before = count(address).await?;
        let client = tool(address, PROMISE).with("content-type", "application/json");
        let mut connection = client.connect().await?;
        let head = client.head("POST", EVENT);
        connection.write(format!("{head}content-length: 12\r\n\r\n{{\"amount\":1}}").as_bytes()).await?;
        connection.half_close().await?;
        let mut answer = connection.answer().await?;
        let text = answer.text().await?;
        let expected = format!("{{\"counter\":{{\"count\":{}}}}}", before + 1);
        ensure!(text == expected, PROMISE, "round {round} was answered {} {text}", answer.status());

        let mut connection = client.connect().await?;
        let head = client.head("GET", "/faststate/sse?states=counter");
        connection.write(format!("{head}\r\n").as_bytes()).await?;
        connection.half_close().await?;
        let answer = connection.answer().await?;
        ensure!(answer.status() == 200, PROMISE, "a stream was answered {}", answer.status());
        let mut stream = FollowedStream { answer, page: BrowserPage::new(), text: String::new() };
        stream.until_count(before + 1).await?;
    }
    Ok(())
}

/// A request of HTTP/1.1 for FastState's own paths without a `Host` header, or with two, is a 400.
pub async fn request_without_one_host_is_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a request of HTTP/1.1 names its host once";
    let before = count(address).await?;
    for request in [format!("POST {EVENT}?amount=1"), "GET /faststate/sse?states=counter".to_owned()] {
        for (hosts, status) in [("", 400), ("host: x\r\nhost: x\r\n", 400), ("host: x\r\nHost: y\r\n", 400)] {
            let answer = ask(address, PROMISE, &format!("{request} HTTP/1.1\r\n{hosts}")).await?;
            problem(answer, status, PROMISE, &format!("{request} with {hosts:?}")).await?;
        }
    }
    let after = count(address).await?;
    ensure!(after == before, PROMISE, "they led from {before} to {after}");
    Ok(())
}

/// A page's request of HTTP/1.1 without a `Host` header, or with two, is a 400.
pub async fn page_request_without_one_host_is_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a page's request of HTTP/1.1 names its host once";
    for hosts in ["", "host: x\r\nhost: x\r\n"] {
        let answer = ask(address, PROMISE, &format!("GET /page HTTP/1.1\r\n{hosts}")).await?;
        ensure!(answer.status() == 400, PROMISE, "{hosts:?} was answered {}", answer.status());
    }
    Ok(())
}

/// A request's head has at most 64 KiB and 100 headers; a longer one is a 431 (law 6).
pub async fn request_head_over_64_kib_is_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a request's head has at most 64 KiB (law 6)";
    for (bytes, status) in [(60 * 1024, 200), (64 * 1024, 431), (100 * 1024, 431)] {
        let head = format!("GET /faststate/health HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n", "x".repeat(bytes));
        let answered = ask(address, PROMISE, &head).await?.status();
        ensure!(answered == status, PROMISE, "{bytes} bytes were answered {answered}");
    }
    for (headers, status) in [(90, 200), (101, 431)] {
        let mut head = "GET /faststate/health HTTP/1.1\r\nhost: x\r\n".to_owned();
        for at in 1..headers {
            let _ = write!(head, "x-{at}: x\r\n");
        }
        let answered = ask(address, PROMISE, &head).await?.status();
        ensure!(answered == status, PROMISE, "{headers} headers were answered {answered}");
    }
    Ok(())
}

async fn ask(
    address: SocketAddr,
    promise: &'static str,
    head: &str,
) -> Result<super::ClientResponse, Failure> {
    let mut connection = RawClient::new(address, promise).connect().await?;
    connection.write(format!("{head}content-length: 0\r\n\r\n").as_bytes()).await?;
    connection.answer().await
}
