//! Large, slow and truncated request bodies.

use std::{fmt::Write as _, net::SocketAddr};

use tokio::time::timeout;

use super::{Failure, RawClient, count, ensure, health, new_id, problem, tool};
use crate::suites::{client::RawConnection, wait::CHECK_TIMEOUT};

const EVENT: &str = "/faststate/counter/increment";
const LIMIT: usize = 64 * 1024;

/// A body over 64 KiB, with a content length or chunked, is answered with 413 and not with a reset.
pub async fn body_over_64_kib_is_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a body over 64 KiB is answered with 413";
    let mut expected = count(address).await?;
    let client = tool(address, PROMISE).with("content-type", "application/json");
    for (length, chunk) in [
        (LIMIT, None),
        (LIMIT + 1, None),
        (1_000_000, None),
        (LIMIT, Some(1000)),
        (LIMIT, Some(LIMIT)),
        (LIMIT + 1, Some(1000)),
        (LIMIT + 1, Some(LIMIT)),
        (1_000_000, Some(9999)),
        (12, Some(1)),
    ] {
        let what = format!("a body of {length} bytes in chunks of {chunk:?}");
        let body = json_of(length);
        let mut connection = client.connect().await?;
        let head = client.head("POST", EVENT);
        let request = match chunk {
            None => format!("{head}content-length: {length}\r\n\r\n{body}"),
            Some(chunk) => format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunked(&body, chunk)),
        };
        connection.write(request.as_bytes()).await?;
        let answer = connection.answer().await?;
        if length > LIMIT {
            problem(answer, 413, PROMISE, &what).await?;
        } else {
            expected += 1;
            ensure!(answer.status() == 200, PROMISE, "{what} was answered with {}", answer.status());
        }
        let now = count(address).await?;
        ensure!(now == expected, PROMISE, "{what} left the count at {now}, not {expected}");
    }
    Ok(())
}

/// JSON of this length that adds one to the counter.
fn json_of(length: usize) -> String {
    let bare = r#"{"amount":1}"#;
    format!("{}{bare}", " ".repeat(length - bare.len()))
}

