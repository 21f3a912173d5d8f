//! The store that saves in the background: the promises it keeps, and the one it says it does not.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Access, Key, MemoryStore, ReactiveState, Registry, Rejection, Scope, StateConfig, StateRegistry, Store,
    conformance, store::WriteBehind,
};
use serde::{Deserialize, Serialize};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Tally {
    count: u32,
}

impl ReactiveState for Tally {
    const NAME: &'static str = "tally";
}

fn durable() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn registry(durable: &Arc<dyn Store>, interval: Duration) -> Arc<StateRegistry> {
    let config = StateConfig::global().access(Access::public()).persist().persist_every(interval);
    StateRegistry::builder().store(Arc::clone(durable)).state::<Tally>(config, |state| state).build().unwrap()
}

async fn add(registry: &Arc<StateRegistry>) -> u32 {
    let tally = registry.global::<Tally>().unwrap();
    let one_more = |tally: &mut Tally| {
        tally.count += 1;
        Ok::<_, Rejection>(())
    };
    tally.update(one_more).await.unwrap();
    tally.read().await.unwrap().count
}

async fn stored(durable: &Arc<dyn Store>) -> Option<String> {
    let key = Key::new("tally", Scope::Global, None, None).unwrap();
    let record = durable.load(&key, None).await.unwrap().record?;
    Some(String::from_utf8(record.data.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_keeps_the_promises_of_a_store() {
    let store: Arc<dyn Store> = WriteBehind::new(durable(), Duration::from_millis(1));
    conformance::store::all(&store, &store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_promises_of_time() {
    let store: Arc<dyn Store> = WriteBehind::new(durable(), Duration::from_millis(20));
    conformance::store::all(&store, &store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_writes_every_interval_and_when_the_registry_settles() {
    let durable = durable();
    let registry = registry(&durable, Duration::from_secs(5));
    add(&registry).await;
    assert_eq!(stored(&durable).await, None, "acknowledged, and not written yet");
    tokio::time::sleep(Duration::from_millis(5100)).await;
    assert_eq!(stored(&durable).await.as_deref(), Some("{\"count\":1}"));
    add(&registry).await;
    registry.settle().await;
    assert_eq!(stored(&durable).await.as_deref(), Some("{\"count\":2}"));
}

#[tokio::test(start_paused = true)]
async fn law_10_what_was_lost_in_a_crash_is_another_epoch() {
    let durable = durable();
    let before = registry(&durable, NEVER);
    assert_eq!(add(&before).await, 1);
    before.settle().await;
    assert_eq!(add(&before).await, 2);
    let lost = before.global::<Tally>().unwrap().read().await.unwrap().version();
    drop(before);

    let after = registry(&durable, NEVER);
    let found = after.global::<Tally>().unwrap().read().await.unwrap();
    assert_eq!(found.count, 1, "what was acknowledged after the last write is lost, as it says");
    assert_ne!(found.version().epoch, lost.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_record_stays_deleted() {
    let durable = durable();
    let registry = registry(&durable, NEVER);
    add(&registry).await;
    registry.settle().await;
    let tally = registry.global::<Tally>().unwrap();
    tally.delete().await.unwrap();
    assert_eq!(tally.read().await.unwrap().count, 0);
    assert!(stored(&durable).await.is_some(), "not written yet");
    registry.settle().await;
    assert_eq!(stored(&durable).await, None);
}
