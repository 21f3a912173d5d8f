//! `suites::store` for the memory store, and mutants of it.

mod messages;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Key, MemoryStore, Store, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::{faults::FaultyStore, suites};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::caught;

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_passes_the_suite() {
    let store = memory();
    suites::store::all(&store, &store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn memory_store_passes_the_suite_in_paused_time() {
    let store = memory();
    suites::store::all(&store, &store).await.unwrap();
    suites::store::receipt_is_kept_for_ten_minutes(&store, tokio::time::advance).await.unwrap();
    suites::store::message_receipt_is_kept_until_release(&store, tokio::time::advance).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrapper_without_faults_passes_the_suite() {
    let store: Arc<dyn Store> = FaultyStore::new(memory());
    suites::store::all(&store, &store).await.unwrap();
}

#[tokio::test]
async fn two_separate_stores_fail_the_suite() {
    caught(suites::store::all(&memory(), &memory()).await, "loaded byte for byte");
}

/// The flaw of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    IgnoresExpect,
    IgnoresNonce,
    AnswersBeforeCommit,
    ReusesVersions,
    IsLenientAtExpiry,
    ReportsConflictBeforeDuplicate,
    DropsReceipts,
    SavesReceiptsLater,
    KeepsReceiptsOfConflicts,
    ForgetsReceiptsOnDelete,
    ForgetsReceiptsOnExpiry,
    DeletesAnyVersion,
    DeletesTwice,
    RevivesOnTouch,
    SavesOverExpired,
    NeverExpires,
    RoundsToSeconds,
    TouchNeverShortens,
    KeepsOldLifetime,
    MergesCase,
    TrimsKeys,
    CutsKeys,
    WritesJsonAnew,
    HasSignedVersions,
    SweepsReceipts,
    SweepsWithoutLimit,
    TakesAnySize,
    CutsLargeRecords,
    TakesHalfAMebibyte,
}

/// A memory store with one flaw.
#[derive(Debug)]
struct Mutant {
    inner: Arc<MemoryStore>,
    flaw: Flaw,
    memory: Mutex<Memory>,
}

/// State that some flaws need.
#[derive(Debug, Default)]
struct Memory {
    receipts: HashMap<Key, HashSet<[u8; 16]>>,
    records: HashMap<Key, Record>,
    deleted: HashMap<Key, Version>,
    ends: HashMap<Key, (Version, Instant)>,
}

impl Mutant {
    fn store(flaw: Flaw) -> Arc<dyn Store> {
        Arc::new(Self { inner: Arc::new(MemoryStore::new()), flaw, memory: Mutex::default() })
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    /// Returns whether the mutant keeps receipts itself, because its flaw is in doing so.
    fn keeps_receipts(&self) -> bool {
        use Flaw::{
            ForgetsReceiptsOnDelete, ForgetsReceiptsOnExpiry, KeepsReceiptsOfConflicts, SavesReceiptsLater,
            SweepsReceipts,
        };
        matches!(
            self.flaw,
            ForgetsReceiptsOnDelete
                | ForgetsReceiptsOnExpiry
                | KeepsReceiptsOfConflicts
                | SavesReceiptsLater
                | SweepsReceipts
        )
    }

    fn has(&self, key: &Key, receipt: Option<&Receipt>) -> bool {
        receipt.is_some_and(|receipt| {
            self.memory.lock().receipts.get(key).is_some_and(|held| held.contains(receipt.as_bytes()))
        })
    }

    fn keep(&self, key: &Key, receipt: Option<&Receipt>) {
        if let Some(receipt) = receipt {
            self.memory.lock().receipts.entry(key.clone()).or_default().insert(*receipt.as_bytes());
        }
    }

    fn mapped(&self, key: &Key) -> Key {
        let part = |part: &str| match self.flaw {
            Flaw::MergesCase => part.to_lowercase(),
            Flaw::TrimsKeys => part.trim_end_matches(' ').to_owned(),
            Flaw::CutsKeys => part.chars().take(200).collect(),
            _ => part.to_owned(),
        };
        let (owner, id) = (key.owner().map(|owner| part(&owner)), key.id().map(|id| part(&id)));
        Key::new(key.state(), key.scope(), owner.as_deref(), id.as_deref()).unwrap()
    }

    fn written(&self, record: &Record) -> Record {
        let mut record = record.clone();
        match self.flaw {
            Flaw::WritesJsonAnew => {
                let value: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
                record.data = value.to_string().into();
            }
            Flaw::HasSignedVersions => record.version.epoch &= u64::MAX >> 1,
            Flaw::NeverExpires => record.ttl = None,
            Flaw::RoundsToSeconds => {
                record.ttl = record.ttl.map(|ttl| Duration::from_secs(ttl.as_millis().div_ceil(1000) as u64));
            }
            _ => {}
        }
        record
    }
}

#[async_trait]
impl Store for Mutant {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let key = self.mapped(key);
        let mut loaded = self.inner.load(&key, receipt).await?;
        if self.keeps_receipts() {
            let mut memory = self.memory.lock();
            if self.is(Flaw::ForgetsReceiptsOnExpiry)
                && loaded.record.is_none()
                && memory.records.contains_key(&key)
            {
                memory.receipts.remove(&key);
            }
            drop(memory);
            loaded.receipt = self.has(&key, receipt).then(Bytes::new);
        }
        Ok(loaded)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let key = self.mapped(key);
        let mut record = self.written(record);
        if self.is(Flaw::TakesHalfAMebibyte) && record.data.len() > 1 << 19 {
            return Err(StoreError::Refused("the record is too large for this store".into()));
        }
        if record.check_size().is_err() {
            match self.flaw {
                Flaw::TakesAnySize => record.data = "\"large\"".into(),
                Flaw::CutsLargeRecords => record.data.truncate(1 << 20),
                _ => {}
            }
        }
        if self.is(Flaw::AnswersBeforeCommit) {
            let (inner, record, receipt) = (Arc::clone(&self.inner), record.clone(), receipt.copied());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                inner.save(&key, &record, expect, receipt.as_ref()).await
            });
            return Ok(SaveOutcome::Saved);
        }
        if self.is(Flaw::ReusesVersions)
            && expect == Precondition::Absent
            && let Some(version) = self.memory.lock().deleted.get(&key).copied()
        {
            record.version = version;
        }
        let found = self.inner.load(&key, None).await?.record;
        let mut expect = expect;
        match (self.flaw, expect, &found) {
            (Flaw::IgnoresExpect, _, Some(found)) => expect = Precondition::Version(found.version),
            (Flaw::IgnoresExpect, _, None) => expect = Precondition::Absent,
            (Flaw::IgnoresNonce, Precondition::Version(version), Some(found))
                if (version.epoch, version.seq) == (found.version.epoch, found.version.seq) =>
            {
                expect = Precondition::Version(found.version);
            }
            (Flaw::SavesOverExpired, Precondition::Version(version), None)
                if self.memory.lock().records.get(&key).is_some_and(|last| last.version == version) =>
            {
                expect = Precondition::Absent;
            }
            // The mutant decides by a clock that is 25 ms behind.
            (Flaw::IsLenientAtExpiry, Precondition::Version(version), None)
                if self.memory.lock().ends.get(&key).is_some_and(|(last, ends)| {
                    *last == version && Instant::now() < *ends + Duration::from_millis(25)
                }) =>
            {
                expect = Precondition::Absent;
            }
            (Flaw::KeepsOldLifetime, _, Some(found)) => record.ttl = record.ttl.or(found.ttl),
            (Flaw::HasSignedVersions, Precondition::Version(version), _) => {
                expect = Precondition::Version(Version { epoch: version.epoch & (u64::MAX >> 1), ..version });
            }
            (Flaw::ReportsConflictBeforeDuplicate, _, found)
                if expect
                    != found
                        .as_ref()
                        .map_or(Precondition::Absent, |found| Precondition::Version(found.version)) =>
            {
                return Ok(SaveOutcome::Conflict);
            }
            _ => {}
        }
        self.memory.lock().records.insert(key.clone(), record.clone());
        if self.is(Flaw::IsLenientAtExpiry) {
            let saving = self.inner.save(&key, &record, expect, receipt).await?;
            if let (SaveOutcome::Saved, Some(ttl)) = (saving, record.ttl) {
                self.memory.lock().ends.insert(key, (record.version, Instant::now() + ttl));
            }
            return Ok(saving);
        }
        if self.is(Flaw::DropsReceipts) {
            return self.inner.save(&key, &record, expect, None).await;
        }
        if !self.keeps_receipts() {
            return self.inner.save(&key, &record, expect, receipt).await;
        }
        if self.has(&key, receipt) {
            return Ok(SaveOutcome::Duplicate);
        }
        if self.is(Flaw::KeepsReceiptsOfConflicts) {
            self.keep(&key, receipt);
        }
        let saving = self.inner.save(&key, &record, expect, None).await?;
        if self.is(Flaw::SavesReceiptsLater) {
            tokio::task::yield_now().await;
        }
        if saving == SaveOutcome::Saved {
            self.keep(&key, receipt);
        }
        Ok(saving)
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.inner.refuse(key, receipt, answer).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.inner.release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.inner.due(limit).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        self.inner.pending(limit).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let key = self.mapped(key);
        let found = self.inner.load(&key, None).await?.record.map(|found| found.version);
        let version = if self.is(Flaw::DeletesAnyVersion) { found.unwrap_or(version) } else { version };
        let deleted = self.inner.delete(&key, version).await?;
        if deleted {
            let mut memory = self.memory.lock();
            memory.records.remove(&key);
            memory.deleted.insert(key.clone(), version);
            if self.is(Flaw::ForgetsReceiptsOnDelete) {
                memory.receipts.remove(&key);
            }
        }
        Ok(deleted || (self.is(Flaw::DeletesTwice) && found.is_none()))
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        let key = self.mapped(key);
        let left = self.inner.load(&key, None).await?.record.and_then(|record| record.ttl);
        let ttl = if self.is(Flaw::TouchNeverShortens) { left.unwrap_or(ttl).max(ttl) } else { ttl };
        let touched = self.inner.touch(&key, ttl).await?;
        let last = self.memory.lock().records.get(&key).cloned();
        if let (false, true, Some(last)) = (touched, self.is(Flaw::RevivesOnTouch), last) {
            self.inner.save(&key, &Record { ttl: Some(ttl), ..last }, Precondition::Absent, None).await?;
        }
        Ok(touched)
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        if self.is(Flaw::SweepsReceipts) {
            self.memory.lock().receipts.clear();
        }
        if self.is(Flaw::SweepsWithoutLimit) {
            return self.inner.sweep(usize::MAX).await;
        }
        self.inner.sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn suite_catches_every_mutant() {
    let mutants = [
        (Flaw::IgnoresExpect, "precondition does not hold"),
        (Flaw::IgnoresNonce, "precondition does not hold"),
        (Flaw::AnswersBeforeCommit, "loaded byte for byte"),
        (Flaw::ReusesVersions, "has its own version"),
        (Flaw::IsLenientAtExpiry, "an expired record is gone|does not come back"),
        (Flaw::ReportsConflictBeforeDuplicate, "is a duplicate"),
        (Flaw::DropsReceipts, "is a duplicate"),
        // A race decides which of these checks fails first.
        (Flaw::SavesReceiptsLater, "receipt|a dropped save leaves"),
        (Flaw::KeepsReceiptsOfConflicts, "conflict leaves no receipt"),
        (Flaw::ForgetsReceiptsOnDelete, "outlives deletion"),
        (Flaw::ForgetsReceiptsOnExpiry, "outlives expiry"),
        (Flaw::DeletesAnyVersion, "a delete removes"),
        (Flaw::DeletesTwice, "a delete removes"),
        (Flaw::RevivesOnTouch, "an expired record is gone"),
        (Flaw::SavesOverExpired, "an expired record is gone"),
        (Flaw::NeverExpires, "expires"),
        (Flaw::RoundsToSeconds, "has its remaining time to live"),
        (Flaw::TouchNeverShortens, "touched with a shorter"),
        (Flaw::KeepsOldLifetime, "saved without a time to live|exactly one save succeeds"),
        (Flaw::MergesCase, "different keys"),
        (Flaw::TrimsKeys, "different keys"),
        (Flaw::CutsKeys, "different keys"),
        (Flaw::WritesJsonAnew, "byte for byte"),
        (Flaw::HasSignedVersions, "byte for byte"),
        (Flaw::SweepsReceipts, "receipt"),
        (Flaw::SweepsWithoutLimit, "within its limit"),
        (Flaw::TakesAnySize, "more than 1 MiB is refused"),
        (Flaw::CutsLargeRecords, "more than 1 MiB is refused"),
        (Flaw::TakesHalfAMebibyte, "byte for byte|a running store responds"),
    ];
    let mut running = Vec::new();
    for (flaw, promise) in mutants {
        running.push(tokio::spawn(async move {
            let store = Mutant::store(flaw);
            (flaw, promise, suites::store::all(&store, &store).await)
        }));
    }
    for mutant in running {
        let (flaw, promise, outcome) = mutant.await.unwrap();
        println!("{flaw:?}");
        caught(outcome, promise);
    }
}

#[tokio::test(start_paused = true)]
async fn suite_catches_lenience_at_expiry() {
    let store = Mutant::store(Flaw::IsLenientAtExpiry);
    caught(suites::store::one_save_succeeds_at_expiry(&store, &store).await, "does not come back");
}

#[tokio::test(start_paused = true)]
async fn suite_catches_receipts_that_expire_early() {
    #[derive(Debug)]
    struct Forgetful(MemoryStore, Mutex<Option<tokio::time::Instant>>);

    #[async_trait]
    impl Store for Forgetful {
        async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
            let old = self.1.lock().is_some_and(|at| at.elapsed() > Duration::from_secs(60));
            self.0.load(key, receipt.filter(|_| !old)).await
        }

        async fn save(
            &self,
            key: &Key,
            record: &Record,
            expect: Precondition,
            receipt: Option<&Receipt>,
        ) -> Result<SaveOutcome, StoreError> {
            *self.1.lock() = Some(tokio::time::Instant::now());
            self.0.save(key, record, expect, receipt).await
        }

        async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
            self.0.refuse(key, receipt, answer).await
        }

        async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
            self.0.release(receipts).await
        }

        async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
            self.0.due(limit).await
        }

        async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
            self.0.pending(limit).await
        }

        async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
            self.0.delete(key, version).await
        }

        async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
            self.0.touch(key, ttl).await
        }

        async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
            self.0.sweep(limit).await
        }

        async fn ping(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    let store: Arc<dyn Store> = Arc::new(Forgetful(MemoryStore::new(), Mutex::new(None)));
    let outcome = suites::store::receipt_is_kept_for_ten_minutes(&store, tokio::time::advance).await;
    caught(outcome, "kept for ten minutes");
}
