//! The Redis broadcaster over TLS, sentinels and clusters, and when its server is demoted.

mod failover;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use faststate_core::{Broadcaster, Key, Scope, Version, broadcast::Change};
use faststate_store_redis::RedisBroadcaster;
use faststate_testkit::suites::{
    self,
    broadcaster::{ConnectedNodes, RecordingInbox},
};
use faststate_tests::{Cable, Certificates, RedisCluster, RedisSentinels, RedisServer};
use tokio::time::sleep;

/// The time within which nodes hear each other again.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(8);

async fn three(url: &str) -> ConnectedNodes {
    let node = async || {
        Arc::new(RedisBroadcaster::builder(url).prefix("test").connect().await.unwrap())
            as Arc<dyn Broadcaster>
    };
    [node().await, node().await, node().await]
}

fn key(id: &str) -> Key {
    Key::new("test", Scope::Record, None, Some(id)).unwrap()
}

fn change(key: &Key) -> Change {
    let from = Version::start();
    Change { key: key.clone(), from, to: from.next(), schema: 1, data: Some("{}".into()) }
}

/// Waits until a change of one node reaches another node.
async fn carries(nodes: &ConnectedNodes, inbox: &RecordingInbox, key: &Key) -> Duration {
    let since = Instant::now();
    loop {
        let change = change(key);
        if nodes[0].publish(&change).await.is_ok() {
            for _ in 0..20 {
                if inbox.changes(key).iter().any(|heard| heard.to == change.to) {
                    return since.elapsed();
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        assert!(
            since.elapsed() <= RECONNECT_TIMEOUT,
            "a change of {key} does not arrive within {RECONNECT_TIMEOUT:?}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_carries_changes_over_tls() {
    let certificates = Certificates::new();
    let server = RedisServer::with_tls(&certificates, &certificates.issue(&["127.0.0.1"]), &[]);
    suites::broadcaster::all(&three(&server.tls_url(&certificates)).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_carries_changes_over_sentinels() {
    let redis = RedisSentinels::start();
    suites::broadcaster::all(&three(&redis.url()).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_carries_changes_over_sentinels_with_tls() {
    let certificates = Certificates::new();
    let redis = RedisSentinels::with_tls(&certificates);
    suites::broadcaster::all(&three(&redis.url()).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_cluster_carries_changes_over_tls() {
    let certificates = Certificates::new();
    let cluster = RedisCluster::with_tls(&certificates);
    suites::broadcaster::all(&three(&cluster.url()).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_the_redis_broadcaster_leaves_a_demoted_server() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let cable = Cable::to(old.address());
    let nodes = three(&format!("redis://{}", cable.address())).await;
    let (inbox, key) = (RecordingInbox::attached(&nodes[1]), key("x"));
    let _interest = nodes[1].join(&key).await.unwrap();
    carries(&nodes, &inbox, &key).await;
    cable.lead_to(new.address());
    let (ip, port) = (new.address().ip().to_string(), new.address().port().to_string());
    let _ = old.command(&["REPLICAOF", &ip, &port]);
    let channel = format!("test:v1:key/{{{key}}}");
    let since = Instant::now();
    while !new.command(&["PUBSUB", "NUMSUB", &channel]).contains(":1\r\n") {
        assert!(since.elapsed() <= Duration::from_secs(5), "it stays at the demoted server");
        sleep(Duration::from_millis(20)).await;
    }
    carries(&nodes, &inbox, &key).await;
}
