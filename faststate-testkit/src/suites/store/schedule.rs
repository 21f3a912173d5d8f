//! Promise 10: the records that are due, and those with unfinished messages.
//!
//! The store may contain records of other programs, but no other program may change messages or due times during these
//! checks.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Key, Scope, Store, Version,
    store::{DueKeys, PendingMessages, PendingSummary, Precondition, Record},
};
use tokio::time::sleep;

use super::{
    first, key,
    messages::{at, waiting},
    new_key, new_state, record, saved,
};
use crate::suites::{Failure, ensure, until, wait::CHECK_TIMEOUT};

/// A limit that the number of records in a store under test does not reach.
const ALL: usize = 100_000;
const SHORT_TTL: Duration = Duration::from_millis(300);
const LONG_TTL: Duration = Duration::from_secs(3600);

const FIRST: &str = "a save that expects no record succeeds if there is none";

/// Records whose due time has come are listed, earliest first and at most as many as requested.
pub async fn due_records_are_listed_in_order(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "due records are listed earliest first, within the limit";
    let keys = new_keys()?;
    let mut versions = Vec::new();
    // The last key is the first to be due.
    for (number, key) in (1..).zip(&keys) {
        let record = Record { due: Some(at(100 - number)), ..record(Version::start(), "{}") };
        saved(a.save(key, &record, Precondition::Absent, None).await?, FIRST)?;
        versions.push(record.version);
    }
    let later = new_key()?;
    let record = Record { due: Some(at(253_402_300_799_999)), ..record(Version::start(), "{}") };
    saved(a.save(&later, &record, Precondition::Absent, None).await?, FIRST)?;

    let DueKeys { now, keys: due } = b.due(ALL).await?;
    ensure!(!due.contains(&later), PROMISE, "a record of the year 9999 is due at {now:?}");
    let ours: Vec<_> = due.iter().filter(|key| keys.contains(key)).collect();
    ensure!(
        ours.iter().copied().eq(keys.iter().rev()),
        PROMISE,
        "{ours:?} are listed, instead of {keys:?} backwards"
    );
    for limit in 0..=keys.len() {
        let some = b.due(limit).await?.keys;
        ensure!(some.len() == limit, PROMISE, "{} are listed with a limit of {limit}", some.len());
        let early = &keys[keys.len() - limit..];
        let late = some.iter().find(|key| keys.contains(key) && !early.contains(key));
        ensure!(late.is_none(), PROMISE, "{late:?} is among the first {limit}");
    }
    for (key, version) in keys.iter().zip(versions).chain([(&later, record.version)]) {
        a.delete(key, version).await?;
    }
    Ok(())
}

/// A record is listed from its due time on, by the clock whose time is returned.
pub async fn record_is_due_at_its_time(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "a record is due from its due time on, by the store's clock";
    // The servers of a cluster have different clocks.
    const TOLERANCE: Duration = Duration::from_millis(50);
    let key = new_key()?;
    let due = a.due(0).await?.now + Duration::from_millis(200);
    let millis = due.duration_since(at(0)).unwrap_or_default().as_millis();
    let due = at(u64::try_from(millis).unwrap_or_default());
    let present = Record { due: Some(due), ..record(Version::start(), "{}") };
    saved(a.save(&key, &present, Precondition::Absent, None).await?, FIRST)?;
    // The store's clock need not follow tokio's, which may be paused.
    let (started, tokio_started) = (std::time::Instant::now(), tokio::time::Instant::now());
    loop {
        let DueKeys { now, keys } = b.due(ALL).await?;
        let listed = keys.contains(&key);
        ensure!(!listed || now >= due, PROMISE, "it is listed at {now:?}, and due at {due:?}");
        ensure!(listed || now < due + TOLERANCE, PROMISE, "it is not listed at {now:?}, and due at {due:?}");
        if listed {
            break;
        }
        let late = started.elapsed() > CHECK_TIMEOUT && tokio_started.elapsed() > CHECK_TIMEOUT;
        ensure!(!late, PROMISE, "the store's time is {now:?} after {CHECK_TIMEOUT:?}");
        sleep(Duration::from_millis(1)).await;
    }
    a.delete(&key, present.version).await?;
    Ok(())
}

