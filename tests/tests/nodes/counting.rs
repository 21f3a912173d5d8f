//! Every event counts exactly once, on any node.

use std::{collections::HashSet, time::Instant};

use faststate_core::Version;
use faststate_tests::Demo;
use futures::future::join_all;

use crate::{
    cluster::{Cluster, Server},
    user::{Tally, Writer},
};

/// The number of tasks that send events to each node.
const TASKS: usize = 8;

/// The number of events of each task: `FASTSTATE_NODES_EVENTS`, by default few.
fn events() -> usize {
    let events = std::env::var("FASTSTATE_NODES_EVENTS").ok();
    events.map_or(150, |events| events.parse().expect("FASTSTATE_NODES_EVENTS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_02_three_nodes_on_one_redis_count_exactly() {
    count(Server::redis()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_02_three_nodes_on_one_postgres_count_exactly() {
    count(Server::postgres()).await;
}

async fn count(server: Server) {
    let cluster = Cluster::start(server);
    let started = Instant::now();
    let tasks = (0..3 * TASKS).map(|task| {
        let node = cluster.addresses()[task % 3];
        tokio::spawn(async move {
            let mut writer = Writer::new(vec![node], 0);
            for event in 0..events() {
                writer.increment(&format!("{task}-{event}")).await;
            }
            (writer.tally, started.elapsed())
        })
    });
    let tallies: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    let took = started.elapsed();
    let all = 3 * TASKS * events();
    let (version, counter) = cluster.counter().await;
    let slowest = tallies.iter().map(|(tally, _)| tally.slowest).max().unwrap();
    let first = tallies.iter().map(|(_, done)| *done).min().unwrap();
    let failures: usize = tallies.iter().map(|(tally, _)| tally.failures).sum();
    eprintln!(
        "{all} events on one key from 3 nodes x {TASKS} tasks: {:.0} a second, {} conflicts, {failures} \
         refused and sent again, the slowest answer {slowest:?}, the first task done after {first:?} of {took:?}",
        all as f64 / took.as_secs_f64(),
        cluster.conflicts(),
    );
    assert_eq!(counter["count"], all, "every event counts exactly once");
    assert_eq!(version.seq, all as u64);
    let (mut own, mut later) = (Vec::new(), Vec::new());
    for (tally, _) in tallies {
        own.extend(tally.versions);
        later.extend(tally.later);
    }
    let started_over = own.iter().chain(&later).any(|other| other.epoch != version.epoch);
    assert!(!started_over, "nothing has started over");
    gap_free(version.seq, own, later);
}

/// Each version from the first to the last belongs to one event: nearly all of them to an event that was answered
/// with it, and each of the rest to a repeated event, which was answered with that version or a later one.
fn gap_free(last: u64, own: Vec<Version>, later: Vec<Version>) {
    let events = own.len();
    let own: HashSet<u64> = own.into_iter().map(|version| version.seq).collect();
    assert_eq!(own.len(), events, "no two events share a version");
    assert!(own.iter().all(|seq| (1..=last).contains(seq)), "there is no version beyond the last");
    let left = (1..=last).filter(|seq| !own.contains(seq));
    let mut later: Vec<_> = later.into_iter().map(|version| version.seq).collect();
    later.sort_unstable();
    let left: Vec<_> = left.collect();
    assert_eq!(left.len(), later.len(), "the versions are gap-free: {left:?} are left for {later:?}");
    // Both are sorted: if any assignment fits, this one does.
    let fit = left.iter().zip(&later).all(|(version, answered)| version <= answered && *answered <= last);
    assert!(fit, "{left:?} are not the versions of events that were answered with {later:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_03_an_event_sent_to_all_nodes_at_once_applies_once() {
    for server in [Server::redis(), Server::postgres()] {
        let cluster = Cluster::start(server);
        for event in 0..30 {
            let id = format!("the-same-{event}");
            let mut writers: Vec<_> =
                cluster.addresses().into_iter().map(|node| Writer::new(vec![node], 0)).collect();
            join_all(writers.iter_mut().map(|writer| writer.increment(&id))).await;
            let acknowledged = |tally: &Tally| tally.versions.len() + tally.later.len();
            assert!(writers.iter().all(|writer| acknowledged(&writer.tally) == 1));
        }
        let (version, counter) = cluster.counter().await;
        assert_eq!((&counter["count"], version.seq), (&30.into(), 30));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_know_each_other_by_name() {
    let cluster = Cluster::start(Server::redis());
    let names = |demo: &Demo| (demo.health()["node"].clone(), demo.health()["nodes"].clone());
    for node in &cluster.nodes {
        faststate_tests::until(
            "each to know the others",
            || names(&node.demo).1,
            |names| names.as_array().is_some_and(|names| names.len() == 2),
        );
    }
    assert_eq!(names(&cluster.nodes[0].demo), ("a".into(), ["b", "c"].as_slice().into()));
}
