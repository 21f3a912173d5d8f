//! Promise 5: records expire by the store's clock and are swept.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use faststate_core::{
    Key, Store, Version,
    store::{Loaded, Precondition, RECEIPT_KEPT, Receipt, Record, SaveOutcome},
};
use futures::future::try_join_all;
use tokio::time::{Instant, sleep, sleep_until};

use super::{first, new_key, new_receipt, receipts::accepted, record, saved};
use crate::suites::{Failure, ensure, until};

/// The tolerated drift between the store's clock and this process's during a check.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(10);
const SHORT_TTL: Duration = Duration::from_millis(300);
const LONG_TTL: Duration = Duration::from_secs(3600);

/// A record exists until its time to live has passed. After that it cannot be loaded, touched or deleted; a save that
/// expects it conflicts, and a save that expects no record succeeds.
pub async fn expired_record_is_gone(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "an expired record is gone";
    let key = new_key()?;
    let started = Instant::now();
    let present = first(a, &key, Some(SHORT_TTL)).await?;
    let loaded = b.load(&key, None).await?.record.and_then(|record| record.ttl);
    ensure!(
        started.elapsed() + CLOCK_TOLERANCE >= SHORT_TTL || loaded.is_some_and(|left| left <= SHORT_TTL),
        "a loaded record has its remaining time to live",
        "{loaded:?} of {SHORT_TTL:?} remained"
    );
    until("a record expires exactly when its time to live has passed", async || {
        let exists = b.load(&key, None).await?.record.is_some();
        let elapsed = started.elapsed();
        let early = !exists && elapsed + CLOCK_TOLERANCE < SHORT_TTL;
        let late = exists && elapsed > SHORT_TTL + Duration::from_secs(5);
        ensure!(
            !early && !late,
            "a time to live of 300 ms lasts 300 ms",
            "after {elapsed:?} the record exists: {exists}"
        );
        Ok((!exists).then_some(()))
    })
    .await?;

    ensure!(!a.touch(&key, LONG_TTL).await?, PROMISE, "touch found it");
    ensure!(a.load(&key, None).await?.record.is_none(), PROMISE, "touch restored it");
    ensure!(!b.delete(&key, present.version).await?, PROMISE, "delete found it");
    let next = record(present.version.next(), "{}");
    let saving = b.save(&key, &next, Precondition::Version(present.version), None).await?;
    ensure!(saving == SaveOutcome::Conflict, PROMISE, "a save that expected it returned {saving:?}");
    ensure!(a.load(&key, None).await?.record.is_none(), PROMISE, "a conflict restored it");
    saved(
        a.save(&key, &next, Precondition::Absent, None).await?,
        "an expired record can be replaced by a new one",
    )?;
    let found = b.load(&key, None).await?.record;
    ensure!(found.as_ref() == Some(&next), PROMISE, "the new record was loaded as {found:?}");
    Ok(())
}

/// At a record's expiry, saves that expect it, saves that expect no record and a touch race: exactly one save succeeds, and
/// a record that a load found expired does not come back.
pub async fn one_save_succeeds_at_expiry(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    // On a busy machine, all saves of a round may begin after its races.
    for _ in 0..5 {
        if winners_at_expiry(a, b).await? > 0 {
            return Ok(());
        }
    }
    Err(Failure::new(ONE_SAVE_AT_EXPIRY, "no save succeeded in any race"))
}

const ONE_SAVE_AT_EXPIRY: &str = "at a record's expiry exactly one save succeeds";

