//! A store in memory that writes to another store in the background.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep},
};

use super::{
    DueKeys, Loaded, MemoryStore, PendingSummary, Precondition, Receipt, Record, SaveOutcome, Store,
    StoreError,
};
use crate::{Key, Version};

/// The maximum number of concurrent writes. It suffices for a store that combines them into batches.
const WRITE_CONCURRENCY: usize = 256;
/// The time for which a record stays in memory while it is equal in both stores.
const IDLE_FOR: Duration = Duration::from_secs(300);

/// Loads and saves in memory, and writes the records to a durable store at an interval. This is the store behind
/// `StateConfig::persist_every`.
///
/// [`flush`](Store::flush) writes all records at once; a registry calls it at shutdown.
///
/// # Contract
/// All points of [`Store`]'s contract except 4 and 10: a crash loses the changes and receipts that were acknowledged since the
/// last write, which is at most one interval ago. Only one process may use a `WriteBehind` over a durable store. A
/// record that is loaded from the durable store starts a new epoch, so that the followers of lost changes detect the
/// loss.
///
/// # Errors
/// If the durable store refuses a record whose save was acknowledged, later saves of this key are acknowledged only
/// after the durable store has them. If it is full, this applies to all saves. Until the durable store accepts the
/// records, [`ping`](Store::ping) fails. The acknowledged records stay in memory and are written again at each
/// interval.
///
/// # Locking
/// - `writes` protects the differences between the memory and the durable store. A deletion, a touch, which keeps the
///   version, an eviction, and the end of a load from the durable store also change the memory under it, so that none of
///   them runs between the steps of another one.
/// - `writer` is held while records are written, across awaits.
///
/// `writes` may be locked while `writer` is held. No code waits for `writer` while `writes` is locked.
#[derive(Debug)]
pub struct WriteBehind {
    memory: MemoryStore,
    durable: Arc<dyn Store>,
    writes: Mutex<PendingWrites>,
    /// Permits one writer at a time, so that an older record never replaces a newer one.
    writer: AsyncMutex<()>,
}

/// The differences between the memory and the durable store.
#[derive(Debug, Default)]
struct PendingWrites {
    /// The keys whose records differ, each with the number of the last change in memory.
    dirty: HashMap<Key, u64>,
    /// The number of changes in memory.
    changes: u64,
    /// The keys whose records are equal, each with the version in memory and the time of the last write or load.
    clean: HashMap<Key, (Version, Instant)>,
    /// The keys whose records the durable store refused at the last write.
    refused: HashSet<Key>,
    /// Whether the durable store was full at the last write.
    full: bool,
    /// The loads from the durable store that are in progress, by key.
    loads: HashMap<Key, KeyLoads>,
}

/// The loads of one key that are in progress.
#[derive(Debug, Default)]
struct KeyLoads {
    count: usize,
    /// The number of the last change of the key since the first of these loads began; 0 if there was none.
    changed: u64,
}

impl PendingWrites {
    /// Records a change in memory; returns its number.
    fn changed(&mut self, key: &Key) -> u64 {
        self.clean.remove(key);
        self.changes += 1;
        self.dirty.insert(key.clone(), self.changes);
        if let Some(loads) = self.loads.get_mut(key) {
            loads.changed = self.changes;
        }
        self.changes
    }

    /// Records that the durable store has the record of a change. If there was no later change, the records are equal.
    fn written(&mut self, key: &Key, change: u64, version: Option<Version>) {
        self.refused.remove(key);
        if self.dirty.get(key) == Some(&change) {
            self.dirty.remove(key);
            if let Some(version) = version {
                self.clean.insert(key.clone(), (version, Instant::now()));
            }
        }
    }

    /// Returns whether a save of this key must reach the durable store before it is acknowledged.
    fn is_refusing(&self, key: &Key) -> bool {
        self.full || self.refused.contains(key)
    }
}

/// A load from the durable store, which counts as in progress until it is dropped.
struct DurableLoad<'a> {
    writes: &'a Mutex<PendingWrites>,
    key: &'a Key,
    /// The number of changes in memory when it began.
    begun: u64,
}

