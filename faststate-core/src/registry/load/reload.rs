//! Loads of one instance, and the adoption of their results and of other nodes' changes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use crate::{
    Key, ReactiveState,
    broadcast::Change,
    metrics::Stopwatch,
    patch::{EncodedState, GROWTH_SLACK},
    registry::{
        Applied, Error, Outcome,
        deadline::within,
        event::commit::{adopt_stored, publish_change},
        instance::{
            Instance,
            queue::Found,
            revision::{Revision, encode},
            staleness::load_failed,
            table::InstanceTable,
        },
        load::migration::migrated,
        messages::outbox::Outbox,
        panics::panic_text,
    },
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
    version::Version,
};

/// The state that the store holds now, and the answer of the receipt if the store holds it.
type Looked<S> = (Arc<Revision<S>>, Option<Bytes>);

/// The meaning of a record's absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Absence {
    /// The instance begins as if it had never been saved, unless it was deleted while it was followed.
    Begins,
    /// The instance was deleted.
    Deleted,
    /// The instance begins, even after a deletion: the application creates it.
    Created,
}

/// Loads the record, commits it if it differs from the state in memory, and returns the answer of the receipt if the store holds it.
///
/// Boxed, because most events need no load, and their futures are smaller this way.
pub(in crate::registry) fn reload<'a, S: ReactiveState>(
    table: &'a InstanceTable<S>,
    instance: &'a Arc<Instance<S>>,
    receipt: Option<&'a Receipt>,
    deadline: Instant,
) -> BoxFuture<'a, Result<Looked<S>, Error>> {
    reload_as(table, instance, receipt, deadline, Absence::Begins)
}

/// Like [`reload`], with another meaning of the record's absence.
pub(in crate::registry) fn reload_as<'a, S: ReactiveState>(
    table: &'a InstanceTable<S>,
    instance: &'a Arc<Instance<S>>,
    receipt: Option<&'a Receipt>,
    deadline: Instant,
    absence: Absence,
) -> BoxFuture<'a, Result<Looked<S>, Error>> {
    Box::pin(async move {
        let asked = Instant::now();
        match load_record(table, &instance.key, receipt, deadline).await {
            Ok(loaded) => adopt_loaded(table, instance, loaded, asked, deadline, absence).await,
            Err(error) => Err(load_failed(table, instance, error)),
        }
    })
}

/// Loads a record within the deadline, and measures the call.
pub(super) async fn load_record<S: ReactiveState>(
    table: &InstanceTable<S>,
    key: &Key,
    receipt: Option<&Receipt>,
    deadline: Instant,
) -> Result<Loaded, StoreError> {
    let watch = Stopwatch::start();
    let loaded = within(deadline, table.store.load(key, receipt)).await;
    table.store_meter.loads.observe(watch);
    loaded.inspect_err(|_| table.store_meter.failed_loads.add(1))
}

/// Adopts the result of a background reload, unless events or other nodes' changes have already replaced it.
pub(in crate::registry) async fn adopt_reloaded<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    Found { loaded, before, asked }: Found,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let current = instance.current.read().as_ref().map(|current| (current.version, current.stored));
    let version = current.map(|(version, _)| version);
    let found = loaded.record.as_ref().map(|record| record.version);
    let is_newer = |newer: Option<Version>, older: Option<Version>| {
        older.zip(newer).is_some_and(|(older, newer)| older == newer || older.is_before(newer))
    };
    if version == before || is_newer(found, version) {
        let (current, _) = adopt_loaded(table, instance, loaded, asked, deadline, Absence::Begins).await?;
        return Ok(Outcome::quiet(Applied::Unchanged, current.version));
    }
    let Some((version, stored)) = current else { return Err(Error::Unknown) };
    if stored && is_newer(Some(version), found) {
        // The version in memory was saved after the load began.
        instance.freshness.lock().end_doubt(asked);
    }
    Ok(Outcome::quiet(Applied::Unchanged, version))
}

