//! The Redis broadcaster when sentinels or a cluster replace its server.

use std::time::{Duration, Instant};

use faststate_core::Key;
use faststate_testkit::suites::broadcaster::RecordingInbox;
use faststate_tests::{RedisCluster, RedisSentinels, failovers, until};
use tokio::{task::block_in_place, time::sleep};

use super::{RECONNECT_TIMEOUT, carries, change, key, three};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_nodes_hear_each_other_after_sentinels_switched() {
    for run in 0..failovers(1) {
        eprintln!("run {run}");
        sentinels_switch_twice().await;
    }
}

async fn sentinels_switch_twice() {
    let mut redis = RedisSentinels::start();
    let nodes = three(&redis.url()).await;
    let (inbox, key) = (RecordingInbox::attached(&nodes[1]), key("x"));
    let _interest = nodes[1].join(&key).await.unwrap();
    for kills in [true, false] {
        let primary = block_in_place(|| redis.settled());
        carries(&nodes, &inbox, &key).await;
        let lost = inbox.losses();
        block_in_place(|| {
            if kills {
                redis.servers()[primary].kill();
            } else {
                redis.fail_over();
            }
            let _ = redis.successor(primary);
        });
        is_notified_of_a_loss(&inbox, lost).await;
        eprintln!("carried {:?} after the sentinels agreed", carries(&nodes, &inbox, &key).await);
        if kills {
            block_in_place(|| redis.servers()[primary].restart());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_nodes_hear_each_other_after_a_cluster_changed() {
    for run in 0..failovers(1) {
        eprintln!("run {run}");
        cluster_moves_a_slot_and_replaces_two_masters().await;
    }
}

async fn cluster_moves_a_slot_and_replaces_two_masters() {
    let mut cluster = RedisCluster::with_replicas();
    let nodes = three(&cluster.url()).await;
    let (inbox, key) = (RecordingInbox::attached(&nodes[1]), key("x"));
    let _interest = nodes[1].join(&key).await.unwrap();
    carries(&nodes, &inbox, &key).await;

    // The key's channel moves to another master.
    let (slot, from) = slot_and_master(&mut cluster, &key);
    let lost = inbox.losses();
    block_in_place(|| cluster.move_slot(slot, from, (from + 1) % 3, || {}));
    is_notified_of_a_loss(&inbox, lost).await;
    carries(&nodes, &inbox, &key).await;

    // Its new master is killed, and another one hangs. Both are replaced.
    for (master, hangs) in [((from + 1) % 3, false), (from, true)] {
        let lost = inbox.losses();
        block_in_place(|| {
            let nodes = cluster.nodes();
            if hangs {
                nodes[master].pause();
            } else {
                nodes[master].kill();
            }
            let replica = || nodes[master + 3].command(&["INFO", "replication"]);
            until("the replica to be promoted", replica, |info| info.contains("role:master"));
        });
        is_notified_of_a_loss(&inbox, lost).await;
        let took = carries(&nodes, &inbox, &key).await;
        eprintln!("carried {took:?} after the promotion and a reconnect; the old master hangs: {hangs}");
    }
}

/// Waits until more than `lost` losses were reported.
async fn is_notified_of_a_loss(inbox: &RecordingInbox, lost: usize) {
    let since = Instant::now();
    while inbox.losses() == lost {
        assert!(since.elapsed() <= RECONNECT_TIMEOUT, "it is not notified of a loss");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The slot of a key's channel, and the position of its master in a new cluster.
fn slot_and_master(cluster: &mut RedisCluster, key: &Key) -> (u16, usize) {
    let slot = cluster.nodes()[0].command(&["CLUSTER", "KEYSLOT", &format!("{{{key}}}")]);
    let slot: u16 = slot.trim().trim_start_matches(':').parse().unwrap();
    (slot, usize::from(slot > 5_460) + usize::from(slot > 10_922))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_nodes_hear_each_other_when_a_dead_master_returns() {
    let mut cluster = RedisCluster::start();
    let nodes = three(&cluster.url()).await;
    let (inbox, key) = (RecordingInbox::attached(&nodes[1]), key("x"));
    let _interest = nodes[1].join(&key).await.unwrap();
    let (_, own) = slot_and_master(&mut cluster, &key);
    // The master of the key's channel, and another one.
    for dead in [own, (own + 1) % 3] {
        carries(&nodes, &inbox, &key).await;
        let lost = inbox.losses();
        block_in_place(|| cluster.nodes()[dead].kill());
        let since = Instant::now();
        while nodes[0].publish(&change(&key)).await.is_ok() {
            assert!(since.elapsed() <= RECONNECT_TIMEOUT, "a dead master is not noticed");
            sleep(Duration::from_millis(10)).await;
        }
        block_in_place(|| cluster.nodes()[dead].restart());
        eprintln!("carried {:?} after the master's return", carries(&nodes, &inbox, &key).await);
        assert!(inbox.losses() > lost, "a node is not notified that it may have missed changes");
    }
}
