//! Law 13: the number of concurrent reloads is bounded, and events do not wait for them.

use super::*;

/// Checks that the nodes agree with the store within 30 s and `max_loads` loads, and answer each event within 200 ms.
async fn recovers_within(world: &World, max_loads: usize) {
    let (took, loads, slowest) = world.recover().await;
    assert!(took <= Duration::from_secs(30), "{took:?}");
    assert!(loads <= max_loads, "{loads} loads");
    assert!(slowest <= Duration::from_millis(200), "an event took {slowest:?}");
}

#[tokio::test(start_paused = true)]
async fn law_13_reload_is_bounded_after_a_loss() {
    let mut world = World::new(1);
    for id in 0..12_000 {
        world.follow(0, id).await;
    }
    recovers_within(&world, 13_000).await;
}

#[tokio::test(start_paused = true)]
async fn law_13_reload_is_bounded_when_ten_nodes_lose_at_once() {
    let mut world = World::new(10);
    for id in 0..12_000 {
        world.follow(id % 10, id).await;
    }
    recovers_within(&world, 13_000).await;
}

#[tokio::test(start_paused = true)]
async fn law_13_reload_is_bounded_when_ten_nodes_follow_the_same() {
    let mut world = World::new(10);
    for id in 0..750 {
        for node in 0..10 {
            world.follow(node, id).await;
        }
    }
    recovers_within(&world, 8_125).await;
}

#[tokio::test(start_paused = true)]
async fn law_13_reload_skips_keys_confirmed_after_the_doubt() {
    let mut world = World::new(1);
    for id in 0..200 {
        world.follow(0, id).await;
    }
    world.store.set(StoreFault::Queue(Duration::from_millis(5)));
    let (node, loads) = (&world.nodes[0], world.store.loads());
    node.broadcaster.announce_loss();
    sleep(Duration::from_millis(1)).await;
    // A save confirms the version that it expects.
    world.store.set(StoreFault::None);
    join_all(node.followed.iter().map(|item| async { item.send(Bump {}).await.unwrap() })).await;
    sleep(Duration::from_secs(20)).await;
    let loads = world.store.loads() - loads;
    assert!(loads <= 30, "{loads} loads of 200 confirmed keys");
}

#[tokio::test(start_paused = true)]
async fn law_13_event_does_not_wait_for_the_reload_of_its_key() {
    let mut world = World::new(1);
    world.follow(0, 1).await;
    let node = &world.nodes[0];
    world.store.set(StoreFault::Hang);
    node.broadcaster.announce_loss();
    sleep(Duration::from_millis(100)).await;
    world.store.set(StoreFault::None);
    let asked = Instant::now();
    node.followed[0].send(Bump {}).await.unwrap();
    assert_eq!(asked.elapsed(), Duration::ZERO);
}
