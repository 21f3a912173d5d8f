//! A store in this process's memory.

mod answers;
mod receipts;
mod schedule;

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use hashbrown::{HashTable, hash_table::Entry};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::{
    answers::AnswerTable,
    receipts::{ReceiptTable, Second},
    schedule::{Schedule, is_scheduled},
};
use super::{
    DueKeys, Loaded, PendingMessages, PendingSummary, Precondition, RECEIPT_KEPT, Receipt, Record,
    SaveOutcome, Store, StoreError,
};
use crate::{Key, Version, clock};

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
/// Each shard has one lock, which protects its records and receipts. No call holds two of them at once. `schedule` is
/// locked inside a shard's lock, and only if a record with a due time or unfinished messages is written or removed.
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
    schedule: Mutex<Schedule>,
}

/// The records and receipts of the keys whose hashes lead to this shard.
#[derive(Default)]
struct Shard {
    /// The records, by the hashes of their keys.
    records: HashTable<StoredRecord>,
    receipts: ReceiptTable,
    answers: AnswerTable,
}

/// A record with its key and the end of its lifetime.
struct StoredRecord {
    key: Key,
    schema: u32,
    version: Version,
    data: Bytes,
    expires: Option<Instant>,
    /// The unfinished messages. Boxed, because most records have none.
    messages: Option<Box<StoredMessages>>,
}

/// The unfinished messages of a record, and its due time.
struct StoredMessages {
    pending: PendingMessages,
    due: Option<SystemTime>,
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
            schedule: Mutex::default(),
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

    /// Removes the schedules of records that were removed or replaced.
    fn unschedule<'a>(&self, removed: impl IntoIterator<Item = &'a StoredRecord>) {
        removed
            .into_iter()
            .filter(|entry| entry.messages.is_some())
            .for_each(|entry| self.schedule.lock().remove(&entry.key));
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

    /// Removes at most `limit` expired records, and returns them.
    fn remove_expired(&mut self, now: Instant, limit: usize) -> Vec<StoredRecord> {
        self.records.extract_if(|entry| entry.is_expired(now)).take(limit).collect()
    }

    /// Returns the answer of a receipt, if the receipt exists.
    fn answer(&self, receipt: &Receipt, now: Instant, second: Second) -> Option<Bytes> {
        if receipt.is_message() {
            return self.answers.get(receipt, now);
        }
        let hashed = self.receipts.hashed(receipt.as_bytes());
        self.receipts.contains(hashed, second).then(Bytes::new)
    }
}

impl StoredRecord {
    fn new(key: &Key, record: &Record, expires: Option<Instant>) -> Self {
        let Record { schema, version, data, pending, due, .. } = record;
        let has_messages = !pending.is_empty() || is_scheduled(record);
        let messages = || Box::new(StoredMessages { pending: pending.clone(), due: *due });
        Self {
            key: key.clone(),
            schema: *schema,
            version: *version,
            data: data.clone(),
            expires,
            messages: has_messages.then(messages),
        }
    }

    /// Returns the record with its remaining lifetime.
    fn record(&self, now: Instant) -> Record {
        let ttl = self.expires.map(|at| at - now);
        let record = Record::new(self.schema, self.version, self.data.clone(), ttl);
        match &self.messages {
            None => record,
            Some(messages) => Record { pending: messages.pending.clone(), due: messages.due, ..record },
        }
    }

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
        let record = shard.find(hash, key, now).map(|entry| entry.record(now));
        let second = self.second(now);
        Ok(Loaded { record, receipt: receipt.and_then(|receipt| shard.answer(receipt, now, second)) })
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
        let Shard { records, receipts, answers } = &mut *shard.lock();
        // Each save frees more receipts than it adds, so that the table does not grow until the next sweep.
        let expired = receipts.remove_expired(second, RECEIPTS_FREED_PER_SAVE);
        self.receipts.fetch_sub(expired, Ordering::Relaxed);
        let message = receipt.filter(|receipt| receipt.is_message());
        let receipt = receipt.filter(|receipt| !receipt.is_internal() && !receipt.is_message());
        let receipt = receipt.map(|receipt| receipts.hashed(receipt.as_bytes()));
        if receipt.is_some_and(|receipt| receipts.contains(receipt, second))
            || message.is_some_and(|message| answers.get(message, now).is_some())
        {
            return Ok(SaveOutcome::Duplicate);
        }
        let found = records.entry(hash, |entry| entry.key == *key, |entry| self.hasher.hash_one(&entry.key));
        let present = match &found {
            Entry::Occupied(entry) if !entry.get().is_expired(now) => Some(entry.get().version),
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
        let is_new_receipt = receipt.is_some() || message.is_some_and(|message| !answers.has_entry(message));
        if is_new_receipt && !Self::reserve(&self.receipts, self.max_receipts) {
            self.records.fetch_sub(usize::from(is_new), Ordering::Relaxed);
            return Err(StoreError::Full("the store holds its maximum number of receipts".into()));
        }
        if let Some(receipt) = receipt {
            receipts.insert(receipt, second.after(RECEIPT_KEPT));
        }
        if let Some(message) = message {
            answers.insert(*message, Bytes::new(), now);
        }
        let expires = record.ttl.map(|ttl| now + ttl);
        let was_scheduled = matches!(&found, Entry::Occupied(entry) if entry.get().messages.is_some());
        if was_scheduled || is_scheduled(record) {
            self.schedule.lock().replace(key, record, expires);
        }
        found.insert(StoredRecord::new(key, record, expires));
        Ok(SaveOutcome::Saved)
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        let now = Instant::now();
        let (_, shard) = self.shard(key);
        let answers = &mut shard.lock().answers;
        if answers.get(receipt, now).is_some() {
            return Ok(false);
        }
        if !answers.has_entry(receipt) && !Self::reserve(&self.receipts, self.max_receipts) {
            return Err(StoreError::Full("the store holds its maximum number of receipts".into()));
        }
        answers.insert(*receipt, answer.clone(), now);
        Ok(true)
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        let now = Instant::now();
        for (key, receipt) in receipts {
            self.shard(key).1.lock().answers.release(receipt, now);
        }
        Ok(())
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        Ok(self.schedule.lock().due(clock::now(), Instant::now(), limit))
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        Ok(self.schedule.lock().pending(clock::now(), Instant::now(), limit))
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let now = Instant::now();
        let (hash, shard) = self.shard(key);
        let matches =
            |entry: &StoredRecord| entry.key == *key && !entry.is_expired(now) && entry.version == version;
        let mut shard = shard.lock();
        let removed = shard.records.find_entry(hash, matches).map(|found| found.remove().0).ok();
        self.unschedule(&removed);
        self.records.fetch_sub(usize::from(removed.is_some()), Ordering::Relaxed);
        Ok(removed.is_some())
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let entry = shard.records.find_mut(hash, |entry| entry.key == *key && !entry.is_expired(now));
        let Some(entry) = entry else { return Ok(false) };
        entry.expires = Some(now + ttl);
        if entry.messages.is_some() {
            self.schedule.lock().touch(key, now + ttl);
        }
        Ok(true)
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let now = Instant::now();
        let (mut records, mut receipts) = (0, 0);
        for shard in &self.shards {
            let mut shard = shard.lock();
            let swept = shard.remove_expired(now, limit - records);
            self.unschedule(&swept);
            self.records.fetch_sub(swept.len(), Ordering::Relaxed);
            records += swept.len();
            let swept = shard.receipts.remove_expired(self.second(now), limit - receipts);
            let swept = swept + shard.answers.remove_expired(now, limit - receipts - swept);
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
