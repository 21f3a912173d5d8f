//! Checks of the HTTP server below the framework: connections and request heads.

use std::{fmt::Write as _, net::SocketAddr};

use super::{Failure, RawClient, count, ensure, followed_stream::FollowedStream, problem, tool};
use crate::browser::page::BrowserPage;

const EVENT: &str = "/faststate/counter/increment";

/// Runs the checks for an adapter that accepts connections itself, in addition to [`all`](super::all).
///
/// The server of a framework need not pass them.
///
/// # Errors
/// Returns the first promise that is broken.
pub async fn server(address: SocketAddr) -> Result<(), Failure> {
    half_closed_request_is_answered(address).await?;
    page_request_without_one_host_is_refused(address).await?;
    request_head_over_64_kib_is_refused(address).await
}

/// A client that half-closes after its request gets the response to an event and the start of a stream.
pub async fn half_closed_request_is_answered(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a client that half-closes after its request gets the response";
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
        ensure!(text == expected, PROMISE, "round {round} was answered with {} {text}", answer.status());

        let mut connection = client.connect().await?;
        let head = client.head("GET", "/faststate/sse?states=counter");
        connection.write(format!("{head}\r\n").as_bytes()).await?;
        connection.half_close().await?;
        let answer = connection.answer().await?;
        ensure!(answer.status() == 200, PROMISE, "a stream was answered with {}", answer.status());
        let mut stream = FollowedStream { answer, page: BrowserPage::new(), text: String::new() };
        stream.until_count(before + 1).await?;
    }
    Ok(())
}

/// An HTTP/1.1 request for a path of FastState without a `Host` header, or with two, is answered with 400.
///
/// This is a part of [`all`](super::all), because the endpoint refuses such requests on every server.
pub async fn request_without_one_host_is_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an HTTP/1.1 request without exactly one `Host` is answered with 400";
    let before = count(address).await?;
    for request in [format!("POST {EVENT}?amount=1"), "GET /faststate/sse?states=counter".to_owned()] {
        for (hosts, status) in [("", 400), ("host: x\r\nhost: x\r\n", 400), ("host: x\r\nHost: y\r\n", 400)] {
            let answer = send_head(address, PROMISE, &format!("{request} HTTP/1.1\r\n{hosts}")).await?;
            problem(answer, status, PROMISE, &format!("{request} with {hosts:?}")).await?;
        }
    }
    let after = count(address).await?;
    ensure!(after == before, PROMISE, "they changed the count from {before} to {after}");
    Ok(())
}

/// An HTTP/1.1 request for a page without a `Host` header, or with two, is answered with 400.
pub async fn page_request_without_one_host_is_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an HTTP/1.1 page request without exactly one `Host` is answered with 400";
    for hosts in ["", "host: x\r\nhost: x\r\n"] {
        let answer = send_head(address, PROMISE, &format!("GET /page HTTP/1.1\r\n{hosts}")).await?;
        ensure!(answer.status() == 400, PROMISE, "{hosts:?} was answered with {}", answer.status());
    }
    Ok(())
}

/// A request head over 64 KiB or 100 headers is answered with 431 (law 6).
pub async fn request_head_over_64_kib_is_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a request head over 64 KiB or 100 headers is answered with 431 (law 6)";
    for (bytes, status) in [(60 * 1024, 200), (64 * 1024, 431), (100 * 1024, 431)] {
        let head = format!("GET /faststate/health HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n", "x".repeat(bytes));
        let answered = send_head(address, PROMISE, &head).await?.status();
        ensure!(answered == status, PROMISE, "{bytes} bytes were answered with {answered}");
    }
    for (headers, status) in [(90, 200), (101, 431)] {
        let mut head = "GET /faststate/health HTTP/1.1\r\nhost: x\r\n".to_owned();
        for at in 1..headers {
            let _ = write!(head, "x-{at}: x\r\n");
        }
        let answered = send_head(address, PROMISE, &head).await?.status();
        ensure!(answered == status, PROMISE, "{headers} headers were answered with {answered}");
    }
    Ok(())
}

async fn send_head(
    address: SocketAddr,
    promise: &'static str,
    head: &str,
) -> Result<super::ClientResponse, Failure> {
    let mut connection = RawClient::new(address, promise).connect().await?;
    connection.write(format!("{head}content-length: 0\r\n\r\n").as_bytes()).await?;
    connection.answer().await
}
