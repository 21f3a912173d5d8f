//! Every broadcaster against its real server: the public suite, and server failures.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use faststate_core::{Broadcaster, Key, Scope, Version, broadcast::Change};
use faststate_store_diesel::PostgresBroadcaster;
use faststate_store_redis::RedisBroadcaster;
use faststate_testkit::suites::{
    self,
    broadcaster::{ConnectedNodes, RecordingInbox},
};
use faststate_tests::{Cable, Postgres, RedisCluster, RedisServer};
use tokio::{task::block_in_place, time::sleep};

/// A silent failure is detected within 5 s, plus a margin for a busy machine. An undetected loss is found
/// within a minute.
const DETECTION_TIMEOUT: Duration = Duration::from_secs(8);

async fn redis(url: &str) -> Arc<dyn Broadcaster> {
    Arc::new(RedisBroadcaster::builder(url).prefix("test").connect().await.unwrap())
}

async fn postgres(url: &str) -> Arc<dyn Broadcaster> {
    Arc::new(PostgresBroadcaster::connect(url).await.unwrap())
}

async fn broadcaster(url: &str) -> Arc<dyn Broadcaster> {
    if url.starts_with("redis") { redis(url).await } else { postgres(url).await }
}

async fn three(url: &str) -> ConnectedNodes {
    [broadcaster(url).await, broadcaster(url).await, broadcaster(url).await]
}

fn key(id: &str) -> Key {
    Key::new("test", Scope::Record, None, Some(id)).unwrap()
}

fn change(key: &Key) -> Change {
    let from = Version::start();
    Change { key: key.clone(), from, to: from.next(), schema: 1, data: Some("{}".into()) }
}

