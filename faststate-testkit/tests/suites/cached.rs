//! The cached store: reads are correct even if one of its two stores is slow, evicts or fails.

mod chaos;
mod naive;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use faststate_core::{
    EventId, Key, MemoryStore, Scope, Store, Version,
    store::{Cached, Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::{
    faults::{FaultyStore, Overridden, StoreFault, StoreOverride},
    suites,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

type Shared = Arc<dyn Store>;

fn memory() -> Shared {
    Arc::new(MemoryStore::new())
}

fn key() -> Key {
    Key::new("test", Scope::Global, None, None).unwrap()
}

fn record(version: Version) -> Record {
    Record::new(1, version, format!(r#"{{"at":"{version}"}}"#), None)
}

/// A store whose loads can be held after they have read.
#[derive(Debug)]
struct Held {
    inner: MemoryStore,
    gate: Semaphore,
}

impl Held {
    fn new() -> Arc<Overridden<Self>> {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Arc::new(Overridden(Self { inner: MemoryStore::new(), gate }))
    }

    /// Holds later loads until the gate gets permits.
    fn hold(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }
}

#[async_trait]
impl StoreOverride for Held {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let loaded = self.inner.load(key, receipt).await;
        let permit = self.gate.acquire().await.unwrap();
        drop(permit);
        loaded
    }
}

struct World {
    fast: Arc<FaultyStore>,
    durable: Arc<FaultyStore>,
    cached: Cached<Arc<FaultyStore>, Arc<FaultyStore>>,
    present: Record,
}

/// Creates a cached store with one record in both of its stores.
async fn world() -> World {
    let (fast, durable) = (FaultyStore::new(memory()), FaultyStore::new(memory()));
    let cached = Cached::new(Arc::clone(&fast), Arc::clone(&durable));
    let present = record(Version::start());
    cached.save(&key(), &present, Precondition::Absent, None).await.unwrap();
    World { fast, durable, cached, present }
}

async fn version(store: &impl Store) -> Option<Version> {
    store.load(&key(), None).await.unwrap().record.map(|record| record.version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cached_store_passes_the_suite() {
    let one: Shared = Arc::new(Cached::new(memory(), memory()));
    suites::store::all(&one, &one).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_over_one_cached_store_pass_the_suite() {
    let (fast, durable) = (memory(), memory());
    let node = || -> Shared { Arc::new(Cached::new(Arc::clone(&fast), Arc::clone(&durable))) };
    suites::store::all(&node(), &node()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn receipts_are_kept_by_the_durable_store() {
    let cached: Shared = Arc::new(Cached::new(memory(), memory()));
    suites::store::receipt_is_kept_for_ten_minutes(&cached, tokio::time::advance).await.unwrap();
    suites::store::message_receipt_is_kept_until_release(&cached, tokio::time::advance).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn evicted_record_is_cached_again() {
    let World { durable, cached, present, .. } = world().await;
    let asked = durable.loads();
    for _ in 0..10 {
        assert_eq!(version(&cached).await, Some(present.version));
    }
    assert_eq!(durable.loads(), asked);
    sleep(Duration::from_secs(61)).await;
    for _ in 0..10 {
        assert_eq!(version(&cached).await, Some(present.version));
    }
    assert_eq!(durable.loads(), asked + 1);
}

#[tokio::test(start_paused = true)]
async fn slow_fill_does_not_overwrite_a_newer_save() {
    let (fast, durable) = (memory(), Held::new());
    let node = || Arc::new(Cached::new(Arc::clone(&fast), Arc::clone(&durable)));
    let (a, b) = (node(), node());
    let old = record(Version::start());
    durable.inner.save(&key(), &old, Precondition::Absent, None).await.unwrap();
    durable.hold();
    let reader = tokio::spawn(async move { version(&*a).await });
    // The reader has loaded the old record and is held.
    tokio::task::yield_now().await;
    sleep(Duration::from_millis(1)).await;
    let new = record(old.version.next());
    let saving = b.save(&key(), &new, Precondition::Version(old.version), None).await.unwrap();
    assert_eq!(saving, SaveOutcome::Saved);
    durable.gate.add_permits(1);
    assert_eq!(reader.await.unwrap(), Some(old.version), "the read started before the save");
    durable.gate.add_permits(Semaphore::MAX_PERMITS - 1);
    assert_eq!(version(&*b).await, Some(new.version));
    assert_eq!(version(&*b).await, Some(new.version));
}

#[tokio::test(start_paused = true)]
async fn cache_never_hides_a_save_of_unknown_outcome() {
    for fault in [StoreFault::FailAfter, StoreFault::Fail, StoreFault::HangAfter] {
        let World { durable, cached, present, .. } = world().await;
        durable.next_saves([fault]);
        let next = record(present.version.next());
        let key = key();
        let save = cached.save(&key, &next, Precondition::Version(present.version), None);
        let _ = tokio::time::timeout(Duration::from_secs(2), save).await;
        let truth = version(&durable).await;
        let asked = durable.loads();
        for _ in 0..3 {
            assert_eq!(version(&cached).await, truth, "{fault:?}");
        }
        assert_eq!(durable.loads(), asked + 3, "nothing is cached while the save may still land");
        sleep(Duration::from_secs(30)).await;
        let asked = durable.loads();
        for _ in 0..3 {
            assert_eq!(version(&cached).await, truth, "{fault:?}");
        }
        assert_eq!(durable.loads(), asked + 1, "the claim expires");
    }
}

#[tokio::test(start_paused = true)]
async fn late_touch_shortens_a_newer_record() {
    let World { durable, cached, present, .. } = world().await;
    let short = Duration::from_millis(50);
    durable.set(StoreFault::Hang);
    tokio::time::timeout(Duration::from_secs(2), cached.touch(&key(), short)).await.unwrap_err();
    durable.set(StoreFault::None);
    let next = Record { ttl: Some(Duration::from_secs(60)), ..record(present.version.next()) };
    cached.save(&key(), &next, Precondition::Version(present.version), None).await.unwrap();
    // The abandoned touch takes effect only now.
    assert!(durable.touch(&key(), short).await.unwrap());
    sleep(short).await;
    assert_eq!(version(&cached).await, None);
}

#[tokio::test(start_paused = true)]
async fn dead_fast_store_allows_loads_and_refuses_saves() {
    for fault in [StoreFault::Fail, StoreFault::Hang] {
        let World { fast, durable, cached, present } = world().await;
        fast.set(fault);
        for _ in 0..5 {
            let asked = Instant::now();
            assert_eq!(version(&cached).await, Some(present.version));
            assert!(asked.elapsed() < Duration::from_secs(1), "{fault:?}: {:?}", asked.elapsed());
        }
        let next = record(present.version.next());
        let saves = durable.saves();
        let refused = cached.save(&key(), &next, Precondition::Version(present.version), None).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert_eq!(durable.saves(), saves);
        fast.set(StoreFault::None);
        sleep(Duration::from_secs(3)).await;
        let saving = cached.save(&key(), &next, Precondition::Version(present.version), None).await.unwrap();
        assert_eq!(saving, SaveOutcome::Saved);
        assert_eq!(version(&cached).await, Some(next.version));
    }
}

#[tokio::test(start_paused = true)]
async fn dead_durable_store_allows_cached_loads() {
    let World { durable, cached, present, .. } = world().await;
    durable.set(StoreFault::Fail);
    assert_eq!(version(&cached).await, Some(present.version));
    let receipt = Receipt::new(&key(), "add", &EventId::random());
    cached.load(&key(), Some(&receipt)).await.unwrap_err();
    cached.ping().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn cached_record_expires_with_the_durable_one() {
    let (fast, durable) = (memory(), memory());
    let cached = Cached::new(Arc::clone(&fast), Arc::clone(&durable));
    let ttl = Duration::from_secs(10);
    let short = Record { ttl: Some(ttl), ..record(Version::start()) };
    cached.save(&key(), &short, Precondition::Absent, None).await.unwrap();
    let started = Instant::now();
    let mut readings = 0;
    while let Some(found) = cached.load(&key(), None).await.unwrap().record {
        let left = ttl - started.elapsed();
        assert!(found.ttl.unwrap().abs_diff(left) <= Duration::from_millis(1), "{found:?} at {left:?}");
        readings += 1;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((readings, started.elapsed()), (100, ttl));
}
