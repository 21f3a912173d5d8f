//! Reloads after a doubt are bounded, do not block events, and end: the nodes, their shared store and its faults.

mod bounds;
mod late_saves;
mod leaving;
mod outage;

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
use faststate_testkit::faults::{FaultyBroadcaster, FaultyStore, Overridden, StoreFault, StoreOverride};
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
    let record = Record::new(1, version, data, None);
    assert_eq!(store.save(key, &record, expect, None).await.unwrap(), SaveOutcome::Saved);
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
