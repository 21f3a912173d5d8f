//! Promises 2, 3 and 7: receipts.

use std::{future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use faststate_core::{
    EventId, Key, Store, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome},
};
use futures::future::{poll_fn, try_join_all};
use tokio::{spawn, task::yield_now, time::timeout};

use super::{first, new_key, record, saved};
use crate::suites::{Failure, ensure, until, wait::CHECK_TIMEOUT};

/// A caller's receipt that nobody has used before.
pub(super) fn new_receipt(key: &Key) -> Receipt {
    Receipt::new(key, "conformance", &EventId::random())
}

/// A save whose receipt is there is a duplicate and changes nothing, whatever it expects; a conflict
/// leaves no receipt (law 3).
pub async fn save_with_known_receipt_is_duplicate(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "a save whose receipt is there is a duplicate and changes nothing";
    let key = new_key()?;
    let (receipt, other) = (new_receipt(&key), new_receipt(&key));
    let present = record(Version::start(), r#"{"present":true}"#);
    saved(
        a.save(&key, &present, Precondition::Absent, Some(&receipt)).await?,
        "a new receipt is no duplicate",
    )?;

    let repeat = record(Version::start(), r#"{"repeat":true}"#);
    for expect in
        [Precondition::Version(present.version), Precondition::Absent, Precondition::Version(repeat.version)]
    {
        let saving = b.save(&key, &repeat, expect, Some(&receipt)).await?;
        ensure!(saving == SaveOutcome::Duplicate, PROMISE, "{expect:?} gave {saving:?}");
        let found = a.load(&key, Some(&receipt)).await?;
        let unchanged = Loaded { record: Some(present.clone()), receipt: true };
        ensure!(found == unchanged, PROMISE, "after {expect:?} there was {found:?}");
    }
    ensure!(!b.load(&key, None).await?.receipt, PROMISE, "a receipt was there that nobody asked for");
    ensure!(!b.load(&key, Some(&other)).await?.receipt, PROMISE, "another receipt was there too");

    let saving = b.save(&key, &repeat, Precondition::Absent, Some(&other)).await?;
    ensure!(
        saving == SaveOutcome::Conflict,
        "a new receipt does not overrule a conflict",
        "it gave {saving:?}"
    );
    ensure!(!a.load(&key, Some(&other)).await?.receipt, "a conflict leaves no receipt", "it was there");
    saved(
        a.save(&key, &repeat, Precondition::Version(present.version), Some(&other)).await?,
        "after a conflict the same receipt can be saved",
    )?;
    one_of_concurrent_saves_with_one_receipt_succeeds(a, b).await
}

/// A save may keep version and data, for its receipt alone: an event that changed nothing is a repeat the next time,
/// too (law 3).
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
    let unchanged = Loaded { record: Some(present.clone()), receipt: true };
    ensure!(found == unchanged, PROMISE, "there was {found:?}");
    let saving = a.save(&key, &present, same, Some(&receipt)).await?;
    ensure!(saving == SaveOutcome::Duplicate, PROMISE, "its repeat gave {saving:?}");

    let next = record(present.version.next(), "{}");
    saved(a.save(&key, &next, same, None).await?, "it leaves the version to the next change")?;
    let saving = b.save(&key, &present, same, Some(&late)).await?;
    ensure!(saving == SaveOutcome::Conflict, PROMISE, "at a version that is gone, it gave {saving:?}");
    ensure!(!a.load(&key, Some(&late)).await?.receipt, PROMISE, "a conflict left a receipt");
    Ok(())
}

/// Sixteen tasks that retry one event until it is saved or a duplicate: it counts once.
async fn one_of_concurrent_saves_with_one_receipt_succeeds(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "of concurrent saves with the same receipt exactly one succeeds";
    let key = new_key()?;
    let receipt = new_receipt(&key);
    first(a, &key, None).await?;
    let tasks = (0..16).map(|task| {
        let (store, key) = (Arc::clone(if task % 2 == 0 { a } else { b }), key.clone());
        spawn(async move {
            loop {
                let present = store.load(&key, None).await?.record;
                let Some(present) = present else { return Err(Failure::new(PROMISE, "the record vanished")) };
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
    ensure!(saved == 1 && seq == Some(1), PROMISE, "{saved} did, and the record is at {seq:?}");
    Ok(())
}

/// Record and receipt are saved together: whoever loads meanwhile sees both or neither.
pub async fn record_and_receipt_are_saved_together(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "record and receipt are saved together or not at all";
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
                saved(saving, "a lone writer succeeds")?;
                before = version;
            }
            Ok::<_, Failure>(())
        })
    };
    let mut next = 0;
    while next < steps.len() {
        let written = writer.is_finished();
        let (version, receipt) = &steps[next];
        let Loaded { record, receipt: there } = b.load(&key, Some(receipt)).await?;
        let seq = record.map(|record| record.version.seq);
        ensure!(
            seq.is_some_and(|seq| there == (seq >= version.seq)),
            PROMISE,
            "the record was at {seq:?} and the receipt of {} was there: {there}",
            version.seq
        );
        if written && !there {
            writer.await??;
            return Err(Failure::new(PROMISE, format!("the receipt of {} never came", version.seq)));
        }
        next += usize::from(there);
        yield_now().await;
    }
    writer.await?
}

/// A receipt outlives its record, deleted or expired: a repeat finds no room (law 3).
pub async fn receipt_outlives_its_record(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    for expires in [false, true] {
        let key = new_key()?;
        let receipt = new_receipt(&key);
        let ttl = expires.then_some(Duration::from_millis(50));
        let present = Record { ttl, ..record(Version::start(), "{}") };
        saved(
            a.save(&key, &present, Precondition::Absent, Some(&receipt)).await?,
            "a new receipt is no duplicate",
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
        ensure!(found == Loaded { record: None, receipt: true }, promise, "there was {found:?}");
        let saving =
            b.save(&key, &record(Version::start(), "{}"), Precondition::Absent, Some(&receipt)).await?;
        ensure!(saving == SaveOutcome::Duplicate, promise, "the repeat gave {saving:?}");
        ensure!(a.load(&key, None).await?.record.is_none(), promise, "the repeat brought the record back");
    }
    Ok(())
}

/// A save that is dropped on its way leaves the old record or the new one with its receipt.
pub async fn dropped_save_is_atomic(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "a dropped save leaves the old record or the new one, never a mixture";
    let key = new_key()?;
    let start = first(a, &key, None).await?;
    let mut tried = vec![(start.clone(), None)];
    for polls in 0..40 {
        let (present, _) = look(b, &key, &tried, PROMISE).await?;
        let version = present.version.next();
        let receipt = new_receipt(&key);
        let next = record(version, format!(r#"{{"polls":{polls},"pad":"{}"}}"#, "x".repeat(polls * 500)));
        tried.push((next.clone(), Some(receipt)));
        let save = a.save(&key, &next, Precondition::Version(present.version), Some(&receipt));
        let _ = timeout(CHECK_TIMEOUT, poll_times(save, polls)).await;
        look(b, &key, &tried, PROMISE).await?;
    }
    Ok(())
}

/// What is there now must be one of the records that were tried, whole, with its receipt.
async fn look(
    store: &Arc<dyn Store>,
    key: &Key,
    tried: &[(Record, Option<Receipt>)],
    promise: &str,
) -> Result<(Record, Option<Receipt>), Failure> {
    let Some(found) = store.load(key, None).await?.record else {
        return Err(Failure::new(promise, "the record vanished"));
    };
    let Some(tried) = tried.iter().find(|(record, _)| *record == found) else {
        return Err(Failure::new(
            promise,
            format!("there was a record that nobody saved, at {}", found.version),
        ));
    };
    if let Some(receipt) = &tried.1 {
        let there = store.load(key, Some(receipt)).await?.receipt;
        ensure!(there, promise, "the new record came without its receipt");
    }
    Ok(tried.clone())
}

/// Polls at most so many times, and drops.
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
