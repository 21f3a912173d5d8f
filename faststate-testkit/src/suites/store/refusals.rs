//! Promises 8 and 9: the receipts of messages, and refusals.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use faststate_core::{
    Key, Store, Version,
    store::{Loaded, MESSAGE_RECEIPT_KEPT, Precondition, RECEIPT_KEPT, Receipt, SaveOutcome},
};
use futures::future::try_join_all;
use tokio::{spawn, sync::Barrier};

use super::{
    messages::{at, is_stored, waiting},
    new_key,
    receipts::accepted,
    record, saved,
};
use crate::suites::{Failure, ensure};

/// The maximum size of an answer in bytes.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// Returns an unused receipt of a message.
fn new_message(target: &Key) -> Receipt {
    Receipt::message(target, rand::random())
}

/// A refusal saves a receipt with its answer, with or without a record. Later saves with this receipt are duplicates, and
/// later refusals change nothing.
pub async fn refusal_is_saved_with_its_answer(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "a refusal saves a receipt with its answer";
    const UNCHANGED: &str = "a refusal changes no record";
    let all_bytes: Vec<u8> = (0..=u8::MAX).cycle().take(MAX_ANSWER_BYTES).collect();
    for answer in [Bytes::from("no"), all_bytes.into()] {
        let key = new_key()?;
        let present = waiting(Version::start(), at(5));
        for record in [None, Some(present.clone())] {
            let (receipt, other) = (new_message(&key), new_message(&key));
            if let Some(record) = &record {
                saved(a.save(&key, record, Precondition::Absent, Some(&other)).await?, PROMISE)?;
            }
            ensure!(a.refuse(&key, &receipt, &answer).await?, PROMISE, "it found a new receipt");
            let again = b.refuse(&key, &receipt, &"again".into()).await?;
            ensure!(!again, PROMISE, "it was repeated");
            let (next, same) =
                (waiting(present.version.next(), at(6)), Precondition::Version(present.version));
            for expect in [Precondition::Absent, same, Precondition::Version(next.version)] {
                let found = b.load(&key, Some(&receipt)).await?;
                let stored = Loaded { record: record.clone(), receipt: Some(answer.clone()) };
                ensure!(found.receipt == stored.receipt, PROMISE, "the answer is {:?}", found.receipt);
                ensure!(found == stored, UNCHANGED, "the store has {found:?}");
                let saving = b.save(&key, &next, expect, Some(&receipt)).await?;
                ensure!(
                    saving == SaveOutcome::Duplicate,
                    "a save with the receipt of a refusal is a duplicate",
                    "{expect:?} returned {saving:?}"
                );
            }
            let listed = a.due(100_000).await?.keys.contains(&key);
            ensure!(listed == record.is_some(), UNCHANGED, "the record is due: {listed}");
        }
        let next = record(present.version.next(), "{}");
        let receipt = new_message(&key);
        saved(
            b.save(&key, &next, Precondition::Version(present.version), Some(&receipt)).await?,
            "a record can be changed after a refusal",
        )?;
        is_stored(a, &key, &next, "a record can be changed after a refusal").await?;
        a.delete(&key, next.version).await?;
    }
    Ok(())
}

/// A refusal of a message that was accepted changes nothing.
pub async fn accepted_message_cannot_be_refused(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "an accepted message cannot be refused";
    let key = new_key()?;
    let (present, receipt) = (record(Version::start(), "{}"), new_message(&key));
    saved(a.save(&key, &present, Precondition::Absent, Some(&receipt)).await?, PROMISE)?;
    ensure!(!b.refuse(&key, &receipt, &"late".into()).await?, PROMISE, "it was refused");
    let found = a.load(&key, Some(&receipt)).await?;
    let unchanged = Loaded { record: Some(present.clone()), receipt: accepted() };
    ensure!(found == unchanged, PROMISE, "the store has {found:?}");
    a.delete(&key, present.version).await?;
    ensure!(!b.refuse(&key, &receipt, &"late".into()).await?, PROMISE, "it was refused after a deletion");
    let answer = a.load(&key, Some(&receipt)).await?.receipt;
    ensure!(answer == accepted(), PROMISE, "after a deletion the answer is {answer:?}");
    Ok(())
}

/// Of concurrent saves and refusals with one receipt, exactly one takes effect.
pub async fn one_of_save_and_refusal_succeeds(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "exactly one of concurrent saves and refusals with one receipt takes effect";
    const RACERS: usize = 16;
    for round in 0..8 {
        let key = new_key()?;
        let receipt = new_message(&key);
        let start = Arc::new(Barrier::new(RACERS));
        let racers = (0..RACERS).map(|racer| {
            let (store, key, start) =
                (Arc::clone(if racer % 4 < 2 { a } else { b }), key.clone(), Arc::clone(&start));
            spawn(async move {
                start.wait().await;
                if racer % 2 == 0 {
                    let answer = Bytes::from(racer.to_string());
                    return Ok((store.refuse(&key, &receipt, &answer).await?, answer));
                }
                let next = record(Version::start(), "{}");
                let saving = store.save(&key, &next, Precondition::Absent, Some(&receipt)).await?;
                Ok::<_, Failure>((saving == SaveOutcome::Saved, Bytes::new()))
            })
        });
        let mut winners = Vec::new();
        for outcome in try_join_all(racers).await? {
            let (won, answer) = outcome?;
            winners.extend(won.then_some(answer));
        }
        let Loaded { record, receipt: answer } = a.load(&key, Some(&receipt)).await?;
        let [winner] = &*winners else {
            return Err(Failure::new(PROMISE, format!("{} took effect in round {round}", winners.len())));
        };
        ensure!(answer.as_ref() == Some(winner), PROMISE, "the answer is {answer:?} instead of {winner:?}");
        ensure!(record.is_some() == winner.is_empty(), PROMISE, "{winner:?} won, and there is {record:?}");
    }
    Ok(())
}

