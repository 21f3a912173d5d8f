//! Nodes that shut down one after the other under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use faststate_testkit::suites::client::RawClient;
use faststate_tests::{Cable, Demo, RedisServer};
use futures::future::join_all;
use tokio::{task::block_in_place, time::sleep};

use crate::{
    cluster::{Cluster, Server, until},
    user::{Follower, Writer},
};

/// The deadline of a node's shutdown, also on a busy machine.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// The time within which streams end: 5 s, plus a margin for a busy machine.
const STREAM_END_TIMEOUT: Duration = Duration::from_secs(12);
/// The time within which a process reacts to a signal, with a margin for a busy machine.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The age up to which an accepted event can still be saved: it fails at 2 s.
const MAX_SAVED_AGE: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_15_a_rolling_restart_loses_no_event_and_no_followers_truth() {
    for server in [Server::redis(), Server::postgres()] {
        let mut cluster = Cluster::start(server);
        let nodes = cluster.addresses();
        let enough = Arc::<AtomicBool>::default();
        let writers: Vec<_> = (0..6)
            .map(|task| {
                let (nodes, enough) = (nodes.clone(), Arc::clone(&enough));
                tokio::spawn(async move {
                    let mut writer = Writer::new(nodes, task);
                    let mut sent = 0;
                    while !enough.load(Ordering::SeqCst) {
                        writer.increment(&format!("{task}-{sent}")).await;
                        sent += 1;
                        sleep(Duration::from_millis(10)).await;
                    }
                    (sent, writer.tally)
                })
            })
            .collect();
        let mut followers: Vec<_> = (0..30)
            .map(|follower| {
                let mut nodes = nodes.clone();
                nodes.rotate_left(follower % 3);
                Follower::start(nodes, false)
            })
            .collect();
        let started = Instant::now();
        for node in &mut cluster.nodes {
            sleep(Duration::from_millis(500)).await;
            let ended = block_in_place(|| node.demo.terminate());
            assert!(ended.success(), "{ended}");
            block_in_place(|| node.demo.restart());
        }
        let took = started.elapsed();
        enough.store(true, Ordering::SeqCst);
        let (mut sent, mut refused) = (0, 0);
        for writer in join_all(writers).await {
            let (count, tally) = writer.unwrap();
            sent += count;
            refused += tally.failures;
        }
        let (version, counter) = cluster.counter().await;
        assert_eq!(counter["count"], sent, "what was acknowledged counts, once");
        let agree = async || {
            for follower in &mut followers {
                follower.check().await;
            }
            followers.iter().all(|follower| follower.shows(version, &counter))
        };
        let agreed = until("all followers show the truth", Duration::from_secs(30), agree).await;
        eprintln!(
            "three nodes restarted one after the other in {took:?}: {sent} events, {refused} sent again, 30 \
             followers agreed {agreed:?} after the last event"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_15_streams_end_over_a_window_and_an_accepted_event_finishes() {
    // The event's deadline is 2 s, also on a busy machine.
    for tries in 1.. {
        if drained().await {
            return;
        }
        assert!(
            tries < 5,
            "the machine is too slow for an event to be accepted, and a signal heard, within 2 s"
        );
    }
}

/// Shuts down a node that has streams and an event in flight; `None` if the event arrived or could be saved too late.
async fn drained() -> bool {
    let server = RedisServer::start();
    let cable = Cable::to(server.address());
    let store = format!("redis://{}", cable.address());
    let mut demo = Demo::with(&["--store", &store, "--max-streams-per-address", "0"]);
    let address = demo.address();
    let streams = (0..60).map(|_| async move {
        let mut client = RawClient::new(address, "a stream is open until the node drains").datastar();
        let mut stream = client.get("/faststate/sse?states=counter").await.unwrap();
        stream.piece().await.unwrap();
        stream
    });
    let streams = join_all(streams).await;
    // Accepted, but the store does not respond yet.
    cable.cut();
    let sent = Instant::now();
    let event = tokio::spawn(async move {
        let mut writer = RawClient::new(address, "an accepted event is answered");
        let mut answer = writer.post("/faststate/counter/increment", "{}").await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    });
    sleep(Duration::from_millis(300)).await;
    demo.signal("TERM");
    let asked = Instant::now();
    let refused = async || tokio::net::TcpStream::connect(address).await.is_err();
    until("no connection is accepted", SIGNAL_TIMEOUT, refused).await;
    cable.mend();
    if sent.elapsed() > MAX_SAVED_AGE {
        return false;
    }
    // The event may not have been accepted yet.
    let Ok((status, view)) = event.await else { return false };
    assert_eq!(status, 200, "{view}");
    assert!(view.contains("\"count\":1"), "{view}");
    let ends = streams.into_iter().map(|mut stream| async move {
        while stream.piece().await.unwrap().is_some() {}
        asked.elapsed()
    });
    let mut ends = join_all(ends).await;
    ends.sort();
    let (first, median, last) = (ends[0], ends[30], ends[59]);
    eprintln!("60 streams ended after {first:?}, {median:?} (median) and {last:?}");
    assert!(last < STREAM_END_TIMEOUT && last - first > Duration::from_secs(2), "from {first:?} to {last:?}");
    until("the process ends", SHUTDOWN_TIMEOUT, async || demo.ended().is_some()).await;
    assert!(demo.ended().is_some_and(|status| status.success()) && asked.elapsed() < SHUTDOWN_TIMEOUT);
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_15_a_second_signal_ends_at_once() {
    let mut demo = Demo::start();
    let mut client = RawClient::new(demo.address(), "a stream is open").datastar();
    let streams: Vec<_> = {
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = client.get("/faststate/sse?states=counter").await.unwrap();
            stream.piece().await.unwrap();
            streams.push(stream);
        }
        streams
    };
    demo.signal("TERM");
    let address = demo.address();
    let refused = async || tokio::net::TcpStream::connect(address).await.is_err();
    until("the first signal is heard", SIGNAL_TIMEOUT, refused).await;
    assert!(demo.ended().is_none(), "streams are open");
    demo.signal("TERM");
    let took = until("the process ends", Duration::from_secs(2), async || demo.ended().is_some()).await;
    eprintln!("after a second signal it ended within {took:?}");
    drop(streams);
}
