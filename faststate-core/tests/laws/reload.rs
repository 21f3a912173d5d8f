//! Law 13: reloads after a doubt are bounded, do not block events, and end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Access, Context, Error, Event, Handle, Key, LocalBroadcaster, MemoryStore, ReactiveState, Registry,
    Rejection, StateConfig, StateRegistry, Store, Version, Viewer,
    internal::{Follower, TopicName},
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::{FaultyBroadcaster, FaultyStore, StoreFault};
use futures::future::join_all;
use parking_lot::Mutex;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// A store that handles 2,000 calls per second, one at a time.
const CAPACITY: StoreFault = StoreFault::Queue(Duration::from_micros(500));

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    bumps: u64,
}

impl ReactiveState for Item {
    const NAME: &'static str = "item";
}

#[derive(Serialize, Deserialize)]
struct Bump {}

impl Event for Bump {
    type State = Item;
    const NAME: &'static str = "bump";

    fn apply(&self, item: &mut Item, _: &mut Context<Item>) -> Result<(), Rejection> {
        item.bumps += 1;
        Ok(())
    }
}

struct Node {
    registry: Arc<StateRegistry>,
    broadcaster: Arc<FaultyBroadcaster>,
    followed: Vec<Handle<Item>>,
    followers: Vec<Follower>,
}

/// Nodes that share a store, and the memory behind the store.
struct World {
    nodes: Vec<Node>,
    store: Arc<FaultyStore>,
    memory: Arc<dyn Store>,
}

fn config() -> StateConfig {
    StateConfig::record().access(Access::public()).persist()
}

impl World {
    fn new(nodes: usize) -> Self {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let store = FaultyStore::new(Arc::clone(&memory));
        let hub = LocalBroadcaster::new();
        let node = || {
            let broadcaster = FaultyBroadcaster::new(Arc::new(hub.peer()));
            let registry = StateRegistry::builder()
                .store(Arc::clone(&store))
                .broadcaster(Arc::clone(&broadcaster))
                .state::<Item>(config(), |state| state.event::<Bump>())
                .build()
                .unwrap();
            Node { registry, broadcaster, followed: Vec::new(), followers: Vec::new() }
        };
        let nodes = (0..nodes).map(|_| node()).collect();
        Self { nodes, store, memory }
    }

    /// Follows a record on a node.
    async fn follow(&mut self, node: usize, id: usize) {
        let node = &mut self.nodes[node];
        follow(&node.registry, id, &mut node.followed, &mut node.followers).await;
    }

    /// Changes every second followed record in the store, without notifying the nodes.
    async fn change_behind(&self) {
        for node in &self.nodes {
            for item in node.followed.iter().step_by(2) {
                overwrite(&*self.memory, item.key(), 1_000).await;
            }
        }
    }

    /// Whether all of a node's followed records match the store.
    async fn is_fresh(&self, node: &Node) -> bool {
        for item in &node.followed {
            let shown = item.read().await.unwrap();
            let stored = self.memory.load(item.key(), None).await.unwrap().record;
            if stored.is_some_and(|stored| stored.version != shown.version()) || shown.is_stale() {
                return false;
            }
        }
        true
    }

