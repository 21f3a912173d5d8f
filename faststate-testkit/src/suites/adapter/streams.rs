//! Streams of one topic.

use std::net::SocketAddr;

use faststate_core::Scope;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{
    Failure, RawClient, count, counter_key, ensure, fixture::HEARTBEAT, followed_stream::FollowedStream,
    item, key, new_id, no_streams_are_open, page, tool,
};
use crate::suites::wait::CHECK_TIMEOUT;

const COUNTER_STREAM: &str = "/faststate/sse?states=counter";

pub(super) const END: &str = "a finished response is complete";

async fn add(address: SocketAddr, amount: i64) -> Result<(), Failure> {
    let promise = "an event is answered while streams are open";
    let uri = format!("/faststate/counter/increment?amount={amount}");
    let status = tool(address, promise).send("POST", &uri, "").await?.status();
    ensure!(status == 200, promise, "the status is {status}");
    Ok(())
}

/// A stream has headers that forbid caching and transformation. It starts with a snapshot and continues with a frame
/// for each change (law 4).
pub async fn stream_sends_snapshot_then_frames(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a stream starts with a snapshot and continues with frames";
    for mut client in [tool(address, PROMISE), page(address, PROMISE)] {
        client =
            client.with("accept", "text/event-stream").with("accept-encoding", "gzip, deflate, br, zstd");
        let start = count(address).await?;
        let mut stream = FollowedStream::open(&mut client, COUNTER_STREAM).await?;
        for (name, expected) in [
            ("content-type", Some("text/event-stream")),
            ("cache-control", Some("no-cache, no-transform")),
            ("x-accel-buffering", Some("no")),
            ("content-encoding", None),
            ("content-length", None),
        ] {
            let found = stream.answer.header(name);
            ensure!(
                found == expected,
                "a stream's headers forbid caching and transformation",
                "{name} is {found:?}"
            );
        }
        stream.until_count(start).await?;
        let retry = stream.page.stream().retry();
        ensure!(
            retry.is_some_and(|ms| (800..=2400).contains(&ms)),
            PROMISE,
            "the stream has retry: {retry:?}"
        );
        for amount in 1..=20 {
            add(address, amount).await?;
        }
        let end = start + (1..=20).sum::<i64>();
        stream.until_count(end).await?;
        stream.page.follows(&counter_key()?, &serde_json::json!({ "count": end }))?;
    }

    // Values with a special form on the wire: maps that lose and gain keys, and options.
    let id = new_id();
    let mut stream =
        FollowedStream::open(&mut page(address, PROMISE), &format!("/faststate/sse?states=item:{id}"))
            .await?;
    stream.until(|page| page.signals().contains_key("item")).await?;
    for change in [
        "put?part=bolt&amount=2",
        "put?part=nut&amount=3",
        "take?part=bolt",
        "due?on=today%0d%0adata:%20x%0d",
        "due?on=",
        "put?part=bolt&amount=4",
        "due?on=tomorrow",
    ] {
        tool(address, PROMISE).send("POST", &format!("/faststate/item/{id}/{change}"), "").await?;
    }
    let (truth, item) = (item(address, &id).await?, key("item", Scope::Record, Some(&id))?);
    stream.until(|page| page.follows(&item, &truth).is_ok()).await?;
    drop(stream);
    no_streams_are_open(address).await
}

/// A frame is sent as soon as its event has been answered; neither the adapter nor the server buffers it.
pub async fn frames_arrive_without_delay(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a frame arrives without delay";
    // A frame that is held back would arrive only with the next heartbeat.
    const ROUNDS: i64 = 8;
    let start = count(address).await?;
    let mut stream = FollowedStream::open(&mut page(address, PROMISE), COUNTER_STREAM).await?;
    let rounds = async {
        stream.until_count(start).await?;
        for round in 1..=ROUNDS {
            add(address, 1).await?;
            stream.until_count(start + round).await?;
        }
        Ok::<(), Failure>(())
    };
    match timeout(CHECK_TIMEOUT, rounds).await {
        Ok(arrived) => arrived?,
        Err(_) => return Err(Failure::new(PROMISE, format!("{ROUNDS} frames took over {CHECK_TIMEOUT:?}"))),
    }
    drop(stream);
    no_streams_are_open(address).await
}

/// An idle stream sends a comment, so that no proxy closes it as dead.
pub async fn idle_stream_sends_heartbeats(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an idle stream sends a comment after the heartbeat interval";
    let start = count(address).await?;
    let mut stream = FollowedStream::open(&mut page(address, PROMISE), COUNTER_STREAM).await?;
    stream.until_count(start).await?;
    let (events, started) = (stream.page.events(), Instant::now());
    stream.until(|page| page.stream().comments() > 0).await?;
    let silence = started.elapsed();
    ensure!(silence > HEARTBEAT / 2, PROMISE, "the comment came after {silence:?}, not {HEARTBEAT:?}");
    ensure!(stream.page.events() == events, PROMISE, "events came instead");
    drop(stream);
    no_streams_are_open(address).await
}

