//! Several nodes in one process.

use faststate_testkit::{
    Browser, Cluster,
    faults::{BroadcastFault, StoreFault},
};

use super::app::{Stock, Take, shop};

#[tokio::test]
async fn any_node_takes_events_and_serves_streams() {
    let nodes = Cluster::start(3, shop);
    let [mut alice, mut bob, mut carol] = [0, 1, 2].map(|at| Browser::new(&nodes[at]));
    for window in [&mut alice, &mut bob, &mut carol] {
        window.follow("stock,stock.shelf").await;
    }
    for window in [&mut alice, &mut bob, &mut carol] {
        window.send(&Take { amount: 1 }).await.assert_changed();
    }
    for window in [&mut alice, &mut bob, &mut carol] {
        window.settle().await;
        window.assert_signal("stock.count", -3);
        window.assert_text("#shelf li", "-3 left");
    }
    alice.move_to(&nodes[2]).await;
    bob.send(&Take { amount: 1 }).await.assert_changed();
    alice.settle().await;
    alice.assert_state(&Stock { count: -4, ..Stock::default() });
}

#[tokio::test]
async fn law_03_repeat_on_another_node_is_recognised() {
    let nodes = Cluster::start(2, shop);
    let mut alice = Browser::new(&nodes[0]);
    alice.follow("stock").await;
    let click = alice.send_and_drop_reply(&Take { amount: 1 }).await;
    alice.move_to(&nodes[1]).await;
    alice.repeat(&click).await.assert_repeated();
    alice.settle().await;
    alice.assert_signal("stock.count", -1);
}

#[tokio::test]
async fn announced_loss_is_recovered() {
    let nodes = Cluster::start(2, shop);
    let [mut alice, mut bob] = [0, 1].map(|at| Browser::new(&nodes[at]));
    alice.follow("stock").await;
    nodes.broadcaster(0).set(|_| BroadcastFault::Lose);
    bob.send(&Take { amount: 1 }).await.assert_changed();
    alice.read().await;
    alice.assert_signal("stock.count", 0);
    nodes.broadcaster(0).announce_loss();
    alice.settle().await;
    alice.assert_signal("stock.count", -1);
}

#[tokio::test]
async fn save_of_unknown_outcome_is_applied_once() {
    let nodes = Cluster::start(2, shop);
    let mut alice = Browser::new(&nodes[0]);
    alice.follow("stock").await;
    nodes.store().next_saves([StoreFault::FailAfter]);
    alice.send(&Take { amount: 1 }).await.assert_changed();
    alice.settle().await;
    alice.assert_signal("stock.count", -1);
}
