//! A store in this process's memory.

use std::{
    collections::{
        HashMap, VecDeque,
        hash_map::{Entry as Found, RandomState},
    },
    fmt,
    hash::BuildHasher as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Expect, Loaded, RECEIPT_KEPT, Receipt, Record, Saving, Store, StoreError};
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
    records: HashMap<Key, Entry>,
    /// The second in which each ends. There is one for each event of ten minutes, so they are small.
    receipts: HashMap<[u8; 16], Second>,
    /// The receipts in the order in which they end.
    ends: VecDeque<(Second, [u8; 16])>,
}

/// Whole seconds since the store was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Second(u32);

struct Entry {
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

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        &self.shards[at]
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

impl Second {
    /// The first second that begins when all of `time` has passed.
    fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(1 + u32::try_from(time.as_secs()).unwrap_or(u32::MAX - 1)))
    }
}

impl Shard {
    /// Removes the ended receipts; says how many.
    fn drop_receipts(&mut self, now: Second, limit: usize) -> usize {
        let mut dropped = 0;
        while dropped < limit
            && let Some((end, digest)) = self.ends.front().copied()
            && end <= now
        {
            self.ends.pop_front();
            // Unless the same event was applied again after that.
            if self.receipts.get(&digest) == Some(&end) {
                self.receipts.remove(&digest);
            }
            dropped += 1;
        }
        dropped
    }

    fn drop_records(&mut self, now: Instant, limit: usize) -> usize {
        let mut dropped = 0;
        self.records.retain(|_, entry| {
            let expired = dropped < limit && entry.is_expired(now);
            dropped += usize::from(expired);
            !expired
        });
        dropped
    }

    fn has_receipt(&self, receipt: Option<&Receipt>, now: Second) -> bool {
        receipt.and_then(|receipt| self.receipts.get(receipt.as_bytes())).is_some_and(|end| *end > now)
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
        let shard = self.shard(key).lock();
        let record = shard
            .records
            .get(key)
            .filter(|entry| !entry.is_expired(now))
            .map(|entry| Record { ttl: entry.expires.map(|at| at - now), ..entry.record.clone() });
        Ok(Loaded { record, receipt: shard.has_receipt(receipt, self.second(now)) })
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Expect,
        receipt: Option<&Receipt>,
    ) -> Result<Saving, StoreError> {
        let now = Instant::now();
        let second = self.second(now);
        let mut shard = self.shard(key).lock();
        let ended = shard.drop_receipts(second, 4);
        self.receipts.fetch_sub(ended, Ordering::Relaxed);
        let Shard { records, receipts, ends } = &mut *shard;
        // A minted one is never there: the outcomes of this store are never unknown.
        let receipt = receipt.filter(|receipt| !receipt.is_minted());
        let known = receipt.map(|receipt| receipts.entry(*receipt.as_bytes()));
        if matches!(&known, Some(Found::Occupied(end)) if *end.get() > second) {
            return Ok(Saving::Duplicate);
        }
        let found = records.entry(key.clone());
        let present = match &found {
            Found::Occupied(entry) if !entry.get().is_expired(now) => Some(entry.get().record.version),
            Found::Occupied(_) | Found::Vacant(_) => None,
        };
        let expected = match expect {
            Expect::Absent => present.is_none(),
            Expect::Version(version) => present == Some(version),
        };
        if !expected {
            return Ok(Saving::Conflict);
        }
        let is_new = matches!(found, Found::Vacant(_));
        if is_new && !Self::reserve(&self.records, self.max_records) {
            return Err(StoreError::Full("too many records".into()));
        }
        if known.is_some() && !Self::reserve(&self.receipts, self.max_receipts) {
            self.records.fetch_sub(usize::from(is_new), Ordering::Relaxed);
            return Err(StoreError::Full("too many receipts".into()));
        }
        if let Some(known) = known {
            let end = second.after(RECEIPT_KEPT);
            ends.push_back((end, *known.key()));
            known.insert_entry(end);
        }
        found.insert_entry(Entry { record: record.clone(), expires: record.ttl.map(|ttl| now + ttl) });
        Ok(Saving::Saved)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut shard = self.shard(key).lock();
        let found = shard
            .records
            .get(key)
            .is_some_and(|entry| !entry.is_expired(now) && entry.record.version == version);
        if found {
            shard.records.remove(key);
            self.records.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(found)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut shard = self.shard(key).lock();
        let entry = shard.records.get_mut(key).filter(|entry| !entry.is_expired(now));
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
            let swept = shard.drop_receipts(self.second(now), limit - receipts);
            self.receipts.fetch_sub(swept, Ordering::Relaxed);
            receipts += swept;
        }
        Ok(records + receipts)
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
