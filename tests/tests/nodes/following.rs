//! Followers match the store and never go back, whichever nodes they use.

use std::{sync::atomic::Ordering, time::Duration};

use futures::future::join_all;

use crate::{
    cluster::{Cluster, Server, until},
    user::{Follower, Writer},
};

const FOLLOWERS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_04_followers_that_move_between_nodes_on_redis_end_with_the_truth() {
    wander(Server::redis()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_04_followers_that_move_between_nodes_on_postgres_end_with_the_truth() {
    wander(Server::postgres()).await;
}

/// Followers that keep reconnecting to other nodes while every node accepts events.
async fn wander(server: Server) {
    let cluster = Cluster::start(server);
    let nodes = cluster.addresses();
    let mut followers: Vec<_> = (0..FOLLOWERS)
        .map(|follower| {
            let mut nodes = nodes.clone();
            nodes.rotate_left(follower % 3);
            Follower::start(nodes, true)
        })
        .collect();
    let writers = (0..6).map(|writer| {
        let node = nodes[writer % 3];
        tokio::spawn(async move {
            let mut sender = Writer::new(vec![node], 0);
            for event in 0..60 {
                sender.increment(&format!("{writer}-{event}")).await;
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        })
    });
    join_all(writers).await.into_iter().for_each(Result::unwrap);
    followers.iter().for_each(Follower::rest);
    let (version, counter) = cluster.counter().await;
    assert_eq!(counter["count"], 360);
    let agree = async || {
        for follower in &mut followers {
            follower.check().await;
        }
        followers.iter().all(|follower| follower.shows(version, &counter))
    };
    let took = until("all followers show the truth", Duration::from_secs(30), agree).await;
    let reconnects: usize = followers.iter().map(|f| f.reconnects.load(Ordering::SeqCst)).sum();
    eprintln!("{FOLLOWERS} followers moved {reconnects} times, and agreed {took:?} after the last event");
    assert!(reconnects > 2 * FOLLOWERS, "they moved {reconnects} times");
}
