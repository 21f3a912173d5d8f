//! Promises 2, 3 and 7: receipts.

use std::{future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use faststate_core::{
    Key, Store, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome},
};
use futures::future::{poll_fn, try_join_all};
use tokio::{spawn, task::yield_now, time::timeout};

use super::{
    first,
    messages::{at, waiting},
    new_key, new_receipt, record, saved,
};
use crate::suites::{Failure, ensure, until, wait::CHECK_TIMEOUT};

/// Returns the answer of an accepted event's receipt.
pub(super) fn accepted() -> Option<Bytes> {
    Some(Bytes::new())
}

/// A save with a stored receipt is a duplicate and changes nothing, regardless of its precondition. A conflict leaves no
/// receipt (law 3).
pub async fn save_with_known_receipt_is_duplicate(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "a save with a stored receipt is a duplicate and changes nothing";
    let key = new_key()?;
    let (receipt, other) = (new_receipt(&key), new_receipt(&key));
    let present = record(Version::start(), r#"{"present":true}"#);
    saved(
        a.save(&key, &present, Precondition::Absent, Some(&receipt)).await?,
        "a save with a new receipt is not a duplicate",
    )?;

    let repeat = record(Version::start(), r#"{"repeat":true}"#);
    for expect in
        [Precondition::Version(present.version), Precondition::Absent, Precondition::Version(repeat.version)]
    {
        let saving = b.save(&key, &repeat, expect, Some(&receipt)).await?;
        ensure!(saving == SaveOutcome::Duplicate, PROMISE, "{expect:?} returned {saving:?}");
        let found = a.load(&key, Some(&receipt)).await?;
        let unchanged = Loaded { record: Some(present.clone()), receipt: accepted() };
        ensure!(found == unchanged, PROMISE, "after {expect:?} the store has {found:?}");
    }
    ensure!(b.load(&key, None).await?.receipt.is_none(), PROMISE, "a load without a receipt reported one");
    let unused = b.load(&key, Some(&other)).await?.receipt;
    ensure!(unused.is_none(), PROMISE, "a load with an unused receipt reported it");

    let saving = b.save(&key, &repeat, Precondition::Absent, Some(&other)).await?;
    ensure!(
        saving == SaveOutcome::Conflict,
        "a new receipt does not overrule a conflict",
        "the save returned {saving:?}"
    );
    ensure!(
        a.load(&key, Some(&other)).await?.receipt.is_none(),
        "a conflict leaves no receipt",
        "the receipt is stored"
    );
    saved(
        a.save(&key, &repeat, Precondition::Version(present.version), Some(&other)).await?,
        "after a conflict the same receipt can be saved",
    )?;
    one_of_concurrent_saves_with_one_receipt_succeeds(a, b).await
}

/// A save may keep version and data to store only its receipt, so that an event without effect is also recognised as a
/// repeat (law 3).
pub async fn receipt_is_saved_with_unchanged_record(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "a save that keeps version and data saves its receipt";
    let key = new_key()?;
    let (present, receipt, late) = (first(a, &key, None).await?, new_receipt(&key), new_receipt(&key));
    let same = Precondition::Version(present.version);
    saved(b.save(&key, &present, same, Some(&receipt)).await?, PROMISE)?;
    let found = a.load(&key, Some(&receipt)).await?;
    let unchanged = Loaded { record: Some(present.clone()), receipt: accepted() };
    ensure!(found == unchanged, PROMISE, "the store has {found:?}");
    let saving = a.save(&key, &present, same, Some(&receipt)).await?;
    ensure!(saving == SaveOutcome::Duplicate, PROMISE, "the repeat returned {saving:?}");

    let next = record(present.version.next(), "{}");
    saved(a.save(&key, &next, same, None).await?, "the next change can follow it")?;
    let saving = b.save(&key, &present, same, Some(&late)).await?;
    ensure!(saving == SaveOutcome::Conflict, PROMISE, "at an old version it returned {saving:?}");
    ensure!(a.load(&key, Some(&late)).await?.receipt.is_none(), PROMISE, "a conflict left a receipt");
    Ok(())
}

/// Sixteen tasks retry one event until its save succeeds or is a duplicate; it is applied once.
async fn one_of_concurrent_saves_with_one_receipt_succeeds(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "exactly one of concurrent saves with the same receipt succeeds";
    let key = new_key()?;
    let receipt = new_receipt(&key);
    first(a, &key, None).await?;
    let tasks = (0..16).map(|task| {
        let (store, key) = (Arc::clone(if task % 2 == 0 { a } else { b }), key.clone());
        spawn(async move {
            loop {
                let present = store.load(&key, None).await?.record;
                let Some(present) = present else { return Err(Failure::new(PROMISE, "the record is gone")) };
                let next = record(present.version.next(), "{}");
                let saving =
                    store.save(&key, &next, Precondition::Version(present.version), Some(&receipt)).await?;
                if saving != SaveOutcome::Conflict {
                    return Ok(saving == SaveOutcome::Saved);
                }
            }
        })
    });
    let mut saved = 0;
    for task in try_join_all(tasks).await? {
        saved += usize::from(task?);
    }
    let seq = a.load(&key, None).await?.record.map(|record| record.version.seq);
    ensure!(saved == 1 && seq == Some(1), PROMISE, "{saved} succeeded, and the record is at {seq:?}");
    Ok(())
}

/// A record and its receipt are saved together: a concurrent load returns both or neither.
pub async fn record_and_receipt_are_saved_together(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "a record and its receipt are saved together or not at all";
    let key = new_key()?;
    let start = first(a, &key, None).await?.version;
    let mut steps = vec![];
    let mut version = start;
    for _ in 0..100 {
        version = version.next();
        steps.push((version, new_receipt(&key)));
    }
    let writer = {
        let (store, key, steps) = (Arc::clone(a), key.clone(), steps.clone());
        spawn(async move {
            let mut before = start;
            for (version, receipt) in steps {
                let saving = store
                    .save(&key, &record(version, "{}"), Precondition::Version(before), Some(&receipt))
                    .await?;
                saved(saving, "a save without concurrent writers succeeds")?;
                before = version;
            }
            Ok::<_, Failure>(())
        })
    };
    let mut next = 0;
    while next < steps.len() {
        let written = writer.is_finished();
        let (version, receipt) = &steps[next];
        let Loaded { record, receipt } = b.load(&key, Some(receipt)).await?;
        let there = receipt.is_some();
        let seq = record.map(|record| record.version.seq);
        ensure!(
            seq.is_some_and(|seq| there == (seq >= version.seq)),
            PROMISE,
            "the record is at {seq:?}, and the receipt of {} is stored: {there}",
            version.seq
        );
        if written && !there {
            writer.await??;
            return Err(Failure::new(PROMISE, format!("the receipt of {} was never stored", version.seq)));
        }
        next += usize::from(there);
        yield_now().await;
    }
    writer.await?
}

/// A receipt outlives its deleted or expired record, so a repeat is still a duplicate (law 3).
pub async fn receipt_outlives_its_record(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    for expires in [false, true] {
        let key = new_key()?;
        let receipt = new_receipt(&key);
        let ttl = expires.then_some(Duration::from_millis(50));
        let present = Record { ttl, ..record(Version::start(), "{}") };
        saved(
            a.save(&key, &present, Precondition::Absent, Some(&receipt)).await?,
            "a save with a new receipt is not a duplicate",
        )?;
        if expires {
            until("a record with a time to live of 50 ms expires", async || {
                Ok(b.load(&key, None).await?.record.is_none().then_some(()))
            })
            .await?;
            while b.sweep(1000).await? > 0 {}
        } else {
            a.delete(&key, present.version).await?;
        }
        let promise = if expires { "a receipt outlives expiry" } else { "a receipt outlives deletion" };
        let found = b.load(&key, Some(&receipt)).await?;
        ensure!(found == Loaded { record: None, receipt: accepted() }, promise, "the store has {found:?}");
        let saving =
            b.save(&key, &record(Version::start(), "{}"), Precondition::Absent, Some(&receipt)).await?;
        ensure!(saving == SaveOutcome::Duplicate, promise, "the repeat returned {saving:?}");
        ensure!(a.load(&key, None).await?.record.is_none(), promise, "the repeat restored the record");
    }
    Ok(())
}

/// A save whose future is dropped leaves the old record, or the new one with its receipt.
pub async fn dropped_save_is_atomic(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "a dropped save leaves the old record or the new one, never a mixture";
    let key = new_key()?;
    let start = first(a, &key, None).await?;
    let mut attempts = vec![(start.clone(), None)];
    for polls in 0..40 {
        let (present, _) = find_attempt(b, &key, &attempts, PROMISE).await?;
        let version = present.version.next();
        let receipt = new_receipt(&key);
        let data = format!(r#"{{"polls":{polls},"pad":"{}"}}"#, "x".repeat(polls * 500));
        // Half of the records have messages, because a store may save them differently.
        let next = if polls % 2 == 0 {
            record(version, data)
        } else {
            Record { data: data.into(), ..waiting(version, at(polls as u64)) }
        };
        attempts.push((next.clone(), Some(receipt)));
        let save = a.save(&key, &next, Precondition::Version(present.version), Some(&receipt));
        let _ = timeout(CHECK_TIMEOUT, poll_times(save, polls)).await;
        find_attempt(b, &key, &attempts, PROMISE).await?;
    }
    let (last, _) = find_attempt(b, &key, &attempts, PROMISE).await?;
    a.delete(&key, last.version).await?;
    Ok(())
}

/// Finds the stored record among the attempts, and checks that it is complete and has its receipt.
async fn find_attempt(
    store: &Arc<dyn Store>,
    key: &Key,
    attempts: &[(Record, Option<Receipt>)],
    promise: &str,
) -> Result<(Record, Option<Receipt>), Failure> {
    let Some(found) = store.load(key, None).await?.record else {
        return Err(Failure::new(promise, "the record is gone"));
    };
    let Some(attempt) = attempts.iter().find(|(record, _)| *record == found) else {
        return Err(Failure::new(
            promise,
            format!("the store has a record that was never saved, at {}", found.version),
        ));
    };
    if let Some(receipt) = &attempt.1 {
        let there = store.load(key, Some(receipt)).await?.receipt.is_some();
        ensure!(there, promise, "the new record has no receipt");
    }
    Ok(attempt.clone())
}

/// Polls a future at most `times` times and drops it.
async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(move |cx| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
