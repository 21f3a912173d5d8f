//! The deletion of a record.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    ReactiveState,
    registry::{
        Applied, Error, Outcome,
        deadline::{pause, within},
        event::{
            commit::{adopt_stored, publish_change},
            retry::{RetryBudget, pause_after_conflict},
        },
        instance::{Instance, revision::Revision, table::InstanceTable},
        load::reload::{Absence, begin_absent, note_saved, reload, vanish},
    },
    store::{Precondition, StoreError},
    version::Version,
};

/// Deletes the record. Its followers receive the initial state, under a new epoch.
pub(in crate::registry) async fn delete_record<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let mut budget = RetryBudget::<S>::new(deadline);
    while budget.may_load() && Instant::now() < deadline {
        budget.count_load(false);
        let (before, stored) = load_before_deletion(table, instance, deadline).await?;
        if before
            .as_ref()
            .is_some_and(|before| before.outbox.as_ref().is_some_and(|outbox| outbox.waiting() > 0))
        {
            return Err(Error::Busy("the instance has unfinished messages"));
        }
        let asked = Instant::now();
        if delete_version(table, instance, stored, deadline).await? {
            // The record is deleted, even if the following steps fail.
            instance.freshness.lock().deleted();
            return commit_deletion(table, instance, before, asked, deadline).await;
        }
        budget.count_save();
        let wait = stored.map(|found| pause_after_conflict(table, instance, &mut budget, found));
        pause(wait.unwrap_or(Duration::ZERO)).await;
    }
    Err(Error::TimedOut)
}

/// Loads the record. Returns the state in memory and the stored version.
async fn load_before_deletion<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    deadline: Instant,
) -> Result<(Option<Arc<Revision<S>>>, Option<Version>), Error> {
    match reload(table, instance, None, deadline).await {
        Ok((current, _)) => {
            let stored = current.stored.then_some(current.version);
            Ok((Some(current), stored))
        }
        // A record that cannot be decoded can still be deleted if the store returns its version.
        Err(Error::Unavailable(StoreError::Corrupt { .. })) => {
            let record = within(deadline, table.store.load(&instance.key, None)).await?.record;
            Ok((instance.current.read().clone(), record.map(|record| record.version)))
        }
        Err(error) => Err(error),
    }
}

/// Deletes the record if it still has this version. Returns `false` if it has another one.
async fn delete_version<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    stored: Option<Version>,
    deadline: Instant,
) -> Result<bool, Error> {
    let Some(version) = stored else { return Ok(true) };
    let deletion = within(deadline, table.store.delete(&instance.key, version)).await;
    deletion.map_err(|error| {
        instance.freshness.lock().doubt_deletion(Precondition::Version(version));
        Error::Unavailable(error)
    })
}

/// Commits the deletion: the instance starts over, or does not exist any more.
async fn commit_deletion<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    before: Option<Arc<Revision<S>>>,
    asked: Instant,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let first = match begin_absent(table, instance, before.as_deref(), Absence::Deleted, deadline).await {
        Err(Error::Unknown) => {
            let Some(before) = before else { return Err(Error::Unknown) };
            let version = vanish(table, instance, &before)?;
            return Ok(Outcome::quiet(Applied::Changed, version));
        }
        first => first?,
    };
    let next = Arc::new(Revision::start(first)?);
    match &before {
        Some(before) => adopt_stored(table, instance, before, &next),
        None => *instance.current.write() = Some(Arc::clone(&next)),
    }
    note_saved(table, instance, asked, None);
    publish_change(table, instance, before.map_or(next.version, |before| before.version), &next);
    Ok(Outcome::quiet(Applied::Changed, next.version))
}