    /// Notifies all nodes of a loss and waits until they agree with the store, while each node receives an event every
    /// 50 ms. Returns the duration, the number of loads, and the slowest reply.
    async fn recover(&self) -> (Duration, usize, Duration) {
        self.store.set(CAPACITY);
        self.change_behind().await;
        let (began, loads) = (Instant::now(), self.store.loads());
        self.nodes.iter().for_each(|node| node.broadcaster.announce_loss());
        let mut slowest = Duration::ZERO;
        for round in 1.. {
            let nodes = self.nodes.len();
            let events = self.nodes.iter().enumerate().map(|(at, node)| async move {
                let asked = Instant::now();
                // Nodes that follow the same keys change different ones, because conflicts are not measured here.
                let item =
                    &node.followed[rand::rng().random_range(0..node.followed.len() / nodes) * nodes + at];
                item.send(Bump {}).await.unwrap();
                asked.elapsed()
            });
            slowest = join_all(events).await.into_iter().fold(slowest, Duration::max);
            // Checked occasionally, because the check is slow.
            if round % 20 == 0 {
                let are_fresh = join_all(self.nodes.iter().map(|node| self.is_fresh(node))).await;
                if are_fresh.into_iter().all(|is_fresh| is_fresh) {
                    return (began.elapsed(), self.store.loads() - loads, slowest);
                }
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the nodes do not agree with the store");
            sleep(Duration::from_millis(50)).await;
        }
        unreachable!("the loop returns")
    }
}

async fn follow(
    registry: &Arc<StateRegistry>,
    id: usize,
    followed: &mut Vec<Handle<Item>>,
    followers: &mut Vec<Follower>,
) {
    let topic = TopicName::signals("item").of(id.to_string());
    let stream = followers.len() as u64;
    let item = registry.record::<Item>(&id.to_string()).unwrap();
    item.send(Bump {}).await.unwrap();
    followers.push(registry.engine().follow(&topic, &Viewer::application(), None, stream).await.unwrap());
    followed.push(item);
}

/// Saves a new state of a record, like a node that sends no messages.
async fn overwrite(store: &dyn Store, key: &Key, bumps: u64) {
    let found = store.load(key, None).await.unwrap().record;
    let expect = found.as_ref().map_or(Precondition::Absent, |found| Precondition::Version(found.version));
    let version = found.map_or_else(Version::start, |found| found.version.next());
    let data = Bytes::from(serde_json::to_vec(&Item { bumps }).unwrap());
    let record = Record { schema: 1, version, data, ttl: None };
    assert_eq!(store.save(key, &record, expect, None).await.unwrap(), SaveOutcome::Saved);
}

#[tokio::test(start_paused = true)]
async fn law_13_reload_is_bounded_after_a_loss() {
    let mut world = World::new(1);
    for id in 0..12_000 {
        world.follow(0, id).await;
    }
    let (took, loads, slowest) = world.recover().await;
    eprintln!("{took:?}, {loads} loads, slowest event {slowest:?}");
    assert!(took <= Duration::from_secs(30), "{took:?}");
    assert!(loads <= 13_000, "{loads} loads");
    assert!(slowest <= Duration::from_millis(200), "an event took {slowest:?}");
}

#[tokio::test(start_paused = true)]
async fn law_13_reload_is_bounded_when_ten_nodes_lose_at_once() {
    let mut world = World::new(10);
    for id in 0..12_000 {
        world.follow(id % 10, id).await;
    }
    let (took, loads, slowest) = world.recover().await;
    eprintln!("{took:?}, {loads} loads, slowest event {slowest:?}");
    assert!(took <= Duration::from_secs(30), "{took:?}");
    assert!(loads <= 13_000, "{loads} loads");
    assert!(slowest <= Duration::from_millis(200), "an event took {slowest:?}");
}

#[tokio::test(start_paused = true)]
async fn law_13_reload_is_bounded_when_ten_nodes_follow_the_same() {
    let mut world = World::new(10);
    for id in 0..750 {
        for node in 0..10 {
            world.follow(node, id).await;
        }
    }
    let (took, loads, slowest) = world.recover().await;
    eprintln!("{took:?}, {loads} loads, slowest event {slowest:?}");
    assert!(took <= Duration::from_secs(30), "{took:?}");
    assert!(loads <= 8_125, "{loads} loads");
    assert!(slowest <= Duration::from_millis(200), "an event took {slowest:?}");
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

/// One node over a store whose records may change during an outage.
fn single() -> (Arc<StateRegistry>, Arc<FaultyStore>, Arc<dyn Store>) {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(Arc::clone(&memory));
    let registry = StateRegistry::builder()
        .store(Arc::clone(&store))
        .state::<Item>(config(), |state| state.event::<Bump>())
        .build()
        .unwrap();
    (registry, store, memory)
}

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

/// A store that fails the loads of one record while a lock holds it.
#[derive(Debug)]
struct Locked {
    inner: Arc<dyn Store>,
    key: Mutex<Option<Key>>,
    loads: AtomicUsize,
}

#[async_trait]
impl Store for Locked {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        if self.key.lock().as_ref() == Some(key) {
            self.loads.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::Unavailable("a lock holds it".into()));
        }
        self.inner.load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        self.inner.save(key, record, expect, receipt).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.inner.delete(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.inner.touch(key, ttl).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_failed_reload_is_repeated_with_growing_pauses() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (key, loads) = (Mutex::default(), AtomicUsize::new(0));
    let store = Arc::new(Locked { inner: Arc::clone(&memory), key, loads });
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
