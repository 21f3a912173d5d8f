//! Failover under load, over sentinels and in a cluster.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use faststate_core::{
    Store,
    store::{Precondition, Receipt, SaveOutcome},
};
use faststate_store_redis::RedisStore;
use faststate_testkit::suites;
use faststate_tests::{Certificates, RedisCluster, RedisSentinels, RedisServer, failovers, until};
use tokio::{task::block_in_place, time::sleep};

use super::{connect, explain, key, record};
use crate::load::Load;

/// The time within which every node is healthy again after a new primary is in its place.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// The time within which every node hears of a switch that the sentinels have agreed on.
const SWITCH_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The pause of a writer after each save.
const PACE: Duration = Duration::from_millis(10);

/// Waits until a replica has everything that its primary has now.
fn replicated(primary: &RedisServer, replica: &RedisServer) {
    let offset = |server: &RedisServer| -> u64 {
        let info = server.command(&["INFO", "replication"]);
        let offset = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
        offset.and_then(|offset| offset.trim().parse().ok()).unwrap_or(0)
    };
    let goal = offset(primary);
    until("a replica to have everything", || offset(replica), |offset| *offset >= goal);
}

async fn save(store: &dyn Store, id: usize) -> bool {
    let (key, receipt) = (key(&id.to_string()), Receipt::internal());
    let saved = store.save(&key, &record("{}"), Precondition::Absent, Some(&receipt)).await;
    matches!(saved, Ok(SaveOutcome::Saved))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_01_sentinel_switches_three_times_under_load() {
    for run in 0..failovers(1) {
        eprintln!("run {run}");
        sentinels_switch_three_times().await;
    }
}

async fn sentinels_switch_three_times() {
    let mut redis = RedisSentinels::start();
    let mut load = Load::start(&redis.url(), PACE).await;
    let mut lost = BTreeSet::new();
    let mut primary = redis.settled();
    for switch in 0..3 {
        load.goes_on(200).await;
        let before = load.acknowledged();
        // Replication is asynchronous, so only what has reached the replicas is kept.
        let servers = redis.servers();
        block_in_place(|| (0..3).for_each(|replica| replicated(&servers[primary], &servers[replica])));
        let successor = block_in_place(|| {
            match switch {
                0 => redis.fail_over(),
                1 => redis.servers()[primary].pause(),
                _ => redis.servers()[primary].kill(),
            }
            redis.successor(primary)
        });
        let took = load.healthy().await;
        eprintln!("switch {switch}: every node is healthy {took:?} after the sentinels agreed");
        // Until then, a node may not have heard of the switch, and the old primary may go on accepting writes.
        sleep(SWITCH_TIMEOUT).await;
        let after = load.acknowledged();
        lost.extend(after.difference(&before).copied());
        eprintln!("{primary} was replaced by {successor} during {:?} to {:?}", before.last(), after.last());
        primary = block_in_place(|| {
            match switch {
                0 => {}
                1 => redis.servers()[primary].resume(),
                _ => redis.servers()[primary].restart(),
            }
            redis.settled()
        });
    }
    load.goes_on(100).await;
    load.stop().await;
    let acknowledged = load.acknowledged();
    let missing = load.missing(acknowledged.iter().copied()).await;
    eprintln!("{} of {} acknowledged in a switch, lost {}", lost.len(), acknowledged.len(), missing.len());
    let kept: Vec<_> = missing.difference(&lost).collect();
    assert!(kept.is_empty(), "records that the replicas had are lost: {kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_01_cluster_moves_a_slot_and_replaces_masters_under_load() {
    for run in 0..failovers(1) {
        eprintln!("run {run}");
        cluster_moves_a_slot_and_replaces_two_masters().await;
    }
}

async fn cluster_moves_a_slot_and_replaces_two_masters() {
    let mut cluster = RedisCluster::with_replicas();
    let mut load = Load::start(&cluster.url(), PACE).await;
    load.goes_on(200).await;

    // The slot of the bucket `b7` changes its master while its keys are written.
    block_in_place(|| cluster.move_slot(11_260, 2, 0, || std::thread::sleep(Duration::from_millis(300))));
    load.goes_on(200).await;
    let moved = load.acknowledged();
    for node in load.nodes() {
        node.ping().await.unwrap();
    }

    let mut window = BTreeSet::new();
    // One master is killed, and another one hangs.
    for (master, replica, hangs) in [(1, 4, false), (2, 5, true)] {
        let before = load.acknowledged();
        assert!(moved.is_subset(&before));
        block_in_place(|| {
            let nodes = cluster.nodes();
            replicated(&nodes[master], &nodes[replica]);
            if hangs {
                nodes[master].pause();
            } else {
                nodes[master].kill();
            }
            let role = || nodes[replica].command(&["INFO", "replication"]);
            until("the replica to be promoted", role, |info| info.contains("role:master"));
        });
        let took = load.healthy().await;
        eprintln!("every node is healthy {took:?} after the promotion; the old master hangs: {hangs}");
        window.extend(load.acknowledged().difference(&before).copied());
        load.goes_on(200).await;
    }
    load.stop().await;
    let acknowledged = load.acknowledged();
    let missing = load.missing(acknowledged.iter().copied()).await;
    eprintln!("of {} acknowledged, {} are lost", acknowledged.len(), missing.len());
    assert!(missing.is_subset(&window), "records that the replicas had are lost: {missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_the_host_that_accepts_writes_is_used_among_several() {
    let (a, b) = (RedisServer::start(), RedisServer::start());
    let follow = |replica: &RedisServer, primary: &RedisServer| {
        let (ip, port) = (primary.address().ip().to_string(), primary.address().port().to_string());
        let _ = replica.command(&["REPLICAOF", &ip, &port]);
    };
    follow(&a, &b);
    let store = connect(format!("redis://{},{},127.0.0.1:1", a.address(), b.address())).await;
    for round in 0..4 {
        assert!(save(&*store, round).await, "round {round}");
        let (old, new) = if round % 2 == 0 { (&b, &a) } else { (&a, &b) };
        let _ = new.command(&["REPLICAOF", "NO", "ONE"]);
        follow(old, new);
        let since = Instant::now();
        while store.ping().await.is_err() {
            assert!(since.elapsed() <= HEALTH_TIMEOUT, "the other host is not used after {HEALTH_TIMEOUT:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_redis_failover_from_a_hanging_host_takes_seconds() {
    for run in 0..failovers(1) {
        let (primary, replica) = (RedisServer::start(), RedisServer::start());
        let (ip, port) = (primary.address().ip().to_string(), primary.address().port().to_string());
        let _ = replica.command(&["REPLICAOF", &ip, &port]);
        let url = format!("redis://{},{}", primary.address(), replica.address());
        let load = Load::start(&url, PACE).await;
        load.fill_pools().await;
        load.goes_on(200).await;
        primary.pause();
        let _ = replica.command(&["REPLICAOF", "NO", "ONE"]);
        eprintln!("run {run}: every node is healthy after {:?}", load.healthy().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_a_stores_promises_over_sentinels() {
    let redis = RedisSentinels::start();
    let (a, b) = (connect(redis.url()).await, connect(redis.url()).await);
    suites::store::all(&a, &b).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_a_stores_promises_over_sentinels_with_tls() {
    let certificates = Certificates::new();
    let redis = RedisSentinels::with_tls(&certificates);
    let (a, b) = (connect(redis.url()).await, connect(redis.url()).await);
    suites::store::all(&a, &b).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_a_stores_promises_on_a_cluster() {
    let mut cluster = RedisCluster::start();
    let (a, b) = (connect(cluster.url()).await, connect(cluster.url()).await);
    suites::store::all(&a, &b).await.unwrap();
    // Every master holds some records, and the entries of a key are in one bucket.
    for id in 0..100 {
        save(&*a, id).await;
    }
    for node in cluster.nodes() {
        let keys = node.command(&["KEYS", "test:v1:{b*}:test/*"]);
        assert!(keys.contains("}:test/r/"), "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_a_stores_promises_on_a_cluster_with_tls() {
    let certificates = Certificates::new();
    let cluster = RedisCluster::with_tls(&certificates);
    let (a, b) = (connect(cluster.url()).await, connect(cluster.url()).await);
    suites::store::all(&a, &b).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_health_of_a_cluster_notices_each_master() {
    let mut cluster = RedisCluster::start();
    let store = connect(cluster.url()).await;
    for master in 0..3 {
        store.ping().await.unwrap();
        cluster.nodes()[master].pause();
        assert!(store.ping().await.is_err(), "master {master} is not missed");
        cluster.nodes()[master].resume();
        let since = Instant::now();
        while store.ping().await.is_err() {
            assert!(since.elapsed() <= HEALTH_TIMEOUT, "master {master} is not found again");
        }
    }
}

#[tokio::test]
async fn address_without_cluster_is_refused_on_a_cluster_and_the_reverse() {
    let mut cluster = RedisCluster::start();
    let url = cluster.nodes()[0].url();
    // A server of a cluster refuses the keys of the others.
    let mut refused = Vec::new();
    match RedisStore::connect(&url).await {
        Err(error) => refused.push(explain(&error)),
        Ok(store) => {
            for id in 0..20 {
                let loaded = store.load(&key(&id.to_string()), None).await;
                refused.extend(loaded.err().map(|error| explain(&error)));
            }
        }
    }
    assert!(refused.iter().any(|error| error.contains("use `redis+cluster://`")), "{refused:?}");
    let single = RedisServer::start();
    let error = RedisStore::connect(format!("redis+cluster://{}", single.address())).await.unwrap_err();
    assert!(explain(&error).contains("not a server of a cluster"), "{error:?}");
}
