//! Promise 2 for messages: they and the due time are saved with their record, or not at all.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use faststate_core::{
    Key, Store, Version,
    store::{
        Loaded, MAX_PENDING_BYTES, PendingMessages, Precondition, Receipt, Record, SaveOutcome, StoreError,
    },
};
use tokio::{spawn, task::yield_now};

use super::{new_key, new_receipt, record, saved};
use crate::suites::{Failure, ensure};

const UNCHANGED: &str = "messages and due times are loaded as they were saved";
const NOT_SAVED: &str = "a conflict or a duplicate changes neither messages nor due times";

/// Returns the time this many milliseconds after the Unix epoch.
pub(super) fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// Returns a record with one waiting message, which was requested when the record is due.
pub(super) fn waiting(version: Version, due: SystemTime) -> Record {
    let pending = PendingMessages { data: "[1]".into(), waiting: 1, parked: 0, oldest: Some(due) };
    Record { pending, due: Some(due), ..record(version, "{}") }
}

/// Unfinished messages of up to 1 MiB, their numbers and times are loaded as they were saved. Each save replaces them, also
/// one that keeps the version and the data.
pub async fn messages_are_loaded_unchanged(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    let key = new_key()?;
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    let pending = |data: Bytes, waiting, parked, oldest| PendingMessages { data, waiting, parked, oldest };
    let contents = [
        (PendingMessages::default(), None),
        (pending("[]".into(), 1, 0, Some(at(1))), None),
        (pending(all_bytes.into(), 0, 2, Some(at(1_700_000_000_123))), Some(at(1))),
        // A timer alone does not wait for anything.
        (pending(" ".into(), 0, 0, None), Some(at(253_402_300_799_999))),
        (pending("\0".into(), u32::MAX >> 1, u32::MAX >> 1, Some(at(0))), Some(at(0))),
        (pending(vec![0xff; MAX_PENDING_BYTES].into(), 1, 1, Some(at(2))), Some(at(1_800_000_000_001))),
        (PendingMessages::default(), Some(at(7))),
        (PendingMessages::default(), None),
    ];
    let mut expect = Precondition::Absent;
    let mut version = Version::start();
    for keeps_version in [false, true] {
        for (pending, due) in &contents {
            let written = Record { pending: pending.clone(), due: *due, ..record(version, "{}") };
            saved(a.save(&key, &written, expect, None).await?, UNCHANGED)?;
            is_stored(b, &key, &written, UNCHANGED).await?;
            expect = Precondition::Version(version);
            if !keeps_version {
                version = version.next();
            }
        }
        version = if let Precondition::Version(version) = expect { version } else { version };
    }
    a.delete(&key, version).await?;
    Ok(())
}

/// A save that keeps the version, the data and the messages can change the due time.
pub async fn due_time_is_saved_with_unchanged_record(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "a save that keeps version and data changes the due time";
    let key = new_key()?;
    let present = waiting(Version::start(), at(5));
    let same = Precondition::Version(present.version);
    saved(a.save(&key, &present, Precondition::Absent, None).await?, PROMISE)?;
    for due in [Some(at(253_402_300_799_999)), None, Some(at(3)), Some(at(4))] {
        let receipt = new_receipt(&key);
        let moved = Record { due, ..present.clone() };
        saved(b.save(&key, &moved, same, Some(&receipt)).await?, PROMISE)?;
        is_stored(a, &key, &moved, PROMISE).await?;
        let listed = a.due(10_000).await?.keys.contains(&key);
        ensure!(
            listed == due.is_some_and(|due| due < at(10)),
            PROMISE,
            "due at {due:?}, it is listed: {listed}"
        );
        let saving = a.save(&key, &present, same, Some(&receipt)).await?;
        ensure!(saving == SaveOutcome::Duplicate, PROMISE, "the repeat returned {saving:?}");
    }
    a.delete(&key, present.version).await?;
    Ok(())
}