fn chunked(body: &str, size: usize) -> String {
    let mut out = String::new();
    for chunk in body.as_bytes().chunks(size) {
        let _ = write!(out, "{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
    }
    out.push_str("0\r\n\r\n");
    out
}

/// A request whose body is truncated changes nothing, even if the received part is a valid event.
pub async fn truncated_body_is_not_applied(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an event with a truncated body is not applied";
    let before = count(address).await?;
    let client = tool(address, PROMISE).with("content-type", "application/x-www-form-urlencoded");
    let head = client.head("POST", EVENT);
    for rest in [
        "content-length: 100\r\n\r\namount=1",
        "content-length: 9\r\n\r\namount=1",
        "transfer-encoding: chunked\r\n\r\n8\r\namount=1\r\n",
        "transfer-encoding: chunked\r\n\r\n8\r\namount=1\r\n0\r\n",
        "transfer-encoding: chunked\r\n\r\n9\r\namount=1",
    ] {
        let mut connection = client.connect().await?;
        connection.write(format!("{head}{rest}").as_bytes()).await?;
        connection.half_close().await?;
        let answered = answered(connection, PROMISE).await?;
        ensure!(
            answered.is_none_or(|status| status >= 400),
            PROMISE,
            "{rest:?} was answered with {answered:?}"
        );

        let mut connection = client.connect().await?;
        connection.write(format!("{head}{rest}").as_bytes()).await?;
        connection.reset()?;
        let now = count(address).await?;
        ensure!(now == before, PROMISE, "{rest:?} changed the count from {before} to {now}");
    }
    Ok(())
}

/// Returns the status, or `None` if the server closed the connection instead.
async fn answered(connection: RawConnection, promise: &str) -> Result<Option<u16>, Failure> {
    match timeout(CHECK_TIMEOUT / 2, connection.answer()).await {
        Ok(answer) => Ok(answer.ok().map(|answer| answer.status())),
        Err(_) => Err(Failure::new(promise, "the server neither answered nor closed the connection")),
    }
}

/// A request that arrives in small pieces is answered like any other.
pub async fn slow_request_is_answered(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a request that arrives in small pieces is answered";
    let before = count(address).await?;
    let client = tool(address, PROMISE).with("content-type", "application/json");
    let head = client.head("POST", EVENT);
    let mut connection = client.connect().await?;
    let request = format!("{head}content-length: 12\r\n\r\n{{\"amount\":1}}");
    let pieces: Vec<&[u8]> = request.as_bytes().chunks(7).collect();
    for (at, piece) in pieces.iter().enumerate() {
        connection.write(piece).await?;
        if at + 6 > pieces.len() {
            // The server answers other requests in the meantime.
            health(address).await?;
        }
    }
    let status = connection.answer().await?.status();
    let after = count(address).await?;
    ensure!(
        status == 200 && after == before + 1,
        PROMISE,
        "the status is {status}, and the count changed from {before} to {after}"
    );
    Ok(())
}

/// The body of a refused request is not parsed as the next request.
pub async fn refused_body_is_not_parsed_as_request(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "the body of a refused request is not parsed as a request";
    const INNER: &str = "GET /visit HTTP/1.1\r\nhost: x\r\n\r\n";
    let before = count(address).await?;
    for (target, status) in
        [("/faststate/nothing/here", 404), ("/faststate/vault/v1/deposit", 404), ("/visit", 405)]
    {
        let client = RawClient::new(address, PROMISE);
        let mut connection = client.connect().await?;
        let head = client.head("POST", target);
        let length = INNER.len();
        connection.write(format!("{head}content-length: {length}\r\n\r\n{INNER}").as_bytes()).await?;
        let mut answer = connection.answer().await?;
        ensure!(answer.status() == status, PROMISE, "POST {target} was answered with {}", answer.status());
        answer.bytes().await?;
        let mut connection = answer.into_connection();
        connection.write(format!("{}\r\n", client.head("GET", "/faststate/health")).as_bytes()).await?;
        // The server may close the connection instead of answering.
        if let Ok(mut next) = connection.answer().await {
            let text = next.text().await?;
            ensure!(
                text.contains("\"status\":\"ok\""),
                PROMISE,
                "after POST {target} the next request was answered with {text}"
            );
        }
        let now = count(address).await?;
        ensure!(now == before, PROMISE, "POST {target} changed the count from {before} to {now}");
    }
    Ok(())
}

/// A client that delays its body cannot use access that it has lost in the meantime (law 8).
pub async fn access_is_checked_after_the_body(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "access is checked after the body has arrived (law 8)";
    const BODY: &str = r#"{"gold":7}"#;
    let deposit = format!("/faststate/vault/{}/deposit", new_id());
    let keeper = |user: &str| tool(address, PROMISE).with("x-user", user).with("x-roles", "keeper");
    let user = new_id();
    let client = keeper(&user).with("content-type", "application/json");
    let mut held = client.connect().await?;
    let (sent, rest) = BODY.split_at(4);
    let head = client.head("POST", &deposit);
    held.write(format!("{head}content-length: {}\r\n\r\n{sent}", BODY.len()).as_bytes()).await?;
    // After two more requests the server has read the head.
    health(address).await?;
    health(address).await?;
    let left = keeper(&user).post("/faststate/profile/leave", "{}").await?.status();
    ensure!(left == 200, PROMISE, "`leave` was answered with {left}");
    held.write(rest.as_bytes()).await?;
    problem(held.answer().await?, 404, PROMISE, "an event whose sender has lost access").await?;
    let mut truth = keeper(&new_id()).post(&deposit, r#"{"gold":0}"#).await?;
    let text = truth.text().await?;
    ensure!(text.contains("\"gold\":0"), PROMISE, "the vault is {text}");
    Ok(())
}
