//! A node, the server or the network fails during a burst.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use faststate_tests::{UNAVAILABLE_LIMIT, failovers, http};
use tokio::{
    task::{JoinHandle, block_in_place},
    time::sleep,
};

use crate::{
    cluster::{Cluster, Server, until},
    user::{Follower, Tally, Writer},
};

/// All nodes agree within 5 s after the recovery, plus a margin for a busy machine. An undetected loss is found within a minute.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(8);
/// The duration of a burst before the failure.
const BURST_DURATION: Duration = Duration::from_millis(500);

/// Writers and a few followers on all nodes, during a failure.
struct Burst {
    writers: Vec<JoinHandle<(usize, Tally)>>,
    followers: Vec<Follower>,
    enough: Arc<AtomicBool>,
}

impl Burst {
    fn start(cluster: &Cluster) -> Self {
        let enough = Arc::<AtomicBool>::default();
        let nodes = cluster.addresses();
        let writer = |task: usize| {
            let (nodes, enough) = (nodes.clone(), Arc::clone(&enough));
            tokio::spawn(async move {
                let mut writer = Writer::new(nodes, task);
                let mut sent = 0;
                while !enough.load(Ordering::SeqCst) {
                    writer.increment(&format!("{task}-{sent}")).await;
                    sent += 1;
                    sleep(Duration::from_millis(5)).await;
                }
                (sent, writer.tally)
            })
        };
        let follower = |at: usize| Follower::start(vec![nodes[at % 3]], false);
        Self { writers: (0..6).map(writer).collect(), followers: (0..12).map(follower).collect(), enough }
    }

    /// Checks the recovery: every event is acknowledged and counts once, and every node
    /// shows the same.
    async fn settle(mut self, cluster: &Cluster, what: &str) {
        let healed = Instant::now();
        self.enough.store(true, Ordering::SeqCst);
        let (mut sent, mut failures, mut slowest) = (0, 0, Duration::ZERO);
        for writer in self.writers {
            let (count, tally) = writer.await.unwrap();
            sent += count;
            failures += tally.failures;
            slowest = slowest.max(tally.slowest);
        }
        let (version, counter) = cluster.counter().await;
        let agree = async || {
            for follower in &mut self.followers {
                follower.check().await;
            }
            self.followers.iter().all(|follower| follower.shows(version, &counter))
        };
        until(&format!("{what}: all nodes agree"), AGREEMENT_TIMEOUT, agree).await;
        eprintln!(
            "{what}: {sent} events, {failures} refused and sent again, the slowest answer {slowest:?}; all \
             agreed {:?} after the heal",
            healed.elapsed()
        );
        assert_eq!(counter["count"], sent, "what was acknowledged is there, once");
        assert!(healed.elapsed() < AGREEMENT_TIMEOUT, "it took {:?}", healed.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_01_a_node_killed_in_the_middle_of_a_burst_loses_nothing() {
    for server in [Server::redis(), Server::postgres()] {
        let mut cluster = Cluster::start(server);
        let burst = Burst::start(&cluster);
        for node in 0..3 {
            sleep(BURST_DURATION).await;
            block_in_place(|| cluster.nodes[node].demo.kill());
            sleep(BURST_DURATION).await;
            block_in_place(|| cluster.nodes[node].demo.restart());
        }
        burst.settle(&cluster, "each node killed once").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_the_shared_server_restarted_in_the_middle_of_a_burst() {
    for server in [Server::redis(), Server::postgres()] {
        let mut cluster = Cluster::start(server);
        let burst = Burst::start(&cluster);
        for _ in 0..2 {
            sleep(BURST_DURATION).await;
            block_in_place(|| {
                cluster.server.kill();
                cluster.server.restart();
            });
        }
        burst.settle(&cluster, "restarted").await;
    }
}

/// The store and the broadcaster have both hosts in their addresses, the first behind a relay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_nodes_agree_after_a_postgres_failover_in_a_burst() {
    for run in 0..failovers(1) {
        for hangs in [false, true] {
            let mut cluster = Cluster::start(Server::postgres_pair());
            let burst = Burst::start(&cluster);
            sleep(BURST_DURATION).await;
            block_in_place(|| cluster.server.fail_over(hangs));
            burst.settle(&cluster, &format!("failover {run}, the primary hangs: {hangs}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_one_node_is_cut_off_for_ten_seconds() {
    for server in [Server::redis(), Server::postgres()] {
        cut_off(server, &[1], "one node cut off").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_all_nodes_are_cut_off_for_ten_seconds() {
    for server in [Server::redis(), Server::postgres()] {
        cut_off(server, &[0, 1, 2], "all nodes cut off").await;
    }
}

/// Blocks all traffic between these nodes and the server: store calls and broadcasts.
async fn cut_off(server: Server, nodes: &[usize], what: &str) {
    let cluster = Cluster::start(server);
    let burst = Burst::start(&cluster);
    sleep(BURST_DURATION).await;
    for node in nodes.iter().map(|node| &cluster.nodes[*node]) {
        node.store.cut();
        node.broadcast.cut();
    }
    sleep(Duration::from_secs(5)).await;
    for node in nodes.iter().map(|node| &cluster.nodes[*node].demo) {
        let asked = Instant::now();
        let page = block_in_place(|| http::get(node.address(), "/counter")).unwrap();
        assert!(asked.elapsed() < UNAVAILABLE_LIMIT, "{what}: a page took {:?}", asked.elapsed());
        assert!(matches!(page.status, 200 | 503), "{what}: {}", page.text());
    }
    sleep(Duration::from_secs(5)).await;
    for node in nodes.iter().map(|node| &cluster.nodes[*node]) {
        node.store.mend();
        node.broadcast.mend();
    }
    burst.settle(&cluster, what).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_what_nodes_tell_each_other_is_swallowed_without_a_word() {
    for server in [Server::redis(), Server::postgres()] {
        let cluster = Cluster::start(server);
        let burst = Burst::start(&cluster);
        sleep(BURST_DURATION).await;
        cluster.nodes.iter().for_each(|node| node.broadcast.cut());
        sleep(Duration::from_secs(10)).await;
        cluster.nodes.iter().for_each(|node| node.broadcast.mend());
        burst.settle(&cluster, "no broadcasts for 10 s").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_04_what_a_node_saved_and_never_told_is_shown_within_ten_seconds_of_its_death() {
    for server in [Server::redis(), Server::postgres()] {
        let mut cluster = Cluster::start(server);
        let nodes = cluster.addresses();
        let followers = [Follower::start(vec![nodes[0]], false), Follower::start(vec![nodes[1]], false)];
        let mut writer = Writer::new(vec![nodes[2]], 0);
        writer.increment("broadcast").await;
        let (version, counter) = cluster.counter().await;
        let shown = async || followers.iter().all(|follower| follower.shows(version, &counter));
        until("it is shown", AGREEMENT_TIMEOUT, shown).await;
        // The node can reach the store, but not the other nodes.
        cluster.nodes[2].broadcast.cut();
        writer.increment("untold").await;
        let (version, counter) = cluster.counter().await;
        assert!(followers.iter().all(|follower| follower.cursor() != Some(version)));
        block_in_place(|| cluster.nodes[2].demo.kill());
        let shown = async || followers.iter().all(|follower| follower.shows(version, &counter));
        let took = until("its death is noticed", AGREEMENT_TIMEOUT, shown).await;
        eprintln!("a change that a killed node had not broadcast was shown after {took:?}");
    }
}