/// Commits a loaded record if it differs from the state in memory.
fn adopt_loaded<'a, S: ReactiveState>(
    table: &'a InstanceTable<S>,
    instance: &'a Arc<Instance<S>>,
    Loaded { record, receipt }: Loaded,
    asked: Instant,
    deadline: Instant,
    absence: Absence,
) -> BoxFuture<'a, Result<Looked<S>, Error>> {
    Box::pin(async move {
        let before = instance.current.read().clone();
        let ttl = record.as_ref().and_then(|record| record.ttl);
        let found =
            record.as_ref().map_or(Precondition::Absent, |record| Precondition::Version(record.version));
        let current = match (&before, record) {
            (Some(before), Some(record)) if before.version == record.version => Revision::kept(before),
            (Some(before), None) if !before.stored && !before.gone => Arc::clone(before),
            (before, Some(record))
                if before.as_ref().is_some_and(|before| before.has_seen(record.version)) =>
            {
                start_over(table, instance, record, deadline).await?
            }
            (_, Some(record)) => Arc::new(decode_record(table, instance, record)?),
            (before, None) => {
                match begin_absent(table, instance, before.as_deref(), absence, deadline).await {
                    Err(Error::Unknown) => {
                        if let Some(before) = before {
                            vanish(table, instance, before)?;
                        }
                        return Err(Error::Unknown);
                    }
                    first => Arc::new(Revision::start(first?)?),
                }
            }
        };
        let unpublished = instance.freshness.lock().unpublished;
        match &before {
            Some(before) if Arc::ptr_eq(before, &current) => {}
            Some(before) => {
                adopt_stored(table, instance, before, &current);
                if unpublished {
                    publish_change(table, instance, before.version, &current);
                }
            }
            None => *instance.current.write() = Some(Arc::clone(&current)),
        }
        instance.freshness.lock().loaded(found, asked, ttl, table.store.settles_within());
        instance.mark(false);
        Ok((current, receipt))
    })
}

/// Returns the initial state of an instance without a record, or [`Error::Unknown`] if the instance does not exist.
///
/// `initial` decides whether a record exists. Without it every id exists, but a deleted record or component stays
/// deleted for the pages that follow it until the application creates it again. Otherwise, an event of such a page would
/// recreate it empty.
pub(in crate::registry) async fn begin_absent<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    before: Option<&Revision<S>>,
    absence: Absence,
    deadline: Instant,
) -> Result<S, Error> {
    let is_deleted = match absence {
        Absence::Begins => before.is_some_and(|before| before.gone),
        Absence::Deleted => instance.followers() > 0,
        Absence::Created => false,
    };
    if is_deleted && table.initial.is_none() && table.config.scope.has_id() {
        return Err(Error::Unknown);
    }
    initial_state(table, &instance.key, deadline).await
}

/// Commits that the instance no longer exists: notifies its followers, and makes later calls load it again.
pub(in crate::registry) fn vanish<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    before: &Arc<Revision<S>>,
) -> Result<Version, Error> {
    instance.freshness.lock().suspect = true;
    if before.gone {
        return Ok(before.version);
    }
    let next = Arc::new(before.deleted());
    adopt_stored(table, instance, before, &next);
    if std::mem::take(&mut instance.freshness.lock().unpublished) {
        publish_change(table, instance, before.version, &next);
    }
    Ok(next.version)
}

/// Starts a new epoch with a record that is older than the state in memory, because the store lost changes (law 10).
async fn start_over<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    record: Record,
    deadline: Instant,
) -> Result<Arc<Revision<S>>, Error> {
    tracing::warn!(key = ?instance.key, "the store went back in time: a new epoch starts");
    let expect = Precondition::Version(record.version);
    let renewed = Record { version: Version::start(), ..record };
    let save = table.store.save(&instance.key, &renewed, expect, None);
    let saved = within(deadline, save).await;
    if matches!(saved, Err(StoreError::Unavailable(_))) {
        instance.freshness.lock().doubt(expect);
    }
    match saved? {
        SaveOutcome::Saved => {
            instance.freshness.lock().unpublished = true;
            Ok(Arc::new(decode_record(table, instance, renewed)?))
        }
        SaveOutcome::Conflict | SaveOutcome::Duplicate => Err(Error::Busy("the store changed meanwhile")),
    }
}

/// Starts a new epoch if a client's cursor is ahead of the store: the store has lost those changes, and later
/// versions must not collide with them (law 10). This happens at most once a minute per instance, because clients
/// choose their cursors.
pub(in crate::registry) async fn renew_if_ahead<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    seen: Version,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let (before, _) = reload(table, instance, None, deadline).await?;
    let found = before.version;
    let is_lost = seen.epoch == found.epoch && seen != found && !seen.is_before(found);
    if before.stored && is_lost && instance.freshness.lock().may_renew() {
        let record = within(deadline, table.store.load(&instance.key, None)).await?.record;
        if let Some(record) = record.filter(|record| record.version == found) {
            let current = start_over(table, instance, record, deadline).await?;
            adopt_stored(table, instance, &before, &current);
            publish_change(table, instance, found, &current);
            instance.freshness.lock().unpublished = false;
            return Ok(Outcome::quiet(Applied::Changed, current.version));
        }
    }
    Ok(Outcome::quiet(Applied::Unchanged, found))
}

