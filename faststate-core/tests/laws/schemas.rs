//! A rolling deployment: nodes with an older and a newer `SCHEMA` share one store.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Access, BoxError, Error, Handle, Key, LocalBroadcaster, MemoryStore, ReactiveState, Scope, StateConfig,
    StateRegistry, Store, Version, Viewer,
    registry::Applied,
    store::{Precondition, Receipt, Record, SaveOutcome},
};
use faststate_testkit::faults::{BroadcastFault, FaultyBroadcaster, FaultyStore, StoreFault};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::sleep;

use crate::tab::Tab;

/// The first version of a timer, in seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct OldTimer {
    time: u64,
}

impl ReactiveState for OldTimer {
    const NAME: &'static str = "timer";
}

/// The second version, in milliseconds and with a label.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Timer {
    time: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
}

impl ReactiveState for Timer {
    const NAME: &'static str = "timer";
    const SCHEMA: u32 = 2;

    fn migrate(_: u32, data: &mut Value) -> Result<(), BoxError> {
        let seconds = data["time"].as_u64().ok_or("no time")?;
        data["time"] = (seconds * 1000).into();
        Ok(())
    }
}

/// A node with its own faults between it, the store and the other nodes.
struct Node<S: ReactiveState> {
    registry: Arc<StateRegistry>,
    timer: Handle<S>,
    store: Arc<FaultyStore>,
    broadcaster: Arc<FaultyBroadcaster>,
}

impl<S: ReactiveState> Node<S> {
    fn new(memory: &Arc<dyn Store>, hub: &LocalBroadcaster) -> Self {
        let store = FaultyStore::new(Arc::clone(memory));
        let broadcaster = FaultyBroadcaster::new(Arc::new(hub.peer()));
        let registry = StateRegistry::builder()
            .store(Arc::clone(&store))
            .broadcaster(Arc::clone(&broadcaster))
            .state::<S>(StateConfig::global().access(Access::public()).persist(), |state| state)
            .build()
            .unwrap();
        let timer = registry.global().unwrap();
        Self { registry, timer, store, broadcaster }
    }

    /// Follows the timer, so that the node receives changes.
    async fn follow(&self) -> Tab {
        Tab::open(&self.registry, &Viewer::application(), &["timer"]).await
    }
}

fn key() -> Key {
    Key::new("timer", Scope::Global, None, None).unwrap()
}

