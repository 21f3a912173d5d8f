//! The write-behind store: the promises that it keeps, and the one that it documents as not kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use faststate_core::{
    Access, Context, Event, Key, MemoryStore, ReactiveState, Registry, Rejection, Scope, StateConfig,
    StateRegistry, Store, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError, WriteBehind},
};
use faststate_testkit::{
    faults::{Overridden, StoreOverride},
    suites,
};
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// An interval longer than any test.
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
async fn write_behind_passes_the_suite() {
    let store: Arc<dyn Store> = WriteBehind::new(durable(), Duration::from_millis(1));
    suites::store::all(&store, &store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn write_behind_passes_the_suite_in_paused_time() {
    let store: Arc<dyn Store> = WriteBehind::new(durable(), Duration::from_millis(20));
    suites::store::all(&store, &store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn write_behind_writes_every_interval_and_on_settle() {
    let durable = durable();
    let registry = registry(&durable, Duration::from_secs(5));
    add(&registry).await;
    assert_eq!(stored(&durable).await, None, "it is acknowledged but not written yet");
    tokio::time::sleep(Duration::from_millis(5100)).await;
    assert_eq!(stored(&durable).await.as_deref(), Some("{\"count\":1}"));
    add(&registry).await;
    registry.settle().await;
    assert_eq!(stored(&durable).await.as_deref(), Some("{\"count\":2}"));
}

#[tokio::test(start_paused = true)]
async fn law_10_state_after_a_crash_has_another_epoch() {
    let durable = durable();
    let before = registry(&durable, NEVER);
    assert_eq!(add(&before).await, 1);
    before.settle().await;
    assert_eq!(add(&before).await, 2);
    let lost = before.global::<Tally>().unwrap().read().await.unwrap().version();
    drop(before);

    let after = registry(&durable, NEVER);
    let found = after.global::<Tally>().unwrap().read().await.unwrap();
    assert_eq!(found.count, 1, "changes after the last write are lost, as documented");
    assert_ne!(found.version().epoch, lost.epoch);
}

#[tokio::test(start_paused = true)]
async fn deleted_record_stays_deleted() {
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

fn key(id: &str) -> Key {
    Key::new("thing", Scope::Record, None, Some(id)).unwrap()
}

fn record(version: Version, data: &str, ttl: Option<Duration>) -> Record {
    Record::new(1, version, data.to_owned(), ttl)
}

/// A store with a mode in which it refuses saves.
#[derive(Debug, Default)]
struct Refusing {
    inner: MemoryStore,
    mode: AtomicU8,
}

const TAKES: u8 = 0;
const IS_FULL: u8 = 1;
const REFUSES_LONG: u8 = 2;

#[async_trait]
impl StoreOverride for Refusing {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        // Other tasks run in between.
        tokio::task::yield_now().await;
        self.inner.load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        tokio::task::yield_now().await;
        match self.mode.load(Ordering::SeqCst) {
            IS_FULL => Err(StoreError::Full("no room".into())),
            REFUSES_LONG if record.data.len() > 5 => Err(StoreError::Refused("too long".into())),
            _ => self.inner.save(key, record, expect, receipt).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_touch_during_eviction_keeps_the_durable_record() {
    const RECORDS: usize = 500;
    // Longer than the difference between the clocks of the two threads.
    const LONG: Duration = Duration::from_hours(48);
    for round in 0..100 {
        let durable = durable();
        let store = WriteBehind::new(Arc::clone(&durable), NEVER);
        let keys: Vec<_> = (0..RECORDS).map(|number| key(&number.to_string())).collect();
        for key in &keys {
            let first = record(Version::start(), "1", Some(LONG));
            store.save(key, &first, Precondition::Absent, None).await.unwrap();
        }
        store.flush().await.unwrap();
        tokio::time::advance(Duration::from_secs(301)).await;
        let swept = AtomicBool::new(false);
        // The eviction runs on this thread, whose clock is ahead, and the touches on another.
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !swept.load(Ordering::SeqCst) {
                    for key in &keys {
                        // Calls of a memory store complete without waiting.
                        let _ = store.touch(key, LONG).now_or_never();
                    }
                }
            });
            store.sweep(1000).now_or_never().unwrap().unwrap();
            swept.store(true, Ordering::SeqCst);
        });
        store.flush().await.unwrap();
        for key in &keys {
            let found = durable.load(key, None).await.unwrap().record;
            assert!(found.is_some(), "{key} is gone in round {round}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_evicted_record_can_be_touched() {
    let durable = durable();
    let store = WriteBehind::new(Arc::clone(&durable), NEVER);
    let hour = Duration::from_secs(3600);
    store
        .save(&key("a"), &record(Version::start(), "1", Some(hour)), Precondition::Absent, None)
        .await
        .unwrap();
    store.flush().await.unwrap();
    tokio::time::advance(Duration::from_secs(301)).await;
    store.sweep(1000).await.unwrap();
    assert!(store.touch(&key("a"), 2 * hour).await.unwrap(), "the record exists in the durable store");
    store.flush().await.unwrap();
    let found = durable.load(&key("a"), None).await.unwrap().record.unwrap();
    assert!(found.ttl.is_some_and(|left| left > hour), "{:?}", found.ttl);
}

/// A store whose next load returns only when it is released, with the record that it found before.
#[derive(Debug, Default)]
struct SlowLoad {
    inner: MemoryStore,
    is_slow: AtomicBool,
    found: Notify,
    released: Notify,
}

#[async_trait]
impl StoreOverride for SlowLoad {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let loaded = self.inner.load(key, receipt).await;
        if self.is_slow.swap(false, Ordering::SeqCst) {
            self.found.notify_one();
            self.released.notified().await;
        }
        loaded
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_record_deleted_during_a_slow_load_stays_deleted() {
    let durable = Arc::new(Overridden(SlowLoad::default()));
    let store = WriteBehind::new(Arc::clone(&durable) as _, NEVER);
    let first = record(Version::start(), "1", None);
    durable.inner.save(&key("a"), &first, Precondition::Absent, None).await.unwrap();
    durable.is_slow.store(true, Ordering::SeqCst);
    let slow = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.load(&key("a"), None).await.unwrap().record }
    });
    durable.found.notified().await;

    let found = store.load(&key("a"), None).await.unwrap().record.unwrap();
    assert!(store.delete(&key("a"), found.version).await.unwrap());
    store.flush().await.unwrap();
    assert_eq!(durable.load(&key("a"), None).await.unwrap().record, None, "it is deleted there as well");

    durable.released.notify_one();
    assert_eq!(slow.await.unwrap(), None);
    assert_eq!(store.load(&key("a"), None).await.unwrap().record, None);
}

#[tokio::test(start_paused = true)]
async fn law_01_record_changed_during_a_slow_load_is_returned() {
    let durable = Arc::new(Overridden(SlowLoad::default()));
    let store = WriteBehind::new(Arc::clone(&durable) as _, NEVER);
    let first = record(Version::start(), "1", None);
    durable.inner.save(&key("a"), &first, Precondition::Absent, None).await.unwrap();
    durable.is_slow.store(true, Ordering::SeqCst);
    let slow = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.load(&key("a"), None).await.unwrap().record }
    });
    durable.found.notified().await;

    let found = store.load(&key("a"), None).await.unwrap().record.unwrap();
    let second = record(found.version.next(), "2", None);
    let expect = Precondition::Version(found.version);
    assert_eq!(store.save(&key("a"), &second, expect, None).await.unwrap(), SaveOutcome::Saved);
    store.flush().await.unwrap();
    tokio::time::advance(Duration::from_secs(301)).await;
    store.sweep(1000).await.unwrap();

    durable.released.notify_one();
    assert_eq!(slow.await.unwrap().map(|record| record.data), Some(second.data), "not the old record");
}

#[tokio::test(start_paused = true)]
async fn law_01_no_save_is_acknowledged_while_durable_store_is_full() {
    let durable = Arc::new(Overridden(Refusing::default()));
    let store = WriteBehind::new(Arc::clone(&durable) as _, NEVER);
    let first = record(Version::start(), "1", None);
    store.save(&key("a"), &first, Precondition::Absent, None).await.unwrap();
    durable.mode.store(IS_FULL, Ordering::SeqCst);
    assert!(matches!(store.flush().await, Err(StoreError::Full(_))));

    assert!(matches!(store.ping().await, Err(StoreError::Full(_))), "it reports the error");
    for (id, expect) in [("a", Precondition::Version(first.version)), ("b", Precondition::Absent)] {
        let saving = store.save(&key(id), &record(Version::start(), "2", None), expect, None).await;
        assert!(matches!(saving, Err(StoreError::Full(_))), "{saving:?}");
    }
    let here = store.load(&key("a"), None).await.unwrap().record;
    assert_eq!(here, Some(first.clone()), "the acknowledged record is kept");

    durable.mode.store(TAKES, Ordering::SeqCst);
    let second = record(first.version.next(), "2", None);
    let saving = store.save(&key("a"), &second, Precondition::Version(first.version), None).await.unwrap();
    assert_eq!(saving, SaveOutcome::Saved);
    assert_eq!(durable.load(&key("a"), None).await.unwrap().record, Some(second));
    store.flush().await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_01_next_save_of_refused_record_is_written_through() {
    let durable = Arc::new(Overridden(Refusing::default()));
    durable.mode.store(REFUSES_LONG, Ordering::SeqCst);
    let store = WriteBehind::new(Arc::clone(&durable) as _, NEVER);
    let long = record(Version::start(), "123456", None);
    store.save(&key("a"), &long, Precondition::Absent, None).await.unwrap();
    assert!(matches!(store.flush().await, Err(StoreError::Refused(_))));
    assert!(store.ping().await.is_err(), "it reports the error");

    let longer = record(long.version.next(), "1234567", None);
    let saving = store.save(&key("a"), &longer, Precondition::Version(long.version), None).await;
    assert!(matches!(saving, Err(StoreError::Refused(_))), "{saving:?}");
    assert_eq!(store.load(&key("a"), None).await.unwrap().record, Some(long.clone()));
    // Other records are not affected.
    let other = record(Version::start(), "1", None);
    store.save(&key("b"), &other, Precondition::Absent, None).await.unwrap();
    assert_eq!(durable.load(&key("b"), None).await.unwrap().record, None, "it is written later");

    let short = record(long.version.next(), "12", None);
    let saving = store.save(&key("a"), &short, Precondition::Version(long.version), None).await.unwrap();
    assert_eq!(saving, SaveOutcome::Saved);
    assert_eq!(durable.load(&key("a"), None).await.unwrap().record, Some(short));
    store.ping().await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(durable.load(&key("b"), None).await.unwrap().record, Some(other));
}

#[tokio::test(start_paused = true)]
async fn law_01_refusal_of_durable_store_shows_in_health() {
    let durable = Arc::new(Overridden(Refusing::default()));
    durable.mode.store(IS_FULL, Ordering::SeqCst);
    let store: Arc<dyn Store> = Arc::clone(&durable) as _;
    let registry = registry(&store, Duration::from_secs(1));
    add(&registry).await;
    assert!(registry.health().await.is_healthy());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!registry.health().await.is_healthy());
    let tally = registry.global::<Tally>().unwrap();
    tally
        .update(|tally: &mut Tally| {
            tally.count += 1;
            Ok::<_, Rejection>(())
        })
        .await
        .unwrap_err();
    assert_eq!(tally.read().await.unwrap().count, 1);
    durable.mode.store(TAKES, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(registry.health().await.is_healthy());
    assert_eq!(stored(&store).await.as_deref(), Some("{\"count\":1}"));
}

#[tokio::test(start_paused = true)]
async fn law_01_stop_loses_nothing_despite_running_work() {
    let durable = durable();
    let config = StateConfig::global().access(Access::public()).persist().persist_every(NEVER);
    let registry = StateRegistry::builder()
        .store(Arc::clone(&durable))
        .state::<Tally>(config, |state| state.event::<Linger>())
        .build()
        .unwrap();
    registry.global::<Tally>().unwrap().send(Linger {}).await.unwrap();
    let late = Arc::clone(&registry);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        add(&late).await;
    });
    let settled = tokio::time::timeout(Duration::from_secs(10), registry.settle()).await;
    assert!(settled.is_err(), "the work is still running");
    assert_eq!(stored(&durable).await.as_deref(), Some("{\"count\":2}"));
}

/// Starts work after the commit that takes an hour.
#[derive(Serialize, Deserialize)]
struct Linger {}

impl Event for Linger {
    type State = Tally;
    const NAME: &'static str = "linger";

    fn apply(&self, tally: &mut Tally, context: &mut Context<Tally>) -> Result<(), Rejection> {
        tally.count += 1;
        context.after(|_| tokio::time::sleep(Duration::from_secs(3600)));
        Ok(())
    }
}