/// Adopts another node's change, from the data in the message or from the store.
pub(super) async fn adopt_change<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    change: Change,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let Some(before) = instance.usable(Instant::now()) else {
        let (current, _) = reload_as(table, instance, None, deadline, Absence::Deleted).await?;
        return Ok(Outcome::quiet(Applied::Unchanged, current.version));
    };
    if before.version == change.to || change.to.is_before(before.version) {
        return Ok(Outcome::quiet(Applied::Unchanged, before.version));
    }
    let fits = before.version == change.from && change.schema == S::SCHEMA;
    let carried = change.data.filter(|_| fits).and_then(|data| {
        let state = serde_json::from_slice(&data).ok()?;
        Some(Arc::new(Revision::stored(state, EncodedState::loaded(data), change.to, S::SCHEMA, None)))
    });
    let current = match carried {
        Some(current) => {
            adopt_stored(table, instance, &before, &current);
            note_adopted(table, instance);
            current
        }
        // An absent record means a deletion, because nodes do not announce expiry.
        None => reload_as(table, instance, None, deadline, Absence::Deleted).await?.0,
    };
    Ok(Outcome::quiet(Applied::Changed, current.version))
}

/// Records that a save or deletion that began after `asked` succeeded, so that the store holds the current version.
pub(in crate::registry) fn note_saved<S: ReactiveState>(
    _table: &InstanceTable<S>,
    instance: &Instance<S>,
    asked: Instant,
    ttl: Option<Duration>,
) {
    instance.freshness.lock().saved(asked, ttl);
    instance.mark(false);
}

/// Records that a save that began after `asked` kept the version, so that the store holds the state in memory. An
/// earlier save that expects this version may still take effect.
pub(in crate::registry) fn note_kept<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    kept: &Arc<Revision<S>>,
    asked: Instant,
) {
    {
        let _topics = instance.topics.lock();
        *instance.current.write() = Some(Arc::clone(kept));
    }
    let settles = table.store.settles_within();
    instance.freshness.lock().loaded(kept.expect(), asked, kept.lifetime(table.config.ttl), settles);
    instance.mark(false);
}

/// Records that the current version came from another node. Later versions may exist.
fn note_adopted<S: ReactiveState>(table: &InstanceTable<S>, instance: &Instance<S>) {
    instance.freshness.lock().expires = table.config.ttl.map(|ttl| Instant::now() + ttl);
    instance.mark(false);
}

/// Decodes a record, and upgrades it if an older schema wrote it.
fn decode_record<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    record: Record,
) -> Result<Revision<S>, Error> {
    let corrupt = |source: crate::BoxError| {
        load_failed(table, instance, StoreError::Corrupt { key: instance.key.clone(), source })
    };
    let Record { schema, version, data, pending, .. } = record;
    let outbox = Outbox::decode(&pending).map_err(corrupt)?;
    if schema >= S::SCHEMA {
        let state = serde_json::from_slice(&data).map_err(|error| corrupt(error.into()))?;
        return Ok(Revision::stored(state, EncodedState::loaded(data), version, schema, outbox));
    }
    let state = migrated(schema, &data).map_err(corrupt)?;
    // The result of an event is compared with the upgraded form, because the old bytes may mean something else now.
    let encoded = encode(&state, data.len() + GROWTH_SLACK)?;
    Ok(Revision::stored(state, encoded, version, schema, outbox))
}

/// Calls `initial`, or returns the default state.
async fn initial_state<S: ReactiveState>(
    table: &InstanceTable<S>,
    key: &Key,
    deadline: Instant,
) -> Result<S, Error> {
    let Some(initial) = &table.initial else { return Ok(S::default()) };
    let first = std::panic::AssertUnwindSafe(async { initial(key.clone()).await }).catch_unwind();
    match tokio::time::timeout_at(deadline, first).await.map_err(|_| Error::TimedOut)? {
        Ok(Ok(Some(state))) => Ok(state),
        Ok(Ok(None)) => Err(Error::Unknown),
        Ok(Err(source)) => Err(Error::Unavailable(crate::store::StoreError::Unavailable(source))),
        Err(panic) => Err(Error::internal("`initial` panicked", &panic_text(&*panic))),
    }
}