/// Waits for the condition, and returns the duration.
async fn until(what: &str, within: Duration, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let asked = Instant::now();
    while !is_so().await {
        assert!(asked.elapsed() < within, "{what}: not within {within:?}");
        sleep(Duration::from_millis(10)).await;
    }
    asked.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_carries_changes() {
    let server = RedisServer::with(&[]);
    suites::broadcaster::all(&three(&server.url()).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redis_cluster_carries_changes_on_sharded_channels() {
    let mut cluster = RedisCluster::start();
    let nodes = three(&cluster.url()).await;
    suites::broadcaster::all(&nodes).await.unwrap();

    // Every shard carries some channels, and a cluster node without a channel receives none of its messages.
    let keys: Vec<_> = (0..30).map(|id| key(&id.to_string())).collect();
    let mut interests = Vec::new();
    for key in &keys {
        interests.push(nodes[1].join(key).await.unwrap());
    }
    let count = |server: &RedisServer| {
        let channels = server.command(&["PUBSUB", "SHARDCHANNELS", "test:v1:key/*"]);
        channels.matches("test:v1:key").count()
    };
    let counts: Vec<_> = cluster.nodes().iter().map(count).collect();
    assert!(counts.iter().all(|count| *count > 0) && counts.iter().sum::<usize>() == 30, "{counts:?}");

    // One shard becomes silent: that is detected although the others continue.
    cluster.nodes()[2].pause();
    let noticed = async || nodes[0].publish(&change(&keys[0])).await.is_err();
    until("the silence of one shard is noticed", DETECTION_TIMEOUT, noticed).await;
    cluster.nodes()[2].resume();
    let again = async || nodes[0].publish(&change(&keys[0])).await.is_ok();
    until("it takes changes again", 2 * DETECTION_TIMEOUT, again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_carries_changes() {
    let server = Postgres::start();
    suites::broadcaster::all(&three(&server.url()).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_redis_is_restarted_and_the_nodes_find_each_other_again() {
    let mut server = RedisServer::with(&[]);
    let nodes = three(&server.url()).await;
    survives(&nodes, |up| if up { server.restart() } else { server.kill() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_postgres_is_restarted_and_the_nodes_find_each_other_again() {
    let mut server = Postgres::start();
    let nodes = three(&server.url()).await;
    survives(&nodes, |up| if up { server.restart() } else { server.crash() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_a_network_that_swallows_what_redis_says_is_noticed() {
    let server = RedisServer::with(&[]);
    let address = server.address();
    swallowed(&server.url(), address, |cable| format!("redis://{}", cable.address())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_a_network_that_swallows_what_postgres_says_is_noticed() {
    let server = Postgres::start();
    let url = server.url();
    swallowed(&url, server.address(), |cable| {
        format!("postgres://faststate:secret@{}/postgres", cable.address())
    })
    .await;
}

/// The server stops and restarts: receivers are notified of the loss, joins made in the meantime hold, and then
/// changes arrive again.
async fn survives(nodes: &ConnectedNodes, mut turn: impl FnMut(bool)) {
    let inboxes = nodes.each_ref().map(RecordingInbox::attached);
    let (before, meanwhile) = (key("before"), key("meanwhile"));
    let _before = nodes[1].join(&before).await.unwrap();
    for round in 0..3 {
        let lost = inboxes[1].losses();
        block_in_place(|| turn(false));
        until("it refuses", DETECTION_TIMEOUT, async || nodes[0].publish(&change(&before)).await.is_err())
            .await;
        let _meanwhile =
            tokio::time::timeout(DETECTION_TIMEOUT, nodes[1].join(&meanwhile)).await.unwrap().unwrap();
        block_in_place(|| turn(true));
        until("it is notified of a loss", DETECTION_TIMEOUT, async || inboxes[1].losses() > lost).await;
        for key in [&before, &meanwhile] {
            let change = change(key);
            let published = async || nodes[0].publish(&change).await.is_ok();
            until("it takes changes again", DETECTION_TIMEOUT, published).await;
            let heard = async || inboxes[1].changes(key).iter().any(|heard| heard.to == change.to);
            until(&format!("round {round}: {key} is heard of"), DETECTION_TIMEOUT, heard).await;
        }
    }
}

/// One node's connection fails silently while the others continue.
async fn swallowed(url: &str, server: SocketAddr, through: impl Fn(&Cable) -> String) {
    let cable = Cable::to(server);
    let nodes: ConnectedNodes =
        [broadcaster(url).await, broadcaster(&through(&cable)).await, broadcaster(url).await];
    let inboxes = nodes.each_ref().map(RecordingInbox::attached);
    let key = key("x");
    let _interests = [nodes[1].join(&key).await.unwrap(), nodes[2].join(&key).await.unwrap()];
    let heard = async |inbox: &RecordingInbox, change: &Change| {
        inbox.changes(&key).iter().any(|heard| heard.to == change.to)
    };
    for _ in 0..2 {
        let lost = inboxes[1].losses();
        cable.cut();
        let missed = change(&key);
        nodes[0].publish(&missed).await.unwrap();
        until("the other node receives", DETECTION_TIMEOUT, async || heard(&inboxes[2], &missed).await).await;
        // Its own publications fail.
        let noticed = async || nodes[1].publish(&change(&key)).await.is_err();
        let noticed = until("the silence is noticed", DETECTION_TIMEOUT, noticed).await;
        eprintln!("the silence was noticed after {noticed:?}");
        sleep(Duration::from_secs(1)).await;
        cable.mend();
        let took =
            until("the loss is detected", DETECTION_TIMEOUT, async || inboxes[1].losses() > lost).await;
        eprintln!("the loss was detected {took:?} after the network had returned");
        let change = change(&key);
        nodes[0].publish(&change).await.unwrap();
        until("it hears again", DETECTION_TIMEOUT, async || heard(&inboxes[1], &change).await).await;
        assert_eq!((inboxes[0].losses(), inboxes[2].losses()), (0, 0), "the others were never cut off");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_14_a_node_that_does_not_follow_a_key_gets_no_message_of_it() {
    let server = RedisServer::with(&[]);
    let (node, followed) = (redis(&server.url()).await, redis(&server.url()).await);
    let inbox = RecordingInbox::attached(&followed);
    let (key, strange) = (key("followed"), key("strange"));
    let _interest = followed.join(&key).await.unwrap();
    // Redis returns the number of connections that received each publication.
    let listeners = |key: &Key| {
        let channel = format!("test:v1:key/{{{key}}}");
        server.command(&["PUBSUB", "NUMSUB", &channel]).contains(":1\r\n")
    };
    assert!(listeners(&key) && !listeners(&strange));
    for _ in 0..100 {
        node.publish(&change(&strange)).await.unwrap();
    }
    let last = change(&key);
    node.publish(&last).await.unwrap();
    until("it hears", DETECTION_TIMEOUT, async || inbox.changes(&key).len() == 1).await;
    assert!(inbox.changes(&strange).is_empty());
    drop(_interest);
    until("it is left", DETECTION_TIMEOUT, async || !listeners(&key)).await;
}
