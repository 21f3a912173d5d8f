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
use hashbrown::{HashTable, hash_table::Entry as Found};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::receipts::{Receipts, Second};
use super::{Loaded, Precondition, RECEIPT_KEPT, Receipt, Record, SaveOutcome, Store, StoreError};
use crate::{Key, Version};

const SHARDS: usize = 64;

/// A store in this process's memory: gone with the process.
///
/// Holds at most 1,000,000 records and 4,000,000 receipts, settable; at the cap a new record, or an
/// event with a caller's id, is refused with [`StoreError::Full`] and nothing changes. It never makes
/// room by forgetting. Its outcomes are never unknown, so it keeps no minted receipts.
pub struct MemoryStore {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    made: Instant,
    records: AtomicUsize,
    receipts: AtomicUsize,
    max_records: usize,
    max_receipts: usize,
}

#[derive(Default)]
struct Shard {
    /// By the hashes of their keys.
    records: HashTable<Entry>,
    receipts: Receipts,
}

struct Entry {
    key: Key,
    record: Record,
    expires: Option<Instant>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(1_000_000, 4_000_000)
    }

    /// An empty store that holds at most so many records and receipts.
    #[must_use]
    pub fn with_limits(max_records: usize, max_receipts: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            made: Instant::now(),
            records: AtomicUsize::new(0),
            receipts: AtomicUsize::new(0),
            max_records,
            max_receipts,
        }
    }

    /// A key's hash, and the shard that it is in.
    fn shard(&self, key: &Key) -> (u64, &Mutex<Shard>) {
        let hash = self.hasher.hash_one(key);
        // Neither the lowest nor the highest bits: a shard's own table goes by those.
        let at = (hash >> 32) as usize % SHARDS;
        (hash, &self.shards[at])
    }

    fn second(&self, now: Instant) -> Second {
        Second(u32::try_from((now - self.made).as_secs()).unwrap_or(u32::MAX))
    }

    /// Takes one of `max`, unless all are taken.
    fn reserve(count: &AtomicUsize, max: usize) -> bool {
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < max).then_some(held + 1))
            .is_ok()
    }
}

impl Shard {
    fn find(&self, hash: u64, key: &Key, now: Instant) -> Option<&Entry> {
        self.records.find(hash, |entry| entry.key == *key).filter(|entry| !entry.is_expired(now))
    }

    fn drop_records(&mut self, now: Instant, limit: usize) -> usize {
        let mut dropped = 0;
        self.records.retain(|entry| {
            let expired = dropped < limit && entry.is_expired(now);
            dropped += usize::from(expired);
            !expired
        });
        dropped
    }
}

impl Entry {
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
        Ok(Loaded { record, receipt: receipt.is_some_and(|receipt| receipts.has(receipt, self.second(now))) })
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
        let ended = receipts.drop_ended(second, 4);
        self.receipts.fetch_sub(ended, Ordering::Relaxed);
        // A minted one is never there: the outcomes of this store are never unknown.
        let receipt = receipt.filter(|receipt| !receipt.is_internal());
        let receipt = receipt.map(|receipt| receipts.hashed(receipt.as_bytes()));
        if receipt.is_some_and(|receipt| receipts.has(receipt, second)) {
            return Ok(SaveOutcome::Duplicate);
        }
        let found = records.entry(hash, |entry| entry.key == *key, |entry| self.hasher.hash_one(&entry.key));
        let present = match &found {
            Found::Occupied(entry) if !entry.get().is_expired(now) => Some(entry.get().record.version),
            Found::Occupied(_) | Found::Vacant(_) => None,
        };
        let expected = match expect {
            Precondition::Absent => present.is_none(),
            Precondition::Version(version) => present == Some(version),
        };
        if !expected {
            return Ok(SaveOutcome::Conflict);
        }
        let is_new = matches!(found, Found::Vacant(_));
        if is_new && !Self::reserve(&self.records, self.max_records) {
            return Err(StoreError::Full("too many records".into()));
        }
        if receipt.is_some() && !Self::reserve(&self.receipts, self.max_receipts) {
            self.records.fetch_sub(usize::from(is_new), Ordering::Relaxed);
            return Err(StoreError::Full("too many receipts".into()));
        }
        if let Some(receipt) = receipt {
            receipts.keep(receipt, second.after(RECEIPT_KEPT));
        }
        let expires = record.ttl.map(|ttl| now + ttl);
        found.insert(Entry { key: key.clone(), record: record.clone(), expires });
        Ok(SaveOutcome::Saved)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let now = Instant::now();
        let (hash, shard) = self.shard(key);
        let is_it =
            |entry: &Entry| entry.key == *key && !entry.is_expired(now) && entry.record.version == version;
        let removed = shard.lock().records.find_entry(hash, is_it).map(|found| found.remove()).is_ok();
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
            let swept = shard.drop_records(now, limit - records);
            self.records.fetch_sub(swept, Ordering::Relaxed);
            records += swept;
            let swept = shard.receipts.drop_ended(self.second(now), limit - receipts);
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