/// A release accepts receipts that do not exist, and a released receipt still is a duplicate.
pub async fn released_receipt_is_a_duplicate(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "a released receipt still exists, with its answer";
    let key = new_key()?;
    let mut receipts: Vec<_> = (0..300).map(|_| (key.clone(), new_message(&key))).collect();
    let (saved_one, refused) = (receipts[100].1, receipts[200].1);
    receipts.push((new_key()?, receipts[0].1));
    let present = record(Version::start(), "{}");
    saved(a.save(&key, &present, Precondition::Absent, Some(&saved_one)).await?, PROMISE)?;
    a.refuse(&key, &refused, &"no".into()).await?;
    b.release(&[]).await?;
    for _ in 0..2 {
        b.release(&receipts).await?;
    }
    for (receipt, answer) in [(saved_one, accepted()), (refused, Some("no".into()))] {
        let found = a.load(&key, Some(&receipt)).await?;
        let unchanged = Loaded { record: Some(present.clone()), receipt: answer };
        ensure!(found == unchanged, PROMISE, "the store has {found:?} instead of {unchanged:?}");
        let next = record(present.version.next(), "{}");
        let saving = a.save(&key, &next, Precondition::Version(present.version), Some(&receipt)).await?;
        ensure!(saving == SaveOutcome::Duplicate, PROMISE, "the repeat returned {saving:?}");
    }
    let answer = a.load(&key, Some(&receipts[0].1)).await?.receipt;
    ensure!(answer.is_none(), "a release creates no receipt", "the answer is {answer:?}");
    a.delete(&key, present.version).await?;
    Ok(())
}

/// The receipt of a message is kept for eight days, or for ten minutes after its release. `pass` advances the store's
/// clock.
pub async fn message_receipt_is_kept_until_release<F: Future<Output = ()>>(
    a: &Arc<dyn Store>,
    pass: impl Fn(Duration) -> F,
) -> Result<(), Failure> {
    const KEPT: &str = "the receipt of a message is kept for eight days";
    const RELEASED: &str = "a released receipt is kept for ten minutes";
    const MARGIN: Duration = Duration::from_secs(5);
    let key = new_key()?;
    let present = record(Version::start(), "{}");
    let (accepted_one, refused, never) = (new_message(&key), new_message(&key), new_message(&key));
    saved(a.save(&key, &present, Precondition::Absent, Some(&accepted_one)).await?, KEPT)?;
    for receipt in [&refused, &never] {
        ensure!(a.refuse(&key, receipt, &"no".into()).await?, KEPT, "a new receipt existed");
    }
    let missing = async |promise: &str, receipts: &[(&Receipt, bool)]| {
        while a.sweep(1000).await? > 0 {}
        for (receipt, expected) in receipts {
            let found = a.load(&key, Some(receipt)).await?.receipt;
            ensure!(
                found.is_some() == *expected,
                promise,
                "it should exist: {expected}; its answer is {found:?}"
            );
        }
        Ok::<_, Failure>(())
    };
    pass(RECEIPT_KEPT + MARGIN).await;
    missing(KEPT, &[(&accepted_one, true), (&refused, true), (&never, true)]).await?;
    let released = [(key.clone(), accepted_one), (key.clone(), refused)];
    a.release(&released).await?;
    pass(RECEIPT_KEPT - MARGIN).await;
    missing(RELEASED, &[(&accepted_one, true), (&refused, true)]).await?;
    // A second release does not lengthen it.
    a.release(&released).await?;
    pass(2 * MARGIN).await;
    missing(RELEASED, &[(&accepted_one, false), (&refused, false)]).await?;
    let next = record(present.version.next(), "{}");
    saved(
        a.save(&key, &next, Precondition::Version(present.version), Some(&refused)).await?,
        "an expired receipt can be saved again",
    )?;
    ensure!(
        a.refuse(&key, &accepted_one, &"no".into()).await?,
        "an expired receipt can be refused again",
        "it still existed"
    );
    pass(MESSAGE_RECEIPT_KEPT - 2 * RECEIPT_KEPT - 3 * MARGIN).await;
    missing(KEPT, &[(&never, true)]).await?;
    pass(4 * MARGIN).await;
    missing(KEPT, &[(&never, false)]).await
}