async fn store_old(memory: &dyn Store, time: u64) -> Version {
    let version = Version::start();
    let record = Record::new(1, version, format!(r#"{{"time":{time}}}"#), None);
    assert_eq!(memory.save(&key(), &record, Precondition::Absent, None).await.unwrap(), SaveOutcome::Saved);
    version
}

async fn stored(memory: &dyn Store) -> (u32, String) {
    let record = memory.load(&key(), None).await.unwrap().record.unwrap();
    (record.schema, String::from_utf8(record.data.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn law_10_loaded_change_is_sent_with_the_newer_schema_that_wrote_it() {
    let (memory, hub): (Arc<dyn Store>, _) = (Arc::new(MemoryStore::new()), LocalBroadcaster::new());
    let (old, other) = (Node::<OldTimer>::new(&memory, &hub), Node::<OldTimer>::new(&memory, &hub));
    let new = Node::<Timer>::new(&memory, &hub);
    store_old(&*memory, 9).await;
    let mut tab = other.follow().await;
    old.timer.read().await.unwrap();
    // The newer node's messages are lost, so the change is first announced by the older node, which loads it.
    new.broadcaster.set(|_| BroadcastFault::Lose);
    old.store.next_saves([StoreFault::Hang]);
    let writer = old.timer.clone();
    let unknown = tokio::spawn(async move {
        writer
            .update(|timer| {
                timer.time += 1;
                Ok(())
            })
            .await
    });
    sleep(Duration::from_millis(100)).await;
    let labelled = new.timer.update(|timer| {
        timer.label = "tea".to_owned();
        Ok(())
    });
    labelled.await.unwrap();
    unknown.await.unwrap().unwrap_err();
    sleep(Duration::from_secs(10)).await;
    tab.read();

    let add = other.timer.update(|timer| {
        timer.time += 1;
        Ok(())
    });
    let refused = add.await;
    assert!(matches!(refused, Err(Error::Busy(_))), "a newer record is read-only: {refused:?}");
    assert_eq!(stored(&*memory).await, (2, r#"{"time":9000,"label":"tea"}"#.to_owned()));
    assert_eq!(other.timer.read().await.unwrap().time, 9000);
}

#[tokio::test(start_paused = true)]
async fn law_10_loaded_change_is_sent_with_the_older_schema_that_wrote_it() {
    let (memory, hub): (Arc<dyn Store>, _) = (Arc::new(MemoryStore::new()), LocalBroadcaster::new());
    let (new, other) = (Node::<Timer>::new(&memory, &hub), Node::<Timer>::new(&memory, &hub));
    let old = Node::<OldTimer>::new(&memory, &hub);
    store_old(&*memory, 5).await;
    let mut tab = other.follow().await;
    new.timer.read().await.unwrap();
    old.broadcaster.set(|_| BroadcastFault::Lose);
    new.store.next_saves([StoreFault::Hang]);
    let writer = new.timer.clone();
    let unknown = tokio::spawn(async move {
        writer
            .update(|timer| {
                timer.time += 1;
                Ok(())
            })
            .await
    });
    sleep(Duration::from_millis(100)).await;
    let next = old.timer.update(|timer| {
        timer.time = 6;
        Ok(())
    });
    next.await.unwrap();
    unknown.await.unwrap().unwrap_err();
    sleep(Duration::from_secs(10)).await;
    tab.read();
    for node in [&new, &other] {
        assert_eq!(node.timer.read().await.unwrap().time, 6000, "the record is upgraded");
    }
    tab.follows(&Timer { time: 6000, label: String::new() });
}

async fn set(timer: &Handle<Timer>, time: u64) -> Applied {
    let set = timer.update(move |timer| {
        timer.time = time;
        Ok(())
    });
    set.await.unwrap().answer
}

#[tokio::test]
async fn law_02_event_whose_result_equals_the_old_bytes_is_saved() {
    let (memory, hub): (Arc<dyn Store>, _) = (Arc::new(MemoryStore::new()), LocalBroadcaster::new());
    store_old(&*memory, 5).await;
    let node = Node::<Timer>::new(&memory, &hub);
    assert_eq!(node.timer.read().await.unwrap().time, 5000);
    assert_eq!(set(&node.timer, 5000).await, Applied::Unchanged);
    assert_eq!(stored(&*memory).await, (1, r#"{"time":5}"#.to_owned()), "nothing has changed");
    assert_eq!(set(&node.timer, 5).await, Applied::Changed);
    assert_eq!(stored(&*memory).await, (2, r#"{"time":5}"#.to_owned()));
    assert_eq!(Node::<Timer>::new(&memory, &hub).timer.read().await.unwrap().time, 5);
}

#[tokio::test]
async fn law_03_receipt_of_an_unchanged_older_record_keeps_versions_distinct() {
    let (memory, hub): (Arc<dyn Store>, _) = (Arc::new(MemoryStore::new()), LocalBroadcaster::new());
    let version = store_old(&*memory, 5).await;
    let node = Node::<Timer>::new(&memory, &hub);
    let id = "same".parse().unwrap();
    let receipt = Receipt::new(&key(), "nothing", &id);
    let outcome = node.timer.send_as(Nothing, Viewer::application(), id).await.unwrap();
    assert_eq!(outcome.answer, Applied::Unchanged);
    let loaded = memory.load(&key(), Some(&receipt)).await.unwrap();
    let record = loaded.record.unwrap();
    assert!(loaded.receipt.is_some());
    // An older node that has this version must not take the record for the one that it has.
    assert!(record.schema == 1 || record.version != version, "{record:?}");
    assert_eq!(Node::<Timer>::new(&memory, &hub).timer.read().await.unwrap().time, 5000);
}

/// Changes nothing.
#[derive(Serialize, Deserialize)]
struct Nothing;

impl faststate_core::Event for Nothing {
    type State = Timer;
    const NAME: &'static str = "nothing";

    fn apply(
        &self,
        _: &mut Timer,
        _: &mut faststate_core::Context<Timer>,
    ) -> Result<(), faststate_core::Rejection> {
        Ok(())
    }
}