/// A record that was deleted, replaced or has expired is not due, and its messages are not counted.
pub async fn removed_record_is_not_due(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "a record that was deleted, replaced or has expired is not due";
    const NOT_COUNTED: &str = "messages of a deleted, replaced or expired record are not counted";
    let before = b.pending(0).await?;
    let keys = new_keys()?;
    let [deleted, recreated, finished, moved, expired, renewed, shortened, extended] = &keys;
    let start = Version::start();
    for key in &keys {
        let ttl = [expired, renewed, extended].contains(&key).then_some(SHORT_TTL);
        let present = Record { ttl, ..waiting(start, at(5)) };
        saved(a.save(key, &present, Precondition::Absent, None).await?, FIRST)?;
        if key == extended {
            ensure!(a.touch(key, LONG_TTL).await?, PROMISE, "a record expired earlier than after 300 ms");
        }
        let due = b.due(ALL).await?.keys;
        ensure!(due.contains(key) || ttl.is_some(), PROMISE, "{key} is not due, but was not removed");
    }
    let (quiet, same) = (record(start.next(), "{}"), Precondition::Version(start));
    for key in [deleted, recreated] {
        ensure!(a.delete(key, start).await?, PROMISE, "{key} does not exist");
    }
    saved(a.save(recreated, &quiet, Precondition::Absent, None).await?, FIRST)?;
    saved(a.save(finished, &quiet, same, None).await?, "a save that expects the stored version succeeds")?;
    let later =
        Record { pending: PendingMessages::default(), ..waiting(start.next(), at(253_402_300_799_999)) };
    saved(a.save(moved, &later, same, None).await?, "a save that expects the stored version succeeds")?;
    ensure!(a.touch(shortened, SHORT_TTL).await?, PROMISE, "a record without a time to live is gone");
    let witness = new_key()?;
    first(a, &witness, Some(SHORT_TTL)).await?;
    until("a record expires when its time to live has passed", async || {
        Ok(a.load(&witness, None).await?.record.is_none().then_some(()))
    })
    .await?;
    // Looked at before anything else touches the expired records.
    let due = b.due(ALL).await?.keys;
    let after = b.pending(ALL).await?;
    saved(a.save(renewed, &quiet, Precondition::Absent, None).await?, FIRST)?;
    let due_again = b.due(ALL).await?.keys;
    for (due, listed) in [(&due, "due"), (&after.keys, "listed with its messages"), (&due_again, "due again")]
    {
        let ours: Vec<_> = due.iter().filter(|key| keys.contains(key)).collect();
        ensure!(ours == [extended], PROMISE, "{ours:?} of {keys:?} are {listed}");
    }
    let again = b.pending(0).await?;
    for after in [after, again] {
        ensure!(
            (after.waiting, after.parked) == (before.waiting + 1, before.parked),
            NOT_COUNTED,
            "{} waiting and {} parked messages became {} and {}",
            before.waiting,
            before.parked,
            after.waiting,
            after.parked
        );
    }
    for (key, version) in [
        (extended, start),
        (recreated, quiet.version),
        (finished, quiet.version),
        (moved, later.version),
        (renewed, quiet.version),
    ] {
        ensure!(a.delete(key, version).await?, PROMISE, "{key} does not exist");
    }
    let end = b.pending(0).await?;
    ensure!(
        (end.waiting, end.parked) == (before.waiting, before.parked),
        NOT_COUNTED,
        "after all, {} are waiting and {} parked",
        end.waiting,
        end.parked
    );
    Ok(())
}

/// The unfinished messages of all records are counted, and the records are listed, oldest message first and at most as many
/// as requested.
pub async fn unfinished_messages_are_counted(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    const PROMISE: &str = "unfinished messages of all records are counted";
    const ORDER: &str = "records with unfinished messages are listed oldest first, within the limit";
    let before = b.pending(0).await?;
    let keys = new_keys()?;
    let mut versions = Vec::new();
    let (mut waiting, mut parked) = (before.waiting, before.parked);
    // The last key has the oldest message.
    for (number, key) in (1..).zip(&keys) {
        let oldest = Some(at(100 - u64::from(number)));
        let pending =
            PendingMessages { data: "[]".into(), waiting: number % 3, parked: 1000 * number, oldest };
        waiting += u64::from(pending.waiting);
        parked += u64::from(pending.parked);
        let record = Record { pending, ..record(Version::start(), "{}") };
        saved(a.save(key, &record, Precondition::Absent, None).await?, FIRST)?;
        versions.push(record.version);
    }
    // Timers are neither counted nor listed.
    let timer = new_key()?;
    let pending = PendingMessages { data: "[]".into(), ..PendingMessages::default() };
    let record = Record { pending, due: Some(at(253_402_300_799_999)), ..record(Version::start(), "{}") };
    saved(a.save(&timer, &record, Precondition::Absent, None).await?, FIRST)?;

    for limit in [0, 1, 3, ALL] {
        let earliest = b.due(0).await?.now;
        let found = b.pending(limit).await?;
        let latest = b.due(0).await?.now;
        ensure!(
            (found.waiting, found.parked) == (waiting, parked),
            PROMISE,
            "instead of {waiting} waiting and {parked} parked, there are {} and {}",
            found.waiting,
            found.parked
        );
        let PendingSummary { age, keys: listed, .. } = found;
        ensure!(
            listed.len() == limit || limit == ALL,
            ORDER,
            "{} are listed with a limit of {limit}",
            listed.len()
        );
        let old = &keys[keys.len() - limit.min(keys.len())..];
        let ours: Vec<_> = listed.iter().filter(|key| keys.contains(key)).collect();
        let young = ours.iter().find(|key| !old.contains(key));
        ensure!(young.is_none(), ORDER, "{young:?} is among the first {limit}");
        ensure!(
            ours.iter().copied().eq(old.iter().rev()) || limit < ALL,
            ORDER,
            "{ours:?} instead of {keys:?} backwards"
        );
        ensure!(!listed.contains(&timer), PROMISE, "a record with only a timer is listed");
        let (least, most) = (earliest.duration_since(at(2000)).ok(), latest.duration_since(at(0)).ok());
        ensure!(
            least <= age && age <= most,
            PROMISE,
            "the oldest message has an age of {age:?} at {latest:?}"
        );
    }
    for (key, version) in keys.iter().zip(versions).chain([(&timer, record.version)]) {
        a.delete(key, version).await?;
    }
    Ok(())
}

/// Returns unused keys of different shapes.
fn new_keys() -> Result<[Key; 8], Failure> {
    let state = new_state();
    let long = "🦀".repeat(63);
    Ok([
        key(&state, Scope::Global, None, None)?,
        key(&state, Scope::Record, None, Some("a"))?,
        key(&state, Scope::Record, None, Some("A"))?,
        key(&state, Scope::User, Some("a"), None)?,
        key(&state, Scope::Record, None, Some("{a}:b/c d\0%2f"))?,
        key(&state, Scope::Component, Some(&long), Some(&long))?,
        key(&state, Scope::Session, Some("é"), None)?,
        key(&new_state(), Scope::Global, None, None)?,
    ])
}
