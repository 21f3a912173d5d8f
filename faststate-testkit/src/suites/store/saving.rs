//! Promise 1: a save succeeds if its precondition holds, and exactly one of several concurrent saves does.

use std::sync::Arc;

use bytes::Bytes;
use faststate_core::{
    Store, Version,
    store::{Loaded, MAX_RECORD_BYTES, Precondition, Record, SaveOutcome, StoreError},
};
use futures::future::try_join_all;
use tokio::{spawn, sync::Barrier};

use super::{first, new_key, new_receipt, record, saved};
use crate::suites::{Failure, ensure};

/// The number of concurrent saves.
const RACERS: usize = 64;

/// A saved record is loaded byte for byte: any version and schema, and any JSON up to 1 MiB.
pub async fn saved_record_is_loaded_unchanged(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "a saved record is loaded byte for byte";
    let key = new_key()?;
    let nothing = a.load(&key, None).await?;
    ensure!(nothing == Loaded { record: None, receipt: None }, PROMISE, "a new key has {nothing:?}");

    let text = json_of(MAX_RECORD_BYTES);
    let mut expect = Precondition::Absent;
    for data in ["{}", r#"{ "b" : 1.0, "a": "\u0000 \\ \r é 🦀 \u2028", "a_": 18446744073709551615 }"#, &text]
    {
        for version in [
            Version::start(),
            Version { epoch: u64::MAX, seq: u64::MAX, nonce: u32::MAX },
            Version { epoch: 0, seq: 0, nonce: 0 },
            Version { epoch: 1 << 63, seq: (1 << 53) + 1, nonce: 1 << 31 },
        ] {
            let written = Record { schema: u32::MAX, ..record(version, data.to_owned()) };
            saved(a.save(&key, &written, expect, None).await?, PROMISE)?;
            let found = b.load(&key, None).await?.record;
            ensure!(
                found.as_ref() == Some(&written),
                PROMISE,
                "{} bytes at {version} were loaded as {:?}",
                data.len(),
                found.map(|record| (record.schema, record.version, record.ttl, record.data.len()))
            );
            expect = Precondition::Version(version);
        }
    }
    Ok(())
}

/// A record with more than 1 MiB of data is refused permanently, not as a conflict, and nothing changes.
pub async fn oversized_record_is_refused(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "a record of more than 1 MiB is refused and changes nothing";
    let key = new_key()?;
    let receipt = new_receipt(&key);
    let large = record(Version::start(), json_of(MAX_RECORD_BYTES + 1));
    for present in [None, Some(record(Version::start(), "{}"))] {
        if let Some(present) = &present {
            saved(a.save(&key, present, Precondition::Absent, None).await?, PROMISE)?;
        }
        let expect =
            present.as_ref().map_or(Precondition::Absent, |present| Precondition::Version(present.version));
        let saving = a.save(&key, &large, expect, Some(&receipt)).await;
        ensure!(matches!(saving, Err(StoreError::Refused(_))), PROMISE, "the outcome was {saving:?}");
        let found = b.load(&key, Some(&receipt)).await?;
        let unchanged = Loaded { record: present, receipt: None };
        let there = (found.record.as_ref().map(|record| record.data.len()), &found.receipt);
        ensure!(
            found == unchanged,
            PROMISE,
            "the store has a record of so many bytes and a receipt: {there:?}"
        );
    }
    Ok(())
}

/// JSON of this length.
fn json_of(bytes: usize) -> String {
    format!("[\"{}\"]", "x".repeat(bytes - 4))
}

/// A save succeeds if its precondition holds; otherwise it conflicts and changes nothing.
pub async fn save_with_other_precondition_conflicts(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "a save whose precondition does not hold conflicts and changes nothing";
    let key = new_key()?;
    let version = Version { epoch: 7, seq: 8, nonce: 9 };
    let other = record(Version::start(), r#"{"other":true}"#);
    let saving = a.save(&key, &other, Precondition::Version(version), None).await?;
    ensure!(saving == SaveOutcome::Conflict, PROMISE, "a version without a record returned {saving:?}");
    ensure!(a.load(&key, None).await?.record.is_none(), PROMISE, "the conflict created a record");

    let present = record(version, r#"{"present":true}"#);
    saved(
        a.save(&key, &present, Precondition::Absent, None).await?,
        "a save that expects no record succeeds if there is none",
    )?;
    for expect in [
        Precondition::Absent,
        Precondition::Version(Version { epoch: 6, ..version }),
        Precondition::Version(Version { seq: 7, ..version }),
        Precondition::Version(Version { seq: 9, ..version }),
        Precondition::Version(Version { nonce: 8, ..version }),
        Precondition::Version(other.version),
    ] {
        let saving = b.save(&key, &other, expect, None).await?;
        ensure!(saving == SaveOutcome::Conflict, PROMISE, "{expect:?} at {version} returned {saving:?}");
        let found = a.load(&key, None).await?.record;
        ensure!(found.as_ref() == Some(&present), PROMISE, "after {expect:?} the store has {found:?}");
    }
    saved(
        b.save(&key, &other, Precondition::Version(version), None).await?,
        "a save that expects the stored version succeeds",
    )?;
    let saving = a.save(&key, &present, Precondition::Version(version), None).await?;
    ensure!(
        saving == SaveOutcome::Conflict,
        PROMISE,
        "the version before the current one returned {saving:?}"
    );
    Ok(())
}

/// A delete removes the record at the named version and no other, and returns whether it did.
pub async fn delete_removes_only_the_named_version(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "a delete removes the record at the named version and no other";
    let key = new_key()?;
    ensure!(!a.delete(&key, Version::start()).await?, PROMISE, "it deleted a record that does not exist");
    let present = first(a, &key, None).await?;
    let version = present.version;
    for wrong in [Version::start(), version.next(), Version { nonce: version.nonce ^ 1, ..version }] {
        ensure!(!b.delete(&key, wrong).await?, PROMISE, "{wrong} was deleted at {version}");
        let found = a.load(&key, None).await?.record;
        ensure!(found.as_ref() == Some(&present), PROMISE, "after a refused delete the store has {found:?}");
    }
    ensure!(b.delete(&key, version).await?, PROMISE, "it did not delete the current version");
    ensure!(a.load(&key, None).await?.record.is_none(), PROMISE, "the record still exists");
    ensure!(!a.delete(&key, version).await?, PROMISE, "it deleted the record twice");
    let late = record(version.next(), "{}");
    let saving = a.save(&key, &late, Precondition::Version(version), None).await?;
    ensure!(
        saving == SaveOutcome::Conflict,
        PROMISE,
        "a save that expected the deleted version returned {saving:?}"
    );
    saved(
        a.save(&key, &late, Precondition::Absent, None).await?,
        "a deleted record can be replaced by a new one",
    )?;
    let found = b.load(&key, None).await?.record;
    ensure!(found == Some(late), "a new record has its own version (law 10)", "the store has {found:?}");
    Ok(())
}

/// Exactly one of 64 concurrent saves with the same precondition succeeds, and its record is loaded (law 2). The same holds
/// for a delete and a save.
pub async fn one_of_many_concurrent_saves_succeeds(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "exactly one of many concurrent saves with the same precondition succeeds";
    let key = new_key()?;
    let mut expect = Precondition::Absent;
    for round in 0..4 {
        let start = Arc::new(Barrier::new(RACERS));
        let racers = (0..RACERS).map(|racer| {
            let (store, key, start) =
                (Arc::clone(if racer % 2 == 0 { a } else { b }), key.clone(), Arc::clone(&start));
            // Some saves have a receipt, because a store may save them differently.
            let receipt = (racer % 4 < 2).then(faststate_core::store::Receipt::internal);
            let record = record(Version::start(), format!(r#"{{"racer":{racer}}}"#));
            spawn(async move {
                start.wait().await;
                let saving = store.save(&key, &record, expect, receipt.as_ref()).await?;
                Ok::<_, Failure>((saving, record))
            })
        });
        let mut winners = Vec::new();
        for outcome in try_join_all(racers).await? {
            match outcome? {
                (SaveOutcome::Saved, record) => winners.push(record),
                (SaveOutcome::Conflict, _) => {}
                (SaveOutcome::Duplicate, _) => ensure!(false, PROMISE, "a new receipt was a duplicate"),
            }
        }
        let [winner] = &*winners else {
            return Err(Failure::new(PROMISE, format!("{} succeeded in round {round}", winners.len())));
        };
        let found = b.load(&key, None).await?.record;
        ensure!(found.as_ref() == Some(winner), PROMISE, "a record other than the winner's was loaded");
        expect = Precondition::Version(winner.version);
    }
    let Precondition::Version(version) = expect else { return Ok(()) };
    let late = record(version.next(), "{}");
    let (deleted, saving) =
        futures::future::try_join(a.delete(&key, version), b.save(&key, &late, expect, None)).await?;
    ensure!(
        deleted != (saving == SaveOutcome::Saved),
        "exactly one of a delete and a save of the same version succeeds",
        "deleted: {deleted}, saved: {saving:?}"
    );
    Ok(())
}

/// Eight tasks that load, increment and save until they succeed lose no increment (law 2).
pub async fn concurrent_increments_are_all_counted(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "no concurrent increment is lost";
    const TASKS: usize = 8;
    const STEPS: u64 = 25;
    let key = new_key()?;
    let tasks = (0..TASKS).map(|task| {
        let (store, key) = (Arc::clone(if task % 2 == 0 { a } else { b }), key.clone());
        spawn(async move {
            for _ in 0..STEPS {
                while !increment(&store, &key).await? {}
            }
            Ok::<_, Failure>(())
        })
    });
    for task in try_join_all(tasks).await? {
        task?;
    }
    let record = a.load(&key, None).await?.record;
    let count = record.as_ref().map(|record| (record.version.seq, count(&record.data)));
    let expected = STEPS * TASKS as u64;
    ensure!(count == Some((expected - 1, expected)), PROMISE, "{expected} increments resulted in {record:?}");
    Ok(())
}

async fn increment(store: &Arc<dyn Store>, key: &faststate_core::Key) -> Result<bool, Failure> {
    let found = store.load(key, None).await?.record;
    let (next, expect) = match found {
        None => (record(Version::start(), "1"), Precondition::Absent),
        Some(found) => {
            let data = (count(&found.data) + 1).to_string();
            (record(found.version.next(), data), Precondition::Version(found.version))
        }
    };
    Ok(store.save(key, &next, expect, None).await? == SaveOutcome::Saved)
}

fn count(data: &Bytes) -> u64 {
    serde_json::from_slice(data).unwrap_or_default()
}