/// A conflict and a duplicate change neither the messages nor the due time of a record.
pub async fn unsaved_messages_leave_no_trace(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    let key = new_key()?;
    let receipt = new_receipt(&key);
    let present = waiting(Version::start(), at(5));
    saved(a.save(&key, &present, Precondition::Absent, Some(&receipt)).await?, NOT_SAVED)?;
    let before = a.pending(0).await?;
    let quiet = record(Version::start(), "{}");
    let many = PendingMessages { data: "[1,2]".into(), waiting: 2, parked: 1, oldest: Some(at(9)) };
    let busy = Record { pending: many, due: Some(at(9)), ..quiet.clone() };
    for other in [&quiet, &busy] {
        for (expect, receipt) in [
            (Precondition::Absent, None),
            (Precondition::Version(other.version), None),
            (Precondition::Absent, Some(new_receipt(&key))),
            (Precondition::Version(present.version), Some(receipt)),
        ] {
            let saving = b.save(&key, other, expect, receipt.as_ref()).await?;
            ensure!(saving != SaveOutcome::Saved, NOT_SAVED, "the outcome was {saving:?}");
            is_stored(a, &key, &present, NOT_SAVED).await?;
            let listed = a.due(10_000).await?.keys.contains(&key);
            ensure!(listed, NOT_SAVED, "the record is not due after a {saving:?}");
            let after = a.pending(0).await?;
            ensure!(
                (after.waiting, after.parked) == (before.waiting, before.parked),
                NOT_SAVED,
                "{before:?} became {after:?}"
            );
        }
    }
    a.delete(&key, present.version).await?;
    let saving = b.save(&key, &busy, Precondition::Version(present.version), None).await?;
    ensure!(saving == SaveOutcome::Conflict, NOT_SAVED, "the outcome was {saving:?}");
    let listed = a.due(10_000).await?.keys.contains(&key);
    ensure!(!listed, NOT_SAVED, "a conflict without a record made its key due");
    Ok(())
}

/// A concurrent load returns the data, the messages and the due time of the same save.
pub async fn record_and_messages_are_saved_together(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "a record, its messages and its due time are saved together";
    const STEPS: u32 = 100;
    let key = new_key()?;
    let start = Version::start();
    let step = |version: Version| {
        let number = u32::try_from(version.seq).unwrap_or_default();
        let oldest = (number % 3 > 0).then(|| at(version.seq));
        let pending =
            PendingMessages { data: number.to_string().into(), waiting: number, parked: number / 2, oldest };
        let due = (number % 2 > 0).then(|| at(version.seq));
        Record { pending, due, ..record(version, number.to_string()) }
    };
    saved(a.save(&key, &step(start), Precondition::Absent, None).await?, PROMISE)?;
    let writer = {
        let (store, key) = (Arc::clone(a), key.clone());
        spawn(async move {
            let mut version = start;
            for _ in 0..STEPS {
                let next = version.next();
                let saving = store.save(&key, &step(next), Precondition::Version(version), None).await?;
                saved(saving, "a save without concurrent writers succeeds")?;
                version = next;
            }
            Ok::<_, Failure>(version)
        })
    };
    loop {
        let written = writer.is_finished();
        let Some(found) = b.load(&key, None).await?.record else {
            return Err(Failure::new(PROMISE, "the record is gone"));
        };
        ensure!(found == step(found.version), PROMISE, "the store has {found:?}");
        if written {
            break;
        }
        yield_now().await;
    }
    let last = writer.await??;
    a.delete(&key, last).await?;
    Ok(())
}

/// A record with more than 1 MiB of unfinished messages is refused permanently, not as a conflict, and nothing changes.
pub async fn oversized_messages_are_refused(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "a record with more than 1 MiB of messages is refused and changes nothing";
    let key = new_key()?;
    let receipt = new_receipt(&key);
    let mut large = waiting(Version::start(), at(5));
    large.pending.data = vec![b' '; MAX_PENDING_BYTES + 1].into();
    for present in [None, Some(record(Version::start(), "{}"))] {
        if let Some(present) = &present {
            saved(a.save(&key, present, Precondition::Absent, None).await?, PROMISE)?;
        }
        let expect =
            present.as_ref().map_or(Precondition::Absent, |present| Precondition::Version(present.version));
        let saving = a.save(&key, &large, expect, Some(&receipt)).await;
        ensure!(matches!(saving, Err(StoreError::Refused(_))), PROMISE, "the outcome was {saving:?}");
        let found = b.load(&key, Some(&receipt)).await?;
        let stored = found.record.as_ref().map(|record| (record.version, record.pending.data.len()));
        ensure!(found == Loaded { record: present, receipt: None }, PROMISE, "the store has {stored:?}");
        let listed = a.due(10_000).await?.keys.contains(&key);
        ensure!(!listed, PROMISE, "the record is due");
    }
    Ok(())
}

/// Checks that the store has this record.
pub(super) async fn is_stored(
    store: &Arc<dyn Store>,
    key: &Key,
    record: &Record,
    promise: &str,
) -> Result<(), Failure> {
    let found = store.load(key, None::<&Receipt>).await?.record;
    ensure!(
        found.as_ref() == Some(record),
        promise,
        "instead of {} bytes with due time {:?}, the store has {:?}",
        record.pending.data.len(),
        record.due,
        found.map(|found| {
            let PendingMessages { data, waiting, parked, oldest } = found.pending;
            (found.version, found.data.len(), data.len(), waiting, parked, oldest, found.due)
        })
    );
    Ok(())
}
