//! Caps on the number of streams.

use std::net::SocketAddr;

use super::{
    Failure, RawClient, count, ensure, fixture, fixture::FORWARDED, followed_stream::FollowedStream,
    no_streams_are_open, open_streams_are, page, problem, tool,
};
use crate::suites::until;

const COUNTER_STREAM: &str = "/faststate/sse?states=counter";

/// The number of streams is capped per session, per address and per node. A request over a cap is answered with an
/// error, and open streams stay open (law 6).
pub async fn stream_count_is_capped(address: SocketAddr) -> Result<(), Failure> {
    no_streams_are_open(address).await?;
    cap_per_session(address).await?;
    cap_per_address_and_node(address).await
}

async fn cap_per_session(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "the number of streams of one session is capped (law 6)";
    let most = fixture::limits().streams_per_session;
    let mut session = page(address, PROMISE);
    session.post("/faststate/note/write", r#"{"text":"mine"}"#).await?;
    let mut streams = open(&session, most).await?;
    full(&session, 429, PROMISE).await?;
    // Another session can still open a stream.
    drop(open(&page(address, PROMISE), 1).await?);
    still_follow(address, &mut streams).await?;
    streams.pop();
    let session = &session;
    let again = until(PROMISE, || async move { Ok(open(session, 1).await.ok()) }).await?;
    drop((streams, again));
    no_streams_are_open(address).await
}

async fn cap_per_address_and_node(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "the number of streams of one address is capped (law 6)";
    const NODE: &str = "the number of streams of one node is capped (law 6)";
    let limits = fixture::limits();
    let mut streams = open(&tool(address, PROMISE), limits.streams_per_address).await?;
    full(&tool(address, PROMISE), 429, PROMISE).await?;
    let proxied = |from: &str| tool(address, NODE).with(FORWARDED.as_str(), format!("10.9.9.9, {from}"));
    let rest = limits.streams - limits.streams_per_address;
    streams.extend(open(&proxied("192.0.2.1"), rest).await?);
    full(&proxied("192.0.2.2"), 503, NODE).await?;
    still_follow(address, &mut streams).await?;
    streams.pop();
    open_streams_are(address, limits.streams - 1, NODE).await?;
    drop(open(&proxied("192.0.2.2"), 1).await?);
    drop(streams);
    no_streams_are_open(address).await
}

/// Opens this many streams and waits until each has received its snapshot.
async fn open(client: &RawClient, streams: usize) -> Result<Vec<FollowedStream>, Failure> {
    let mut open = Vec::new();
    for _ in 0..streams {
        let mut stream = FollowedStream::open(&mut client.clone(), COUNTER_STREAM).await?;
        stream.until(|page| page.signals().contains_key("counter")).await?;
        open.push(stream);
    }
    Ok(open)
}

/// Checks that one more stream is refused with `status` and `Retry-After`, even for Datastar, which then retries.
async fn full(client: &RawClient, status: u16, promise: &str) -> Result<(), Failure> {
    for mut client in [client.clone().with("sec-fetch-site", "same-origin"), client.clone().datastar()] {
        let answer = client.get(COUNTER_STREAM).await?;
        let later = answer.header("retry-after").is_some();
        problem(answer, status, promise, "one stream more").await?;
        ensure!(later, promise, "the refusal has no `Retry-After`");
    }
    Ok(())
}

async fn still_follow(address: SocketAddr, streams: &mut [FollowedStream]) -> Result<(), Failure> {
    const PROMISE: &str = "a cap closes no open stream (law 6)";
    let now = count(address).await?;
    tool(address, PROMISE).send("POST", "/faststate/counter/increment?amount=1", "").await?;
    for stream in streams {
        stream.until_count(now + 1).await?;
    }
    Ok(())
}
