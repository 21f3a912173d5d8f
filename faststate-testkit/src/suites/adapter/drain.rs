//! A graceful stop.

use std::{net::SocketAddr, time::Duration};

use tokio::time::timeout;

use super::{Failure, RawClient, count, counter_key, ensure, followed_stream::FollowedStream, page, tool};
use crate::suites::until;

/// How long a server may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A draining server accepts no new connections or streams, finishes the events that it has begun to read, ends its
/// streams with a complete HTTP body, and then stops (law 15).
///
/// `begin` starts the drain and returns a future that completes when the server has stopped. Configure a drain window
/// of at most one second, so that the check stays fast.
pub async fn drain_drops_nothing<F>(
    address: SocketAddr,
    begin: impl FnOnce() -> F + Send,
) -> Result<(), Failure>
where
    F: Future<Output = ()> + Send,
{
    const PROMISE: &str = "a drain drops nothing (law 15)";
    let start = count(address).await?;
    let mut streams = Vec::new();
    for mut client in [tool(address, PROMISE), page(address, PROMISE), page(address, PROMISE)] {
        let mut stream = FollowedStream::open(&mut client, "/faststate/sse?states=counter").await?;
        stream.until_count(start).await?;
        streams.push(stream);
    }
    // An idle connection must not delay the stop.
    let idle = tool(address, PROMISE).connect().await?;
    // Half of an event has been sent. The later response to another event shows that the server has read that half.
    let client = tool(address, PROMISE).with("content-type", "application/json");
    let mut event = client.connect().await?;
    let head = client.head("POST", "/faststate/counter/increment");
    event.write(format!("{head}content-length: 12\r\n\r\n{{\"am").as_bytes()).await?;
    tool(address, PROMISE).send("POST", "/faststate/counter/increment?amount=1", "").await?;
    for stream in &mut streams {
        stream.until_count(start + 1).await?;
    }

    let ended = begin();
    let draining = until(PROMISE, || async move { Ok(refuses(address).await.then_some(())) });
    let finishing = async {
        draining.await?;
        event.write(b"ount\":1}").await?;
        let mut answer = event.answer().await?;
        let state = answer.json().await?;
        let counted = state["counter"]["count"] == start + 2;
        ensure!(counted, PROMISE, "an event that was half received was answered with {state}");
        for mut stream in streams {
            while stream.next().await? {}
            ensure!(
                stream.page.stream().is_between_events(),
                PROMISE,
                "a stream ended in the middle of an event: {}",
                stream.text
            );
            let count = stream.page.signals()["counter"]["count"].clone();
            let expected = serde_json::json!({ "count": count });
            stream.page.follows(&counter_key()?, &expected)?;
        }
        Ok::<(), Failure>(())
    };
    let (ended, finished) = futures::future::join(timeout(STOP_TIMEOUT, ended), finishing).await;
    finished?;
    drop(idle);
    ensure!(ended.is_ok(), PROMISE, "the server still runs after {STOP_TIMEOUT:?}");
    Ok(())
}

/// Returns whether the server refuses new connections or reports that it drains.
async fn refuses(address: SocketAddr) -> bool {
    let mut client = RawClient::new(address, "a draining server answers 503");
    client.get("/faststate/health").await.map_or(true, |answer| answer.status() == 503)
}
