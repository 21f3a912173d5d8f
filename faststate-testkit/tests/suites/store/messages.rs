//! Mutants of the memory store with flaws in messages, due times and refusals.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Key, MemoryStore, Store, Version,
    store::{
        DueKeys, Loaded, MAX_PENDING_BYTES, PendingMessages, PendingSummary, Precondition, RECEIPT_KEPT,
        Receipt, Record, SaveOutcome, StoreError,
    },
};
use faststate_testkit::{
    faults::{Overridden, StoreOverride},
    suites,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::caught;

/// The flaw of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    DropsMessages,
    DropsCounts,
    DropsDueTimes,
    RoundsDueTimes,
    KeepsOldMessages,
    KeepsDueTimeOfVersion,
    SchedulesConflicts,
    SavesMessagesOfConflicts,
    SavesMessagesLater,
    TakesAnyMessages,
    CutsMessages,
    TakesHalfAMebibyteOfMessages,
    ListsLatestFirst,
    ListsWithoutOrder,
    ListsWithoutLimit,
    ListsBeforeTheirTime,
    ListsTooLate,
    HasTwoClocks,
    ListsDeleted,
    ListsExpired,
    ListsReplaced,
    IgnoresTouch,
    SumsWithinLimit,
    CountsExpired,
    ListsTimers,
    ListsYoungestFirst,
    ForgetsAge,
    LosesAnswers,
    CutsAnswers,
    RefusalNeedsRecord,
    RefusalTakesRecord,
    RefusalUnschedules,
    RefusesAgain,
    RefusesAccepted,
    ForgetsRefusals,
    ReportsConflictBeforeRefusal,
    ChecksRefusalFirst,
    ForgetsReleased,
    ReleaseFails,
    ReleaseCreates,
    ReleaseLengthens,
    NeverReleases,
    KeepsMessagesTenMinutes,
    KeepsMessagesForever,
}

/// A memory store with one flaw.
#[derive(Debug)]
struct Mutant {
    inner: MemoryStore,
    flaw: Flaw,
    memory: Mutex<Memory>,
}

/// State that some flaws need.
#[derive(Debug, Default)]
struct Memory {
    /// All records that were ever saved.
    saved: HashMap<Key, Record>,
    deleted: HashSet<Key>,
    receipts: HashMap<Receipt, (Bytes, Instant)>,
}

impl Mutant {
    fn store(flaw: Flaw) -> Arc<dyn Store> {
        Arc::new(Overridden(Self { inner: MemoryStore::new(), flaw, memory: Mutex::default() }))
    }

    /// Returns whether the mutant keeps the receipts of messages itself, because its flaw is in doing so.
    fn keeps_receipts(&self) -> bool {
        use Flaw::{
            ForgetsReleased, KeepsMessagesForever, KeepsMessagesTenMinutes, NeverReleases, RefusesAccepted,
            RefusesAgain, ReleaseCreates, ReleaseLengthens,
        };
        matches!(
            self.flaw,
            ForgetsReleased
                | KeepsMessagesForever
                | KeepsMessagesTenMinutes
                | NeverReleases
                | RefusesAccepted
                | RefusesAgain
                | ReleaseCreates
                | ReleaseLengthens
        )
    }

    fn answer(&self, receipt: &Receipt) -> Option<Bytes> {
        let memory = self.memory.lock();
        let (answer, end) = memory.receipts.get(receipt)?;
        (*end > Instant::now()).then(|| answer.clone())
    }

    fn keep(&self, receipt: &Receipt, answer: &Bytes) {
        let kept = match self.flaw {
            Flaw::KeepsMessagesTenMinutes => RECEIPT_KEPT,
            Flaw::KeepsMessagesForever => Duration::from_hours(24 * 365),
            _ => receipt.lifetime(),
        };
        self.memory.lock().receipts.insert(*receipt, (answer.clone(), Instant::now() + kept));
    }

    /// Returns the record as the mutant saves it.
    fn written(&self, record: &Record, found: Option<&Record>) -> Record {
        let mut record = record.clone();
        let pending = &mut record.pending;
        match self.flaw {
            Flaw::DropsMessages => *pending = PendingMessages::default(),
            Flaw::DropsCounts => (pending.waiting, pending.parked) = (0, 0),
            Flaw::DropsDueTimes => record.due = None,
            Flaw::RoundsDueTimes => record.due = record.due.map(|due| due - Duration::from_nanos(nanos(due))),
            Flaw::KeepsOldMessages if pending.is_empty() => {
                *pending = found.map(|found| found.pending.clone()).unwrap_or_default();
            }
            Flaw::KeepsDueTimeOfVersion => {
                let same = found.filter(|found| found.version == record.version);
                record.due = same.map_or(record.due, |found| found.due);
            }
            Flaw::TakesAnyMessages if pending.data.len() > MAX_PENDING_BYTES => pending.data = "[]".into(),
            Flaw::CutsMessages => pending.data.truncate(MAX_PENDING_BYTES),
            _ => {}
        }
        record
    }