/// Runs races, and returns in how many of them a save succeeded.
async fn winners_at_expiry(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<usize, Failure> {
    const PROMISE: &str = ONE_SAVE_AT_EXPIRY;
    const COMES_BACK: &str = "an expired record does not come back";
    const TTL: Duration = Duration::from_millis(60);
    const RACERS: usize = 6;
    let races = (0_u32..12).map(|race| async move {
        let key = new_key()?;
        let present = first(a, &key, Some(TTL)).await?;
        let expiry = Instant::now() + TTL;
        let until = expiry + Duration::from_millis(40);
        // From 6 ms before the expiry to 5 ms after it.
        let start = expiry + Duration::from_millis(race.into()) - Duration::from_millis(6);
        let touch = async {
            sleep_until(start).await;
            Ok::<_, Failure>(race % 2 == 0 && b.touch(&key, LONG_TTL).await?)
        };
        let gone = AtomicBool::new(false);
        let watch = async {
            while Instant::now() < until {
                let version = b.load(&key, None).await?.record.map(|record| record.version);
                let back = gone.load(Ordering::SeqCst) && version == Some(present.version);
                ensure!(!back, COMES_BACK, "it was loaded again");
                gone.fetch_or(version.is_none(), Ordering::SeqCst);
                sleep(Duration::from_millis(1)).await;
            }
            Ok::<_, Failure>(())
        };
        let racers = (0..RACERS).map(|racer| {
            let (store, expect) = if racer % 2 == 0 {
                (a, Precondition::Version(present.version))
            } else {
                (b, Precondition::Absent)
            };
            let (key, gone, next) =
                (&key, &gone, record(Version::start(), format!(r#"{{"racer":{racer}}}"#)));
            async move {
                sleep_until(start).await;
                while Instant::now() < until {
                    let was_gone = gone.load(Ordering::SeqCst);
                    if store.save(key, &next, expect, None).await? == SaveOutcome::Saved {
                        let expected = expect != Precondition::Absent;
                        ensure!(!(was_gone && expected), COMES_BACK, "a save that expects it succeeded");
                        return Ok(Some(next));
                    }
                    sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, Failure>(None)
            }
        });
        let (_, (), winners) = futures::future::try_join3(touch, watch, try_join_all(racers)).await?;
        let winners: Vec<_> = winners.into_iter().flatten().collect();
        // The touch may have changed the winner's time to live.
        let found = a.load(&key, None).await?.record.map(|found| Record { ttl: None, ..found });
        ensure!(
            winners.len() <= 1 && found.as_ref() == winners.first(),
            PROMISE,
            "{} succeeded, and {found:?} is stored",
            winners.len()
        );
        Ok(winners.len())
    });
    Ok(try_join_all(races).await?.into_iter().sum())
}

/// `touch` sets a record's remaining time to live, longer or shorter, and changes nothing else. A save sets the time to
/// live of its record, or none.
pub async fn touch_sets_the_remaining_lifetime(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "touch sets the remaining time to live";
    let missing = new_key()?;
    ensure!(!a.touch(&missing, LONG_TTL).await?, PROMISE, "touch found a record where there was none");

    let (extended, saved_again, shortened, witness) = (new_key()?, new_key()?, new_key()?, new_key()?);
    let before = first(a, &extended, Some(SHORT_TTL)).await?;
    let again = first(a, &saved_again, Some(SHORT_TTL)).await?;
    first(a, &shortened, Some(LONG_TTL)).await?;
    ensure!(b.touch(&extended, LONG_TTL).await?, PROMISE, "touch found no record");
    let forever = record(again.version.next(), "{}");
    saved(
        b.save(&saved_again, &forever, Precondition::Version(again.version), None).await?,
        "a save that expects the stored version succeeds",
    )?;
    ensure!(b.touch(&shortened, SHORT_TTL).await?, PROMISE, "touch found no record");
    // Saved last and with the same time to live: once it has expired, so have the lifetimes that started before it.
    first(a, &witness, Some(SHORT_TTL)).await?;
    until("a record expires when its time to live has passed", async || {
        Ok(a.load(&witness, None).await?.record.is_none().then_some(()))
    })
    .await?;

    let found = a.load(&extended, None).await?.record;
    let left = found.as_ref().and_then(|record| record.ttl);
    ensure!(
        left.is_some_and(|left| left > LONG_TTL / 2 && left <= LONG_TTL),
        PROMISE,
        "{left:?} of {LONG_TTL:?} remained"
    );
    let found = found.map(|record| Record { ttl: before.ttl, ..record });
    ensure!(
        found.as_ref() == Some(&before),
        "touch changes nothing but the time to live",
        "it was loaded as {found:?}"
    );
    let found = a.load(&saved_again, None).await?.record;
    ensure!(
        found.as_ref() == Some(&forever),
        "a record saved without a time to live stays",
        "it was loaded as {found:?}"
    );
    until("a record that was touched with a shorter time to live expires after it", async || {
        Ok(b.load(&shortened, None).await?.record.is_none().then_some(()))
    })
    .await
}

/// A sweep removes only expired records, and stays within its limit.
pub async fn sweep_removes_only_expired_records(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
) -> Result<(), Failure> {
    const PROMISE: &str = "a sweep removes only expired records";
    const LIMIT: usize = 3;
    let (forever, living) = (new_key()?, new_key()?);
    let receipt = new_receipt(&forever);
    let stays = record(Version::start(), "{}");
    saved(
        a.save(&forever, &stays, Precondition::Absent, Some(&receipt)).await?,
        "a save with a new receipt is not a duplicate",
    )?;
    first(a, &living, Some(LONG_TTL)).await?;
    let mut last = new_key()?;
    for _ in 0..10 {
        last = new_key()?;
        first(a, &last, Some(Duration::from_millis(50))).await?;
    }
    until("a record expires when its time to live has passed", async || {
        Ok(a.load(&last, None).await?.record.is_none().then_some(()))
    })
    .await?;
    until("repeated sweeps end", async || {
        let swept = b.sweep(LIMIT).await?;
        ensure!(
            swept <= 2 * LIMIT,
            "a sweep stays within its limit",
            "it removed {swept} with a limit of {LIMIT}"
        );
        Ok((swept == 0).then_some(()))
    })
    .await?;
    let found = a.load(&forever, Some(&receipt)).await?;
    let unchanged = Loaded { record: Some(stays), receipt: accepted() };
    ensure!(found == unchanged, PROMISE, "a record without a time to live is now {found:?}");
    ensure!(
        b.load(&living, None).await?.record.is_some(),
        PROMISE,
        "it removed a record that had not expired"
    );
    Ok(())
}

/// A caller's receipt is kept for ten minutes and not much longer. `pass` advances the store's clock.
pub async fn receipt_is_kept_for_ten_minutes<F: Future<Output = ()>>(
    a: &Arc<dyn Store>,
    pass: impl Fn(Duration) -> F,
) -> Result<(), Failure> {
    const PROMISE: &str = "a receipt is kept for ten minutes";
    let key = new_key()?;
    let receipt = new_receipt(&key);
    let present = record(Version::start(), "{}");
    saved(
        a.save(&key, &present, Precondition::Absent, Some(&receipt)).await?,
        "a save with a new receipt is not a duplicate",
    )?;
    pass(RECEIPT_KEPT - Duration::from_secs(5)).await;
    while a.sweep(1000).await? > 0 {}
    ensure!(has(a, &key, &receipt).await?, PROMISE, "it was gone earlier");
    pass(Duration::from_secs(10)).await;
    while a.sweep(1000).await? > 0 {}
    ensure!(!has(a, &key, &receipt).await?, PROMISE, "it was kept longer");
    let next = record(present.version.next(), "{}");
    saved(
        a.save(&key, &next, Precondition::Version(present.version), Some(&receipt)).await?,
        "an expired receipt can be saved again",
    )
}

async fn has(store: &Arc<dyn Store>, key: &Key, receipt: &Receipt) -> Result<bool, Failure> {
    Ok(store.load(key, Some(receipt)).await?.receipt.is_some())
}
