//! The number of a key's followers on all nodes, also after a node has died.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Access, Broadcaster, Context, Event, Handle, Key, LocalBroadcaster, MemoryStore, ReactiveState, Registry,
    Rejection, StateConfig, StateRegistry, Store, Viewer,
    broadcast::{BroadcastError, Change, Inbox, Interest},
    internal::{Follower, TopicName},
};
use faststate_testkit::faults::{BroadcastFault, FaultyBroadcaster};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::board::until;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Room {
    present: usize,
    texts: usize,
}

impl ReactiveState for Room {
    const NAME: &'static str = "room";
}

#[derive(Serialize, Deserialize)]
struct Present {
    present: usize,
}

impl Event for Present {
    type State = Room;
    const NAME: &'static str = "present";

    fn apply(&self, room: &mut Room, _: &mut Context<Room>) -> Result<(), Rejection> {
        room.present = self.present;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Say {}

impl Event for Say {
    type State = Room;
    const NAME: &'static str = "say";

    fn apply(&self, room: &mut Room, _: &mut Context<Room>) -> Result<(), Rejection> {
        room.texts += 1;
        Ok(())
    }
}

struct Node {
    registry: Arc<StateRegistry>,
    broadcaster: Arc<FaultyBroadcaster>,
}

fn nodes() -> [Node; 3] {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = LocalBroadcaster::new();
    ["a", "b", "c"].map(|name| {
        let broadcaster = FaultyBroadcaster::new(Arc::new(hub.peer()));
        let registry = presence_registry(&store, &broadcaster, name);
        Node { registry, broadcaster }
    })
}

fn presence_registry(
    store: &Arc<dyn Store>,
    broadcaster: &Arc<FaultyBroadcaster>,
    name: &str,
) -> Arc<StateRegistry> {
    let config = StateConfig::record().access(Access::public()).persist();
    StateRegistry::builder()
        .store(Arc::clone(store))
        .broadcaster(Arc::clone(broadcaster))
        .node(name)
        .state::<Room>(config, |state| state.event::<Say>().presence(|present| Present { present }))
        .build()
        .unwrap()
}

async fn follow(node: &Node, room: &str, stream: u64) -> Follower {
    let topic: TopicName = format!("room:{room}").parse().unwrap();
    node.registry.engine().follow(&topic, &Viewer::application(), None, stream).await.unwrap()
}

fn room(node: &Node, id: &str) -> Handle<Room> {
    node.registry.record(id).unwrap()
}

async fn becomes(node: &Node, id: &str, present: usize) -> Duration {
    let asked = Instant::now();
    let what = format!("{present} in {id}");
    until(&what, async || room(node, id).read().await.unwrap().present == present).await;
    asked.elapsed()
}

#[tokio::test(start_paused = true)]
async fn followers_are_counted_over_all_nodes() {
    let nodes = nodes();
    let mut followers = Vec::new();
    for stream in 0..10 {
        for node in &nodes {
            followers.push(follow(node, "lobby", stream).await);
        }
        followers.push(follow(&nodes[0], "attic", 100 + stream).await);
    }
    assert!(becomes(&nodes[0], "lobby", 30).await < Duration::from_secs(1));
    becomes(&nodes[0], "attic", 10).await;
    followers.truncate(8);
    assert!(becomes(&nodes[1], "lobby", 6).await < Duration::from_secs(1));
    becomes(&nodes[1], "attic", 2).await;
    // Once the followers stop changing, the count is right and no node saves any more.
    sleep(Duration::from_secs(5)).await;
    let quiet = room(&nodes[2], "lobby").read().await.unwrap().version();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(room(&nodes[2], "lobby").read().await.unwrap().version(), quiet);
    followers.clear();
    becomes(&nodes[1], "lobby", 0).await;
    becomes(&nodes[1], "attic", 0).await;
}

#[tokio::test(start_paused = true)]
async fn count_is_right_within_ten_seconds_of_a_nodes_death() {
    let [a, b, c] = nodes();
    let _here = follow(&a, "lobby", 1).await;
    let there = [follow(&b, "lobby", 1).await, follow(&b, "lobby", 2).await, follow(&c, "lobby", 1).await];
    becomes(&a, "lobby", 4).await;
    until("they know each other", async || a.registry.health().await.nodes == ["b", "c"]).await;
    // The node dies without a goodbye: its messages are lost, and its streams end without a notice.
    let Node { registry, broadcaster } = b;
    drop(broadcaster);
    drop(registry);
    std::mem::forget(there);
    let took = becomes(&a, "lobby", 2).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(a.registry.health().await.nodes, ["c"]);
}

#[tokio::test(start_paused = true)]
async fn law_04_unpublished_change_of_a_dead_node_is_shown_soon() {
    let [a, b, c] = nodes();
    let _here = follow(&a, "lobby", 1).await;
    until("they know each other", async || a.registry.health().await.nodes == ["b", "c"]).await;
    a.broadcaster.set(|_| BroadcastFault::Lose);
    room(&b, "lobby").send(Say {}).await.unwrap();
    drop(b);
    let key = a.registry.key("room", &Viewer::application(), Some("lobby")).unwrap();
    let asked = Instant::now();
    // Followed instances are read from memory without a load.
    until("the change is shown", async || {
        let reading = a.registry.read(&key).await.unwrap();
        reading.state.downcast_ref::<Room>().is_some_and(|room| room.texts == 1)
    })
    .await;
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    drop(c);
}

#[tokio::test(start_paused = true)]
async fn law_04_silently_lost_change_is_found_by_verification() {
    let [a, b, _c] = nodes();
    let _here = follow(&a, "lobby", 1).await;
    a.broadcaster.set(|_| BroadcastFault::Lose);
    room(&b, "lobby").send(Say {}).await.unwrap();
    let key = a.registry.key("room", &Viewer::application(), Some("lobby")).unwrap();
    let texts = async || {
        let reading = a.registry.read(&key).await.unwrap();
        reading.state.downcast_ref::<Room>().unwrap().texts
    };
    assert_eq!(texts().await, 0, "the change was not received");
    sleep(Duration::from_secs(80)).await;
    assert_eq!(texts().await, 1);
}

/// A broadcaster whose messages are lost while the node is mute.
#[derive(Debug)]
struct Mute {
    inner: LocalBroadcaster,
    is_mute: Arc<AtomicBool>,
}

#[async_trait]
impl Broadcaster for Mute {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        self.inner.publish(change).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        if self.is_mute.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.inner.notify(key, message).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        self.inner.join(key).await
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.inner.attach(inbox);
    }
}

#[tokio::test(start_paused = true)]
async fn followers_of_a_node_that_was_cut_off_are_counted_again() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (hub, is_mute) = (LocalBroadcaster::new(), Arc::<AtomicBool>::default());
    let [a, b] = ["a", "b"].map(|name| {
        let is_mute = if name == "b" { Arc::clone(&is_mute) } else { Arc::default() };
        let transport = Mute { inner: hub.peer(), is_mute };
        let broadcaster = FaultyBroadcaster::new(Arc::new(transport));
        let registry = presence_registry(&store, &broadcaster, name);
        Node { registry, broadcaster }
    });
    let _followers = [follow(&a, "lobby", 1).await, follow(&b, "lobby", 1).await];
    becomes(&a, "lobby", 2).await;
    is_mute.store(true, Ordering::SeqCst);
    becomes(&a, "lobby", 1).await;
    // The exchange of counts that this causes is over.
    sleep(Duration::from_secs(5)).await;
    is_mute.store(false, Ordering::SeqCst);
    assert!(becomes(&a, "lobby", 2).await < Duration::from_secs(3));
}
