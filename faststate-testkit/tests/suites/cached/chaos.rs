//! Two nodes save, read and touch one key over stores that are slow, evict records and lose responses. No read is older than
//! the last save that was acknowledged before it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use faststate_core::{
    Key, MemoryStore, Store, Version,
    store::{Cached, Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::{Overridden, StoreOverride};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{sleep, timeout};

use super::{Shared, key, record};

/// A store that is slow before and after each call, and evicts records at random if `forgets` is set.
pub(super) struct Moody {
    inner: MemoryStore,
    dice: Mutex<StdRng>,
    forgets: bool,
}

impl Moody {
    pub(super) fn store(seed: u64, forgets: bool) -> Shared {
        let dice = Mutex::new(StdRng::seed_from_u64(seed));
        Arc::new(Overridden(Self { inner: MemoryStore::new(), dice, forgets }))
    }

    async fn slowly<T>(
        &self,
        key: &Key,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (before, after, forgets) = {
            let mut dice = self.dice.lock();
            (dice.random_range(0..4), dice.random_range(0..4), self.forgets && dice.random_range(0..20) == 0)
        };
        sleep(Duration::from_millis(before)).await;
        if forgets && let Some(found) = self.inner.load(key, None).await?.record {
            self.inner.delete(key, found.version).await?;
        }
        let answer = call.await;
        sleep(Duration::from_millis(after)).await;
        answer
    }
}

#[async_trait]
impl StoreOverride for Moody {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.slowly(key, self.inner.load(key, receipt)).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        self.slowly(key, self.inner.save(key, record, expect, receipt)).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.slowly(key, self.inner.delete(key, version)).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.slowly(key, self.inner.touch(key, ttl)).await
    }
}

impl fmt::Debug for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moody")
    }
}

/// Runs the tasks. Returns the first violation.
pub(super) async fn run(a: Shared, b: Shared, seed: u64) -> Result<(), String> {
    // The sequence number of the last acknowledged save.
    let acknowledged = Arc::new(AtomicU64::new(0));
    let tasks = (0..6).map(|task| {
        let store = Arc::clone(if task % 2 == 0 { &a } else { &b });
        let acknowledged = Arc::clone(&acknowledged);
        let dice = StdRng::seed_from_u64(seed * 100 + task);
        tokio::spawn(async move {
            if task < 4 {
                read(&*store, &acknowledged, dice).await
            } else {
                write(&*store, &acknowledged, dice).await
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.map_err(|error| error.to_string())??;
    }
    Ok(())
}

async fn read(store: &dyn Store, acknowledged: &AtomicU64, mut dice: StdRng) -> Result<(), String> {
    for _ in 0..60 {
        sleep(Duration::from_millis(dice.random_range(0..8))).await;
        let step = acknowledged.load(Ordering::SeqCst);
        let found = store.load(&key(), None).await.map_err(|error| error.to_string())?.record;
        let seq = found.map_or(0, |found| found.version.seq);
        if seq < step {
            return Err(format!("a read returned {seq} after {step} was acknowledged"));
        }
    }
    Ok(())
}

async fn write(store: &dyn Store, acknowledged: &AtomicU64, mut dice: StdRng) -> Result<(), String> {
    for _ in 0..40 {
        sleep(Duration::from_millis(dice.random_range(0..6))).await;
        // Loads with a receipt, as the engine does, to bypass the cache.
        let receipt = Receipt::internal();
        let loaded = store.load(&key(), Some(&receipt)).await.map_err(|error| error.to_string())?;
        let present = loaded.record.map(|record| record.version);
        if present.is_some() && dice.random_range(0..10) == 0 {
            let _ = store.touch(&key(), Duration::from_secs(3600)).await;
            continue;
        }
        let next = Version { seq: present.map_or(1, |version| version.seq + 1), ..Version::start() };
        let expect = present.map_or(Precondition::Absent, Precondition::Version);
        let (key, record) = (key(), record(next));
        let save = store.save(&key, &record, expect, Some(&receipt));
        // One in ten saves is abandoned.
        let limit = if dice.random_range(0..10) == 0 { dice.random_range(0..12) } else { 60_000 };
        if matches!(timeout(Duration::from_millis(limit), save).await, Ok(Ok(SaveOutcome::Saved))) {
            acknowledged.fetch_max(next.seq, Ordering::SeqCst);
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn no_read_is_older_than_an_acknowledged_save() {
    for seed in 0..100 {
        let (fast, durable) = (Moody::store(seed, seed % 2 == 1), Moody::store(seed + 1, false));
        let node = || -> Shared { Arc::new(Cached::new(Arc::clone(&fast), Arc::clone(&durable))) };
        run(node(), node(), seed).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
