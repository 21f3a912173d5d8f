//! How many streams there may be.

use std::net::SocketAddr;

use super::{
    Failure, RawClient, count, ensure, fixture, fixture::FORWARDED, followed_stream::FollowedStream,
    nobody_follows, page, problem, streams_are, tool,
};
use crate::suites::until;

const COUNTER_STREAM: &str = "/faststate/sse?states=counter";

/// Streams have caps, for a session, an address and the node; a cap answers, and ends nobody's (law 6).
pub async fn stream_count_is_capped(address: SocketAddr) -> Result<(), Failure> {
    nobody_follows(address).await?;
    of_a_session(address).await?;
    of_an_address_and_of_the_node(address).await
}

async fn of_a_session(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a session's streams have a cap (law 6)";
    let most = fixture::limits().streams_per_session;
    let mut session = page(address, PROMISE);
    session.post("/faststate/note/write", r#"{"text":"mine"}"#).await?;
    let mut streams = open(&session, most).await?;
    full(&session, 429, PROMISE).await?;
    // Another session is not concerned.
    drop(open(&page(address, PROMISE), 1).await?);
    still_follow(address, &mut streams).await?;
    streams.pop();
    let session = &session;
    let again = until(PROMISE, || async move { Ok(open(session, 1).await.ok()) }).await?;
    drop((streams, again));
    nobody_follows(address).await
}

async fn of_an_address_and_of_the_node(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an address's streams have a cap (law 6)";
    const NODE: &str = "a node's streams have a cap (law 6)";
    let limits = fixture::limits();
    let mut streams = open(&tool(address, PROMISE), limits.streams_per_address).await?;
    full(&tool(address, PROMISE), 429, PROMISE).await?;
    let proxied = |from: &str| tool(address, NODE).with(FORWARDED.as_str(), format!("10.9.9.9, {from}"));
    let rest = limits.streams - limits.streams_per_address;
    streams.extend(open(&proxied("192.0.2.1"), rest).await?);
    full(&proxied("192.0.2.2"), 503, NODE).await?;
    still_follow(address, &mut streams).await?;
    streams.pop();
    streams_are(address, limits.streams - 1, NODE).await?;
    drop(open(&proxied("192.0.2.2"), 1).await?);
    drop(streams);
    nobody_follows(address).await
}

/// This many streams, each of which has begun.
async fn open(client: &RawClient, streams: usize) -> Result<Vec<FollowedStream>, Failure> {
    let mut open = Vec::new();
    for _ in 0..streams {
        let mut stream = FollowedStream::open(&mut client.clone(), COUNTER_STREAM).await?;
        stream.until(|page| page.signals().contains_key("counter")).await?;
        open.push(stream);
    }
    Ok(open)
}

/// One more is told to come back later: by a status, to Datastar too, which then does.
async fn full(client: &RawClient, status: u16, promise: &str) -> Result<(), Failure> {
    for mut client in [client.clone().with("sec-fetch-site", "same-origin"), client.clone().datastar()] {
        let answer = client.get(COUNTER_STREAM).await?;
        let later = answer.header("retry-after").is_some();
        problem(answer, status, promise, "one more").await?;
        ensure!(later, promise, "one more is not told when to come back");
    }
    Ok(())
}

async fn still_follow(address: SocketAddr, streams: &mut [FollowedStream]) -> Result<(), Failure> {
    const PROMISE: &str = "a cap ends nobody's stream (law 6)";
    let now = count(address).await?;
    tool(address, PROMISE).send("POST", "/faststate/counter/increment?amount=1", "").await?;
    for stream in streams {
        stream.until_count(now + 1).await?;
    }
    Ok(())
}