impl<'a> DurableLoad<'a> {
    /// Begins a load, unless the record in memory differs: a dirty key without a record was deleted in memory, even if
    /// the durable store still has its record.
    fn begin(writes: &'a Mutex<PendingWrites>, key: &'a Key) -> Option<Self> {
        let mut pending = writes.lock();
        if pending.dirty.contains_key(key) {
            return None;
        }
        pending.loads.entry(key.clone()).or_default().count += 1;
        Some(Self { writes, key, begun: pending.changes })
    }

    /// Returns whether the key has changed in memory since the load began. The durable store may have had this change
    /// before or after the load.
    fn is_outdated(&self, pending: &PendingWrites) -> bool {
        pending.loads.get(self.key).is_some_and(|loads| loads.changed > self.begun)
    }
}

impl Drop for DurableLoad<'_> {
    fn drop(&mut self) {
        let mut pending = self.writes.lock();
        if let Some(loads) = pending.loads.get_mut(self.key) {
            loads.count -= 1;
            if loads.count == 0 {
                pending.loads.remove(self.key);
            }
        }
    }
}

impl WriteBehind {
    /// Creates a store over `durable`, and spawns the task that writes to it every `interval`.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    #[must_use]
    pub fn new(durable: Arc<dyn Store>, interval: Duration) -> Arc<Self> {
        let store = Arc::new(Self {
            memory: MemoryStore::new(),
            durable,
            writes: Mutex::default(),
            writer: AsyncMutex::default(),
        });
        tokio::spawn(keep_writing(Arc::downgrade(&store), interval));
        store
    }

    /// Writes the record in memory to the durable store, or deletes it there; returns the written version.
    async fn write(&self, key: &Key) -> Result<Option<Version>, StoreError> {
        let record = self.memory.load(key, None).await?.record;
        self.write_record(key, record.as_ref()).await?;
        Ok(record.map(|record| record.version))
    }

    /// Replaces the record in the durable store by this one, or deletes it.
    async fn write_record(&self, key: &Key, record: Option<&Record>) -> Result<(), StoreError> {
        loop {
            let stored = self.durable.load(key, None).await?.record;
            let expect = precondition(stored.as_ref());
            let done = match (record, &stored) {
                (Some(record), _) => {
                    self.durable.save(key, record, expect, None).await? == SaveOutcome::Saved
                }
                (None, Some(stored)) => self.durable.delete(key, stored.version).await?,
                (None, None) => true,
            };
            if done {
                return Ok(());
            }
        }
    }

    /// Saves a record in the durable store first, and then in memory.
    async fn save_through(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let _writer = self.writer.lock().await;
        let present = self.memory.load(key, receipt).await?;
        // A conflict and a duplicate write nothing.
        let is_due = present.receipt.is_none() && precondition(present.record.as_ref()) == expect;
        let change = is_due.then(|| self.writes.lock().changed(key));
        if change.is_some() {
            self.write_record(key, Some(record)).await?;
        }
        // The memory decides about the outcome, because another save may have come first. The key is then dirty, and
        // the next flush writes the record in memory.
        let outcome = self.memory.save(key, record, expect, receipt).await?;
        if outcome == SaveOutcome::Saved {
            let mut writes = self.writes.lock();
            match change {
                Some(change) => writes.written(key, change, Some(record.version)),
                None => _ = writes.changed(key),
            }
        }
        Ok(outcome)
    }

    /// Copies a record that was loaded from the durable store, under a new epoch. Returns `false` if the key has changed in
    /// memory since the load began, so that the record may be outdated.
    fn copy_to_memory(&self, load: &DurableLoad<'_>, record: Record) -> Result<bool, StoreError> {
        let renewed = Record { version: Version::start(), ..record };
        let mut writes = self.writes.lock();
        if load.is_outdated(&writes) {
            return Ok(false);
        }
        // Another call may have copied the same record already.
        if ready(self.memory.save(load.key, &renewed, Precondition::Absent, None))? == SaveOutcome::Saved {
            writes.clean.insert(load.key.clone(), (renewed.version, Instant::now()));
        }
        Ok(true)
    }

    /// Touches the record in memory, and records the change in the same step.
    fn touch_memory(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        let mut writes = self.writes.lock();
        let touched = ready(self.memory.touch(key, ttl))?;
        if touched {
            writes.changed(key);
        }
        Ok(touched)
    }

