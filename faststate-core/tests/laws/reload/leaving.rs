//! Law 15: a node that leaves causes no reload on the other nodes.

use super::*;

#[tokio::test(start_paused = true)]
async fn law_15_leaving_node_causes_no_reload() {
    let mut world = World::new(3);
    for id in 0..100 {
        for node in 0..3 {
            world.follow(node, id).await;
        }
    }
    let others = async |world: &World| world.nodes[0].registry.health().await.nodes.len();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(others(&world).await, 2);
    let loads = world.store.loads();
    let leaving = &world.nodes[2].registry;
    leaving.settle().await;
    leaving.leave().await;
    assert_eq!(others(&world).await, 1, "the other nodes remove it at once");
    sleep(Duration::from_secs(10)).await;
    assert_eq!((world.store.loads() - loads, others(&world).await), (0, 1));
    // A node that goes silent without a goodbye may have saved changes that it did not send.
    world.store.set(CAPACITY);
    world.nodes.remove(1);
    sleep(Duration::from_secs(6)).await;
    let loads = world.store.loads() - loads;
    assert!((100..=110).contains(&loads), "{loads} loads");
}

#[tokio::test(start_paused = true)]
async fn law_15_node_with_an_unsettled_save_sends_no_goodbye() {
    let mut world = World::new(2);
    for node in 0..2 {
        world.follow(node, 1).await;
    }
    sleep(Duration::from_secs(3)).await;
    let (leaving, here) = (world.nodes.pop().unwrap(), &world.nodes[0]);
    world.store.next_saves([StoreFault::Late(Duration::from_millis(2_500))]);
    assert!(matches!(leaving.followed[0].send(Bump {}).await, Err(Error::OutcomeUnknown)));
    leaving.registry.leave().await;
    assert_eq!(here.registry.health().await.nodes.len(), 1);
    drop(leaving);
    sleep(Duration::from_secs(8)).await;
    assert_eq!(here.registry.health().await.nodes.len(), 0);
    assert_eq!(here.followed[0].read().await.unwrap().bumps, 3);
}