    /// Returns all records that were saved and are stored, or whose loss the flaw overlooks.
    async fn listed(&self) -> Vec<(Key, Record)> {
        let saved = self.memory.lock().saved.clone();
        let mut listed = Vec::new();
        for (key, record) in saved {
            let is_deleted = self.memory.lock().deleted.contains(&key);
            let stored = self.inner.load(&key, None).await.unwrap().record;
            let overlooked = match self.flaw {
                Flaw::ListsDeleted => is_deleted,
                Flaw::ListsExpired | Flaw::CountsExpired => !is_deleted,
                _ => false,
            };
            if let Some(record) = stored.or(overlooked.then_some(record)) {
                listed.push((key, record));
            }
        }
        listed
    }
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos().into()
}

#[async_trait]
impl StoreOverride for Mutant {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let mut loaded = self.inner.load(key, receipt).await?;
        if let Some(message) = receipt.filter(|receipt| self.keeps_receipts() && receipt.is_message()) {
            loaded.receipt = self.answer(message);
        }
        loaded.receipt = loaded.receipt.map(|answer| match self.flaw {
            Flaw::LosesAnswers => Bytes::new(),
            Flaw::CutsAnswers => answer.slice(..answer.len().min(255)),
            _ => answer,
        });
        Ok(loaded)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        if self.flaw == Flaw::TakesHalfAMebibyteOfMessages && record.pending.data.len() > 1 << 19 {
            return Err(StoreError::Refused("the messages are too large for this store".into()));
        }
        let found = self.inner.load(key, receipt).await?;
        let message = receipt.filter(|receipt| self.keeps_receipts() && receipt.is_message());
        if message.is_some_and(|message| self.answer(message).is_some()) {
            return Ok(SaveOutcome::Duplicate);
        }
        let is_refused = found.receipt.as_ref().is_some_and(|answer| !answer.is_empty());
        let present = found.record.as_ref().map(|found| found.version);
        let expected = present.map_or(Precondition::Absent, Precondition::Version) == expect;
        if self.flaw == Flaw::ReportsConflictBeforeRefusal && is_refused && !expected {
            return Ok(SaveOutcome::Conflict);
        }
        let receipt =
            receipt.filter(|_| message.is_none() && !(self.flaw == Flaw::ForgetsRefusals && is_refused));
        let record = self.written(record, found.record.as_ref());
        let changed = match &found.record {
            Some(found) if !expected && self.flaw == Flaw::SchedulesConflicts => {
                Some(Record { due: record.due, ..found.clone() })
            }
            Some(found) if !expected && self.flaw == Flaw::SavesMessagesOfConflicts => {
                Some(Record { pending: record.pending.clone(), ..found.clone() })
            }
            _ => None,
        };
        if let Some(changed) = changed {
            self.inner.save(key, &changed, Precondition::Version(changed.version), None).await?;
        }
        let saving = if self.flaw == Flaw::SavesMessagesLater {
            let data = Record { pending: PendingMessages::default(), due: None, ..record.clone() };
            let saving = self.inner.save(key, &data, expect, receipt).await?;
            tokio::task::yield_now().await;
            if saving == SaveOutcome::Saved {
                self.inner.save(key, &record, Precondition::Version(record.version), None).await?;
            }
            saving
        } else {
            self.inner.save(key, &record, expect, receipt).await?
        };
        if saving == SaveOutcome::Saved {
            if let Some(message) = message {
                self.keep(message, &Bytes::new());
            }
            let mut memory = self.memory.lock();
            memory.deleted.remove(key);
            if self.flaw != Flaw::ListsReplaced || record.due.is_some() {
                memory.saved.insert(key.clone(), record);
            }
        }
        Ok(saving)
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        let found = self.inner.load(key, Some(receipt)).await?;
        if self.keeps_receipts() {
            let is_new = match self.answer(receipt) {
                None => true,
                Some(old) if old.is_empty() => self.flaw == Flaw::RefusesAccepted,
                Some(_) => self.flaw == Flaw::RefusesAgain,
            };
            if is_new {
                self.keep(receipt, answer);
            }
            return Ok(is_new);
        }
        if self.flaw == Flaw::ChecksRefusalFirst {
            // Another call may come in between.
            tokio::task::yield_now().await;
            self.inner.refuse(key, receipt, answer).await?;
            return Ok(found.receipt.is_none());
        }
        if self.flaw == Flaw::RefusalNeedsRecord && found.record.is_none() {
            return Ok(false);
        }
        let is_new = self.inner.refuse(key, receipt, answer).await?;
        if let (true, Some(mut record)) = (is_new, found.record) {
            let same = Precondition::Version(record.version);
            match self.flaw {
                Flaw::RefusalTakesRecord => _ = self.inner.delete(key, record.version).await?,
                Flaw::RefusalUnschedules => {
                    record.due = None;
                    self.inner.save(key, &record, same, None).await?;
                }
                _ => {}
            }
        }
        Ok(is_new)
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        let now = Instant::now();
        for (key, receipt) in receipts {
            let is_known = self.inner.load(key, Some(receipt)).await?.receipt.is_some();
            if self.flaw == Flaw::ReleaseFails && !is_known {
                return Err(StoreError::Unavailable("there is no such receipt".into()));
            }
            let mut memory = self.memory.lock();
            match (self.flaw, memory.receipts.get_mut(receipt)) {
                (Flaw::NeverReleases, _) => {}
                (Flaw::ForgetsReleased, _) => _ = memory.receipts.remove(receipt),
                (Flaw::ReleaseLengthens, Some((_, end))) => *end = now + RECEIPT_KEPT,
                (Flaw::ReleaseCreates, None) => {
                    memory.receipts.insert(*receipt, (Bytes::new(), now + RECEIPT_KEPT));
                }
                (_, Some((_, end))) => *end = (*end).min(now + RECEIPT_KEPT),
                (_, None) => {}
            }
        }
        self.inner.release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        let DueKeys { now, mut keys } = self.inner.due(limit).await?;
        let hour = Duration::from_secs(3600);
        match self.flaw {
            Flaw::ListsLatestFirst | Flaw::ListsWithoutOrder => {
                keys = self.inner.due(usize::MAX).await?.keys;
                if self.flaw == Flaw::ListsLatestFirst {
                    keys.reverse();
                } else {
                    keys.sort_by_key(|key| key.as_str().len());
                }
                keys.truncate(limit);
            }
            Flaw::ListsWithoutLimit => keys = self.inner.due(usize::MAX).await?.keys,
            Flaw::HasTwoClocks => return Ok(DueKeys { now: now - hour, keys }),
            Flaw::ListsBeforeTheirTime
            | Flaw::ListsTooLate
            | Flaw::ListsDeleted
            | Flaw::ListsExpired
            | Flaw::ListsReplaced => {
                let ends = match self.flaw {
                    Flaw::ListsBeforeTheirTime => now + Duration::from_millis(150),
                    Flaw::ListsTooLate => now - Duration::from_millis(100),
                    _ => now,
                };
                let saved = self.memory.lock().saved.clone();
                let mut listed = Vec::new();
                for (key, record) in self.listed().await {
                    let due = if self.flaw == Flaw::ListsReplaced { saved[&key].due } else { record.due };
                    listed.extend(due.filter(|due| *due <= ends).map(|due| (due, key)));
                }
                listed.sort();
                keys = listed.into_iter().take(limit).map(|(_, key)| key).collect();
            }
            _ => {}
        }
        Ok(DueKeys { now, keys })
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        let mut summary = self.inner.pending(limit).await?;
        match self.flaw {
            Flaw::SumsWithinLimit => {
                (summary.waiting, summary.parked) = (0, 0);
                for key in &summary.keys {
                    let pending = self.inner.load(key, None).await?.record.unwrap_or_else(none).pending;
                    summary.waiting += u64::from(pending.waiting);
                    summary.parked += u64::from(pending.parked);
                }
            }
            Flaw::CountsExpired => {
                let pending = self.listed().await.into_iter().map(|(_, record)| record.pending);
                summary.waiting = pending.map(|pending| u64::from(pending.waiting)).sum();
            }
            Flaw::ListsTimers => {
                let listed = self.listed().await.into_iter();
                let timers = listed
                    .filter(|(_, record)| record.pending.oldest.is_none() && !record.pending.is_empty());
                summary.keys.extend(timers.map(|(key, _)| key));
                summary.keys.truncate(limit);
            }
            Flaw::ListsYoungestFirst => {
                summary.keys = self.inner.pending(usize::MAX).await?.keys;
                summary.keys.reverse();
                summary.keys.truncate(limit);
            }
            Flaw::ForgetsAge => summary.age = summary.age.map(|_| Duration::ZERO),
            _ => {}
        }
        Ok(summary)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let deleted = self.inner.delete(key, version).await?;
        if deleted {
            self.memory.lock().deleted.insert(key.clone());
        }
        Ok(deleted)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        if self.flaw == Flaw::IgnoresTouch
            && let Some(record) = self.inner.load(key, None).await?.record
            && (record.due.is_some() || record.pending.oldest.is_some())
        {
            return Ok(true);
        }
        self.inner.touch(key, ttl).await
    }
}