/// A stream resumes from the page's cursor: `_v` in `datastar`, or `Last-Event-ID`. An invalid cursor gets the snapshot
/// (law 4).
pub async fn stream_resumes_from_its_cursor(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a stream resumes from the page's cursor (law 4)";
    let start = count(address).await?;
    // A topic keeps its frames as long as it has a follower.
    let mut other = FollowedStream::open(&mut tool(address, PROMISE), COUNTER_STREAM).await?;
    other.until_count(start).await?;
    let mut datastar = page(address, PROMISE);
    let mut stream = FollowedStream::open(&mut datastar, COUNTER_STREAM).await?;
    stream.until_count(start).await?;
    let page = stream.leave();
    add(address, 1).await?;
    add(address, 2).await?;
    other.until_count(start + 3).await?;

    let cursors = encoded(&page.cursors());
    let mut stream =
        FollowedStream::resume(&mut datastar, &format!("{COUNTER_STREAM}&datastar={cursors}"), page).await?;
    stream.until_count(start + 3).await?;
    let page = stream.leave();

    let current = encoded(&page.cursors());
    let mut stream =
        FollowedStream::resume(&mut datastar, &format!("{COUNTER_STREAM}&datastar={current}"), page).await?;
    stream.until(|page| page.stream().comments() > 0).await?;
    ensure!(!stream.text.contains("count"), PROMISE, "a current page received {}", stream.text);
    drop(stream);

    for garbage in [
        encoded(&serde_json::json!({"counter": {"_v": "garbage"}})),
        encoded(&serde_json::json!([1])),
        "%7B".to_owned(),
    ] {
        let mut stream =
            FollowedStream::open(&mut datastar, &format!("{COUNTER_STREAM}&datastar={garbage}")).await?;
        stream.until_count(start + 3).await?;
    }
    only_streams_are(address, 1, PROMISE).await?;
    resumes_by_id(address, &mut other, start + 3).await?;
    drop(other);
    only_missed_changes_are_sent(address).await?;
    no_streams_are_open(address).await
}

/// A reconnecting page or other client gets the changes that it missed, and not the snapshot.
async fn only_missed_changes_are_sent(address: SocketAddr) -> Result<(), Failure> {
    const BY_CURSOR: &str = "a stream resumes from the page's cursor (law 4)";
    let id = new_id();
    let (item, target) = (format!("/items/{id}/name?name="), format!("/faststate/sse?states=item:{id}"));
    let rename = async |name: &str| {
        let mut tool = tool(address, BY_CURSOR);
        tool.send("PUT", &format!("{item}{name}"), "").await.map(drop)
    };
    rename("zero").await?;
    // A topic keeps its frames as long as it has a follower.
    let mut other = FollowedStream::open(&mut tool(address, BY_CURSOR), &target).await?;
    other.until_name("zero").await?;
    // The id follows its event.
    other.until(|page| !page.last_event_id().is_empty()).await?;
    let mut datastar = page(address, BY_CURSOR);
    let mut stream = FollowedStream::open(&mut datastar, &target).await?;
    stream.until_name("zero").await?;
    ensure!(stream.text.contains("\"parts\""), BY_CURSOR, "a snapshot without parts: {}", stream.text);
    let (page, id) = (stream.leave(), other.page.last_event_id().to_owned());
    rename("one").await?;
    rename("two").await?;
    other.until_name("two").await?;

    let cursors = encoded(&page.cursors());
    let mut stream =
        FollowedStream::resume(&mut datastar, &format!("{target}&datastar={cursors}"), page).await?;
    stream.until_name("two").await?;
    let snapshot = stream.text.contains("\"parts\"");
    ensure!(!snapshot, BY_CURSOR, "with `_v` it got the snapshot again: {}", stream.text);
    drop(stream);

    let mut client = tool(address, BY_ID).with("last-event-id", id);
    let mut stream = FollowedStream::open(&mut client, &target).await?;
    stream.until_name("two").await?;
    let snapshot = stream.text.contains("\"parts\"");
    ensure!(!snapshot, BY_ID, "it got the snapshot again: {}", stream.text);
    Ok(())
}

const BY_ID: &str = "a stream resumes after its `Last-Event-ID` (law 4)";

/// Clients other than browsers resume by `Last-Event-ID`, even after a disconnect in the middle of a frame.
async fn resumes_by_id(address: SocketAddr, other: &mut FollowedStream, start: i64) -> Result<(), Failure> {
    const PROMISE: &str = BY_ID;
    let id = other.page.last_event_id().to_owned();
    ensure!(!id.is_empty(), PROMISE, "the stream has no id: {}", other.text);
    add(address, 4).await?;
    add(address, 5).await?;
    let mut client = tool(address, PROMISE).with("last-event-id", id);
    let mut stream = FollowedStream::open(&mut client, COUNTER_STREAM).await?;
    stream.until_count(start + 9).await?;
    let mut client: RawClient = tool(address, PROMISE).with("last-event-id", "garbage");
    FollowedStream::open(&mut client, COUNTER_STREAM).await?.until_count(start + 9).await
}

async fn only_streams_are(address: SocketAddr, streams: usize, promise: &'static str) -> Result<(), Failure> {
    super::open_streams_are(address, streams, promise).await
}

fn encoded(signals: &Value) -> String {
    signals.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// A finished response ends with a complete HTTP body that contains the last frame.
pub async fn finished_response_is_complete(address: SocketAddr) -> Result<(), Failure> {
    for to in [1, 2, 3, 7, 8, 9, 10, 64, 500] {
        for _ in 0..4 {
            let uri = format!("/faststate/item/{}/count", new_id());
            let mut answer = page(address, END).post(&uri, format!("{{\"to\":{to}}}")).await?;
            let text = answer.text().await?;
            let missing = (1..=to).find(|tick| !text.contains(&format!("{{\"tick\":{tick}}}")));
            ensure!(missing.is_none() && text.ends_with("\n\n"), END, "tick {missing:?} of {to} is missing");
        }
    }
    // A stream whose topics are all refused sends a notice and ends.
    let mut answer = page(address, END).get("/faststate/sse?states=vault:v1").await?;
    let text = answer.text().await?;
    ensure!(
        text.contains("gone") && text.contains("faststate-problem") && text.ends_with("\n\n"),
        END,
        "a refused stream is {text:?}"
    );
    Ok(())
}