    /// Removes the records from memory that have been equal in both stores for 5 minutes.
    fn evict(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut writes = self.writes.lock();
        let idle: Vec<_> = writes.clean.extract_if(|_, (_, since)| now - *since >= IDLE_FOR).collect();
        for (key, (version, _)) in idle {
            // Has no effect if a save has just changed the version and is about to record it.
            ready(self.memory.delete(&key, version))?;
        }
        Ok(())
    }
}

/// Returns the precondition that this record meets.
fn precondition(record: Option<&Record>) -> Precondition {
    record.map_or(Precondition::Absent, |record| Precondition::Version(record.version))
}

/// Returns the result of a call of the memory, which never waits.
fn ready<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    call.now_or_never()
        .unwrap_or_else(|| Err(StoreError::Unavailable("the memory does not answer at once".into())))
}

async fn keep_writing(store: Weak<WriteBehind>, interval: Duration) {
    loop {
        sleep(interval).await;
        let Some(store) = store.upgrade() else { return };
        if let Err(error) = store.flush().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "some records could not be written; they are written again after the interval"
            );
        }
    }
}

#[async_trait]
impl Store for WriteBehind {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        loop {
            let loaded = self.memory.load(key, receipt).await?;
            if loaded.record.is_some() {
                return Ok(loaded);
            }
            let Some(load) = DurableLoad::begin(&self.writes, key) else { return Ok(loaded) };
            let Some(record) = self.durable.load(key, None).await?.record else { return Ok(loaded) };
            if self.copy_to_memory(&load, record)? {
                return self.memory.load(key, receipt).await;
            }
        }
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        if expect == Precondition::Absent {
            // Copies a record that only the durable store has.
            self.load(key, None).await?;
        }
        if self.writes.lock().is_refusing(key) {
            return self.save_through(key, record, expect, receipt).await;
        }
        let outcome = self.memory.save(key, record, expect, receipt).await?;
        if outcome == SaveOutcome::Saved {
            self.writes.lock().changed(key);
        }
        Ok(outcome)
    }

    /// Keeps the receipt in memory. No state that is saved at an interval receives messages, so this is not called.
    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.memory.refuse(key, receipt, answer).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.memory.release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.memory.due(limit).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        self.memory.pending(limit).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        // In one step, because a load from the durable store must not restore the record in between.
        let mut writes = self.writes.lock();
        let deleted = ready(self.memory.delete(key, version))?;
        if deleted {
            writes.changed(key);
        }
        Ok(deleted)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        if self.touch_memory(key, ttl)? {
            return Ok(true);
        }
        // Copies a record that only the durable store has.
        self.load(key, None).await?;
        self.touch_memory(key, ttl)
    }

    /// Also removes the records from memory that have been equal in both stores for 5 minutes.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.evict()?;
        self.memory.sweep(limit).await
    }

    /// Also fails while the durable store refuses acknowledged records.
    async fn ping(&self) -> Result<(), StoreError> {
        {
            let writes = self.writes.lock();
            if writes.full || !writes.refused.is_empty() {
                let pending = writes.dirty.len();
                let refusal =
                    format!("the durable store refuses acknowledged records; {pending} are not written");
                return Err(StoreError::Full(refusal.into()));
            }
        }
        self.durable.ping().await
    }

    /// Returns zero, because saves only change the memory.
    fn settles_within(&self) -> Duration {
        Duration::ZERO
    }

    async fn flush(&self) -> Result<(), StoreError> {
        let _writer = self.writer.lock().await;
        let dirty = self.writes.lock().dirty.clone();
        let writes = dirty.into_iter().map(|(key, change)| async move {
            let outcome = self.write(&key).await;
            let mut writes = self.writes.lock();
            match &outcome {
                // If the record has changed in the meantime, the next flush writes it again.
                Ok(version) => writes.written(&key, change, *version),
                Err(StoreError::Refused(_)) => _ = writes.refused.insert(key),
                Err(StoreError::Full(_)) => writes.full = true,
                Err(_) => {}
            }
            outcome.map(drop)
        });
        let outcomes: Vec<Result<(), StoreError>> =
            stream::iter(writes).buffer_unordered(WRITE_CONCURRENCY).collect().await;
        self.writes.lock().full = outcomes.iter().any(|outcome| matches!(outcome, Err(StoreError::Full(_))));
        outcomes.into_iter().collect()
    }
}