fn none() -> Record {
    Record::new(1, Version::start(), "{}", None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn suite_catches_every_mutant_of_messages() {
    // The check of dropped saves, which comes first, compares messages, too.
    const UNCHANGED: &str = "messages and due times are loaded as they were saved|never a mixture";
    const TOGETHER: &str = "a record, its messages and its due time are saved together|never a mixture";
    const ORDER: &str = "due records are listed earliest first";
    const CLOCK: &str = "a record is due from its due time on";
    const REMOVED: &str = "deleted, replaced or has expired is not due";
    const COUNTED: &str = "unfinished messages of all records are counted";
    const ANSWER: &str = "a refusal saves a receipt with its answer";
    const RACE: &str = "exactly one of concurrent saves and refusals";
    let mutants = [
        (Flaw::DropsMessages, UNCHANGED),
        (Flaw::DropsCounts, UNCHANGED),
        (Flaw::DropsDueTimes, UNCHANGED),
        (Flaw::RoundsDueTimes, UNCHANGED),
        (Flaw::KeepsOldMessages, UNCHANGED),
        (Flaw::KeepsDueTimeOfVersion, UNCHANGED),
        (Flaw::SchedulesConflicts, "a conflict or a duplicate changes neither"),
        (Flaw::SavesMessagesOfConflicts, "a conflict or a duplicate changes neither"),
        (Flaw::SavesMessagesLater, TOGETHER),
        (Flaw::TakesAnyMessages, "more than 1 MiB of messages is refused"),
        (Flaw::CutsMessages, "more than 1 MiB of messages is refused"),
        (Flaw::TakesHalfAMebibyteOfMessages, "a running store responds"),
        (Flaw::ListsLatestFirst, ORDER),
        (Flaw::ListsWithoutOrder, ORDER),
        (Flaw::ListsWithoutLimit, ORDER),
        (Flaw::ListsBeforeTheirTime, CLOCK),
        (Flaw::ListsTooLate, CLOCK),
        (Flaw::HasTwoClocks, CLOCK),
        (
            Flaw::ListsDeleted,
            "a conflict or a duplicate changes neither|deleted, replaced or has expired is not due",
        ),
        (Flaw::ListsExpired, REMOVED),
        (Flaw::ListsReplaced, REMOVED),
        (Flaw::IgnoresTouch, REMOVED),
        (Flaw::SumsWithinLimit, "counted"),
        (Flaw::CountsExpired, "are not counted"),
        (Flaw::ListsTimers, COUNTED),
        (Flaw::ListsYoungestFirst, "listed oldest first"),
        (Flaw::ForgetsAge, COUNTED),
        (Flaw::LosesAnswers, ANSWER),
        (Flaw::CutsAnswers, ANSWER),
        (Flaw::RefusalNeedsRecord, ANSWER),
        (Flaw::RefusalTakesRecord, "a refusal changes no record"),
        (Flaw::RefusalUnschedules, "a refusal changes no record"),
        (Flaw::RefusesAgain, ANSWER),
        (Flaw::RefusesAccepted, "an accepted message cannot be refused"),
        (Flaw::ForgetsRefusals, "with the receipt of a refusal is a duplicate"),
        (Flaw::ReportsConflictBeforeRefusal, "with the receipt of a refusal is a duplicate"),
        (Flaw::ChecksRefusalFirst, RACE),
        (Flaw::ForgetsReleased, "a released receipt still exists"),
        (Flaw::ReleaseFails, "a running store responds"),
        (Flaw::ReleaseCreates, "a release creates no receipt"),
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
async fn suite_catches_lifetimes_of_message_receipts() {
    const RELEASED: &str = "a released receipt is kept for ten minutes";
    const KEPT: &str = "the receipt of a message is kept for eight days";
    for (flaw, promise) in [
        (Flaw::ForgetsReleased, RELEASED),
        (Flaw::ReleaseLengthens, RELEASED),
        (Flaw::NeverReleases, RELEASED),
        (Flaw::KeepsMessagesTenMinutes, KEPT),
        (Flaw::KeepsMessagesForever, KEPT),
    ] {
        println!("{flaw:?}");
        let store = Mutant::store(flaw);
        let outcome =
            suites::store::message_receipt_is_kept_until_release(&store, tokio::time::advance).await;
        caught(outcome, promise);
    }
}
