//! A store in this process's memory.

mod receipts;

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use hashbrown::{HashTable, hash_table::Entry};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::receipts::{ReceiptTable, Second};
use super::{Loaded, Precondition, RECEIPT_KEPT, Receipt, Record, SaveOutcome, Store, StoreError};
use crate::{Key, Version};

/// The maximum number of expired receipts that a save removes.
const RECEIPTS_FREED_PER_SAVE: usize = 4;
/// The number of shards, each with a lock of its own.
const SHARDS: usize = 64;

/// A store in this process's memory. Its records are lost when the process ends.
///
/// # Limits
/// The store holds at most 1,000,000 records and 4,000,000 receipts by default. A save that needs another record or
/// receipt then fails with [`StoreError::Full`] and changes nothing. The store never removes unexpired records or
/// receipts to make room.
///
/// It does not keep [internal](Receipt::is_internal) receipts, because the outcome of its saves is never unknown.
///
/// # Locking
/// Each shard has one lock, which protects its records and receipts. No call holds two of them at once.
pub struct MemoryStore {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    created: Instant,
    /// The number of records in all shards. Relaxed, like `receipts`: both only count, and order no other memory.
    records: AtomicUsize,
    /// The number of receipts in all shards.
    receipts: AtomicUsize,
    max_records: usize,
    max_receipts: usize,
}

/// The records and receipts of the keys whose hashes lead to this shard.
#[derive(Default)]
struct Shard {
    /// The records, by the hashes of their keys.
    records: HashTable<StoredRecord>,
    receipts: ReceiptTable,
}

/// A record with its key and the end of its lifetime.
struct StoredRecord {
    key: Key,
    record: Record,
    expires: Option<Instant>,
}

impl MemoryStore {
    /// Creates an empty store with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(1_000_000, 4_000_000)
    }

    /// Creates an empty store that holds at most `max_records` records and `max_receipts` receipts.
    #[must_use]
    pub fn with_limits(max_records: usize, max_receipts: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            created: Instant::now(),
            records: AtomicUsize::new(0),
            receipts: AtomicUsize::new(0),
            max_records,
            max_receipts,
        }
    }

    /// Returns a key's hash and its shard.
    fn shard(&self, key: &Key) -> (u64, &Mutex<Shard>) {
        let hash = self.hasher.hash_one(key);
        // The table of a shard uses the lowest and the highest bits of the hash, so the shard is chosen by others.
        let at = (hash >> 32) as usize % SHARDS;
        (hash, &self.shards[at])
    }

    /// Returns the whole seconds from the creation of the store to `now`.
    fn second(&self, now: Instant) -> Second {
        Second(u32::try_from((now - self.created).as_secs()).unwrap_or(u32::MAX))
    }

    /// Increases `count` by one unless it has reached `max`; returns whether it did.
    fn reserve(count: &AtomicUsize, max: usize) -> bool {
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < max).then_some(held + 1))
            .is_ok()
    }
}

impl Shard {
    fn find(&self, hash: u64, key: &Key, now: Instant) -> Option<&StoredRecord> {
        self.records.find(hash, |entry| entry.key == *key).filter(|entry| !entry.is_expired(now))
    }

    /// Removes at most `limit` expired records; returns their number.
    fn remove_expired(&mut self, now: Instant, limit: usize) -> usize {
        let mut removed = 0;
        self.records.retain(|entry| {
            let expired = removed < limit && entry.is_expired(now);
            removed += usize::from(expired);
            !expired
        });
        removed
    }
}

impl StoredRecord {
    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let now = Instant::now();
        let (hash, shard) = self.shard(key);
        let shard = shard.lock();
        let record = shard
            .find(hash, key, now)
            .map(|entry| Record { ttl: entry.expires.map(|at| at - now), ..entry.record.clone() });
        let receipts = &shard.receipts;
        let receipt = receipt.map(|receipt| receipts.hashed(receipt.as_bytes()));
        Ok(Loaded {
            record,
            receipt: receipt.is_some_and(|receipt| receipts.contains(receipt, self.second(now))),
        })
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        let now = Instant::now();
        let second = self.second(now);
        let (hash, shard) = self.shard(key);
        let Shard { records, receipts } = &mut *shard.lock();
        // Each save frees more receipts than it adds, so that the table does not grow until the next sweep.
        let expired = receipts.remove_expired(second, RECEIPTS_FREED_PER_SAVE);
        self.receipts.fetch_sub(expired, Ordering::Relaxed);
        let receipt = receipt.filter(|receipt| !receipt.is_internal());
        let receipt = receipt.map(|receipt| receipts.hashed(receipt.as_bytes()));
        if receipt.is_some_and(|receipt| receipts.contains(receipt, second)) {
            return Ok(SaveOutcome::Duplicate);
        }
        let found = records.entry(hash, |entry| entry.key == *key, |entry| self.hasher.hash_one(&entry.key));
        let present = match &found {
            Entry::Occupied(entry) if !entry.get().is_expired(now) => Some(entry.get().record.version),
            Entry::Occupied(_) | Entry::Vacant(_) => None,
        };
        let expected = match expect {
            Precondition::Absent => present.is_none(),
            Precondition::Version(version) => present == Some(version),
        };
        if !expected {
            return Ok(SaveOutcome::Conflict);
        }
        let is_new = matches!(found, Entry::Vacant(_));
        if is_new && !Self::reserve(&self.records, self.max_records) {
            return Err(StoreError::Full("the store holds its maximum number of records".into()));
        }
        if receipt.is_some() && !Self::reserve(&self.receipts, self.max_receipts) {
            self.records.fetch_sub(usize::from(is_new), Ordering::Relaxed);
            return Err(StoreError::Full("the store holds its maximum number of receipts".into()));
        }
        if let Some(receipt) = receipt {
            receipts.insert(receipt, second.after(RECEIPT_KEPT));
        }
        let expires = record.ttl.map(|ttl| now + ttl);
        found.insert(StoredRecord { key: key.clone(), record: record.clone(), expires });
        Ok(SaveOutcome::Saved)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let now = Instant::now();
        let (hash, shard) = self.shard(key);
        let matches = |entry: &StoredRecord| {
            entry.key == *key && !entry.is_expired(now) && entry.record.version == version
        };
        let removed = shard.lock().records.find_entry(hash, matches).map(|found| found.remove()).is_ok();
        self.records.fetch_sub(usize::from(removed), Ordering::Relaxed);
        Ok(removed)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let entry = shard.records.find_mut(hash, |entry| entry.key == *key && !entry.is_expired(now));
        Ok(entry.map(|entry| entry.expires = Some(now + ttl)).is_some())
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let now = Instant::now();
        let (mut records, mut receipts) = (0, 0);
        for shard in &self.shards {
            let mut shard = shard.lock();
            let swept = shard.remove_expired(now, limit - records);
            self.records.fetch_sub(swept, Ordering::Relaxed);
            records += swept;
            let swept = shard.receipts.remove_expired(self.second(now), limit - receipts);
            self.receipts.fetch_sub(swept, Ordering::Relaxed);
            receipts += swept;
        }
        Ok(records + receipts)
    }

    fn settles_within(&self) -> Duration {
        Duration::ZERO
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.records)
            .field("receipts", &self.receipts)
            .finish_non_exhaustive()
    }
}
