//! Law 3: a key is in doubt until no earlier save can still take effect. Law 4: a followed key is verified regularly.

use super::*;

/// Sends an event whose save returns an error and takes effect 5 s later.
async fn save_late(store: &FaultyStore, item: &Handle<Item>) {
    store.next_saves([StoreFault::Late(Duration::from_secs(5))]);
    let began = Instant::now();
    assert!(matches!(item.send(Bump {}).await, Err(Error::OutcomeUnknown)));
    assert!(began.elapsed() <= Duration::from_secs(2));
    // Until then, the store has the old version.
    assert_eq!(item.read().await.unwrap().bumps, 1);
}

#[tokio::test(start_paused = true)]
async fn law_03_save_that_lands_after_a_load_is_noticed() {
    let (registry, store, _memory) = single();
    let (mut followed, mut followers) = (Vec::new(), Vec::new());
    follow(&registry, 1, &mut followed, &mut followers).await;
    let unfollowed = registry.record::<Item>("2").unwrap();
    unfollowed.send(Bump {}).await.unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while followers[0].poll_frames(&mut context, false).is_ready() {}
    save_late(&store, &followed[0]).await;
    sleep(Duration::from_secs(7)).await;
    assert!(followers[0].poll_frames(&mut context, false).is_ready(), "the follower gets the new version");
    save_late(&store, &unfollowed).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(unfollowed.read().await.unwrap().bumps, 2);
}

#[tokio::test(start_paused = true)]
async fn law_03_save_that_lands_after_a_load_reaches_other_nodes() {
    let mut world = World::new(2);
    for node in 0..2 {
        world.follow(node, 1).await;
    }
    let [a, b] = [0, 1].map(|node: usize| &world.nodes[node].followed[0]);
    // The first node adopts the second node's change in its own task.
    sleep(Duration::from_secs(1)).await;
    world.store.next_saves([StoreFault::Late(Duration::from_secs(5))]);
    assert!(matches!(a.send(Bump {}).await, Err(Error::OutcomeUnknown)));
    sleep(Duration::from_secs(7)).await;
    for item in [a, b] {
        assert_eq!(item.read().await.unwrap().bumps, 3, "two events and the late save");
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_save_that_never_lands_is_in_doubt_for_a_bounded_time() {
    let (registry, store, _memory) = single();
    let (mut followed, mut followers) = (Vec::new(), Vec::new());
    follow(&registry, 1, &mut followed, &mut followers).await;
    store.next_saves([StoreFault::Hang]);
    followed[0].send(Bump {}).await.unwrap_err();
    let loads = store.loads();
    sleep(Duration::from_secs(20)).await;
    let verifying = store.loads() - loads;
    assert!((4..=15).contains(&verifying), "{verifying} loads");
    let loads = store.loads();
    followed[0].read().await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(store.loads(), loads, "the doubt has ended");
    // A successful save ends the doubt at once, because the earlier save expects a version that no longer exists.
    store.next_saves([StoreFault::Hang]);
    followed[0].send(Bump {}).await.unwrap_err();
    followed[0].send(Bump {}).await.unwrap();
    let loads = store.loads();
    followed[0].read().await.unwrap();
    assert_eq!(store.loads(), loads);
}

#[tokio::test(start_paused = true)]
async fn law_04_followed_key_is_verified_on_a_single_node() {
    let (registry, _store, memory) = single();
    let (mut followed, mut followers) = (Vec::new(), Vec::new());
    follow(&registry, 1, &mut followed, &mut followers).await;
    overwrite(&*memory, followed[0].key(), 1_000).await;
    sleep(Duration::from_secs(80)).await;
    assert_eq!(followed[0].read().await.unwrap().bumps, 1_000);
}
