//! The end of a server.

use std::{net::SocketAddr, time::Duration};

use tokio::time::timeout;

use super::{Failure, RawClient, count, counter_key, ensure, followed_stream::FollowedStream, page, tool};
use crate::suites::until;

/// How long a server may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that is asked to stop takes no new connections or streams, finishes the events that it has
/// begun to read, ends its streams as HTTP does, and then ends (law 15).
///
/// `begin` asks it to, and gives what is done once the server has ended. With a drain window of a second or
/// less this is quick.
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
    // An idle connection must not hold it up, nor be missed.
    let idle = tool(address, PROMISE).connect().await?;
    // An event of which half has been sent: what others were answered later shows that it has been read.
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
    let telling = async {
        draining.await?;
        event.write(b"ount\":1}").await?;
        let mut answer = event.answer().await?;
        let state = answer.json().await?;
        let counted = state["counter"]["count"] == start + 2;
        ensure!(counted, PROMISE, "an event that had begun was answered {state}");
        for mut stream in streams {
            while stream.next().await? {}
            ensure!(
                stream.page.stream().is_between_events(),
                PROMISE,
                "a stream ends within an event: {}",
                stream.text
            );
            let count = stream.page.signals()["counter"]["count"].clone();
            let told = serde_json::json!({ "count": count });
            stream.page.follows(&counter_key()?, &told)?;
        }
        Ok::<(), Failure>(())
    };
    let (ended, told) = futures::future::join(timeout(STOP_TIMEOUT, ended), telling).await;
    told?;
    drop(idle);
    ensure!(ended.is_ok(), PROMISE, "the server goes on after {STOP_TIMEOUT:?}");
    Ok(())
}

/// Whether the server takes no new connection, or says that it drains.
async fn refuses(address: SocketAddr) -> bool {
    let mut client = RawClient::new(address, "a server that drains says so");
    client.get("/faststate/health").await.map_or(true, |answer| answer.status() == 503)
}
