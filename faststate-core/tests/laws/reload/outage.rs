//! Law 13: reloads during and after an outage of the store.

use super::*;

/// Opens the store's circuit breaker while no instance in memory is used, and changes a record in the meantime.
async fn rest(registry: &StateRegistry, store: &FaultyStore, memory: &dyn Store, key: &Key) {
    store.set(StoreFault::Fail);
    for _ in 0..3 {
        assert!(!registry.health().await.is_healthy());
    }
    overwrite(memory, key, 1_000).await;
    store.set(StoreFault::None);
    sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn law_13_nodes_agree_within_five_seconds_of_recovery() {
    for fault in [StoreFault::Fail, StoreFault::Hang] {
        let mut world = World::new(2);
        for id in 0..500 {
            world.follow(id % 2, id).await;
        }
        world.store.set(fault);
        world.nodes.iter().for_each(|node| node.broadcaster.announce_loss());
        sleep(Duration::from_secs(60)).await;
        let tried = world.store.loads();
        sleep(Duration::from_secs(60)).await;
        let tried = world.store.loads() - tried;
        assert!(tried <= 2 * 120, "{tried} loads of a dead store in a minute");
        world.change_behind().await;
        let loads = world.store.loads();
        world.store.set(CAPACITY);
        // 500 loads at a quarter of 2,000 per second.
        sleep(Duration::from_secs(6)).await;
        for node in &world.nodes {
            assert!(world.is_fresh(node).await, "after {fault:?}");
        }
        let loads = world.store.loads() - loads;
        assert!(loads <= 600, "{loads} loads");
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_followed_key_is_reloaded_when_the_store_recovers() {
    let (registry, store, memory) = single();
    let (mut followed, mut followers) = (Vec::new(), Vec::new());
    follow(&registry, 1, &mut followed, &mut followers).await;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while followers[0].poll_frames(&mut context, false).is_ready() {}
    rest(&registry, &store, &*memory, followed[0].key()).await;
    assert!(followers[0].poll_frames(&mut context, false).is_ready(), "the follower gets the new version");
    assert_eq!(followed[0].read().await.unwrap().bumps, 1_000);
}

#[tokio::test(start_paused = true)]
async fn law_13_unfollowed_key_is_loaded_on_use_after_recovery() {
    let (registry, store, memory) = single();
    let item = registry.record::<Item>("1").unwrap();
    item.send(Bump {}).await.unwrap();
    let loads = store.loads();
    rest(&registry, &store, &*memory, item.key()).await;
    assert_eq!(store.loads(), loads, "no caller uses it");
    // The load of another record closes the circuit breaker.
    registry.record::<Item>("2").unwrap().read().await.unwrap();
    assert_eq!(item.read().await.unwrap().bumps, 1_000);
}

#[tokio::test(start_paused = true)]
async fn law_13_unreadable_record_is_not_loaded_repeatedly() {
    let (registry, store, memory) = single();
    let (mut followed, mut followers) = (Vec::new(), Vec::new());
    follow(&registry, 1, &mut followed, &mut followers).await;
    let item = &followed[0];
    let found = memory.load(item.key(), None).await.unwrap().record.unwrap();
    let broken = Record { version: found.version.next(), data: "[broken".into(), ..found };
    memory.save(item.key(), &broken, Precondition::Version(found.version), None).await.unwrap();
    let is_corrupt = |error: &Error| matches!(error, Error::Unavailable(StoreError::Corrupt { .. }));
    // The event finds a conflict, loads the record and cannot read it.
    assert!(is_corrupt(&item.send(Bump {}).await.unwrap_err()));
    let loads = store.loads();
    sleep(Duration::from_secs(600)).await;
    assert!(store.loads() - loads <= 2, "{} loads in 600 s", store.loads() - loads);
    let loads = store.loads();
    for _ in 0..100 {
        assert!(is_corrupt(&item.read().await.unwrap_err()));
    }
    assert!(store.loads() - loads <= 2, "{} loads for 100 reads", store.loads() - loads);
    // The record was repaired: an event tries again at once, a read only after a while.
    let repaired = Record { version: broken.version.next(), data: "{\"bumps\":5}".into(), ..broken.clone() };
    memory.save(item.key(), &repaired, Precondition::Version(broken.version), None).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(item.read().await.unwrap().bumps, 5);
    item.send(Bump {}).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_13_dead_store_is_released_with_its_registry() {
    for fault in [StoreFault::Fail, StoreFault::Hang] {
        let (registry, store, memory) = single();
        let (mut followed, mut followers) = (Vec::new(), Vec::new());
        follow(&registry, 1, &mut followed, &mut followers).await;
        store.set(fault);
        join_all((0..3).map(|_| registry.health())).await;
        assert!(followed[0].read().await.unwrap().is_stale());
        sleep(Duration::from_secs(10)).await;
        drop((registry, followed, followers, memory));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(Arc::strong_count(&store), 1, "the store is still pinged after {fault:?}");
    }
}

/// A store that fails the loads of one record while a lock holds it.
#[derive(Debug)]
struct Locked {
    inner: Arc<dyn Store>,
    key: Mutex<Option<Key>>,
    loads: AtomicUsize,
}

#[async_trait]
impl StoreOverride for Locked {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        if self.key.lock().as_ref() == Some(key) {
            self.loads.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::Unavailable("a lock holds it".into()));
        }
        self.inner.load(key, receipt).await
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_failed_reload_is_repeated_with_growing_pauses() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (key, loads) = (Mutex::default(), AtomicUsize::new(0));
    let store = Arc::new(Overridden(Locked { inner: Arc::clone(&memory), key, loads }));
    let broadcaster = FaultyBroadcaster::new(Arc::new(LocalBroadcaster::new()));
    let registry = StateRegistry::builder()
        .store(Arc::clone(&store))
        .broadcaster(Arc::clone(&broadcaster))
        .state::<Item>(config(), |state| state.event::<Bump>())
        .build()
        .unwrap();
    let (mut followed, mut followers) = (Vec::new(), Vec::new());
    for id in 0..2 {
        follow(&registry, id, &mut followed, &mut followers).await;
    }
    *store.key.lock() = Some(followed[0].key().clone());
    broadcaster.announce_loss();
    for _ in 0..600 {
        sleep(Duration::from_secs(1)).await;
        // Loads of the other record succeed, so the circuit breaker stays closed.
        registry.record::<Item>(&rand::random::<u32>().to_string()).unwrap().read().await.unwrap();
    }
    let loads = store.loads.load(Ordering::SeqCst);
    assert!((200..=420).contains(&loads), "{loads} loads in 600 s");
    overwrite(&*memory, followed[0].key(), 1_000).await;
    *store.key.lock() = None;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(followed[0].read().await.unwrap().bumps, 1_000);
}
