//! Deletion of a record.

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
        instance::{Instance, revision::Current, table::InstanceTable},
        load::reload::{Absence, begin_absent, note_saved, reload, vanish},
    },
    store::{Precondition, StoreError},
};

/// Deletes the record. Followers see the initial state again, under a new epoch.
pub(in crate::registry) async fn delete_record<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let mut tries = RetryBudget::<S>::new(deadline);
    while tries.may_load() && Instant::now() < deadline {
        tries.count_load(false);
        let (before, stored) = match reload(table, instance, None, deadline).await {
            Ok((current, _)) => {
                let stored = current.stored.then_some(current.version);
                (Some(current), stored)
            }
            // A record that cannot be decoded can still be deleted if the store returns its version.
            Err(Error::Unavailable(StoreError::Corrupt { .. })) => {
                let record = within(deadline, table.store.load(&instance.key, None)).await?.record;
                (instance.current.read().clone(), record.map(|record| record.version))
            }
            Err(error) => return Err(error),
        };
        let asked = Instant::now();
        let deletion = async {
            match stored {
                Some(version) => table.store.delete(&instance.key, version).await,
                None => Ok(true),
            }
        };
        match within(deadline, deletion).await {
            Ok(true) => {}
            Ok(false) => {
                tries.count_save();
                pause(stored.map_or(Duration::ZERO, |found| {
                    pause_after_conflict(table, instance, &mut tries, found)
                }))
                .await;
                continue;
            }
            Err(error) => {
                instance
                    .upkeep
                    .lock()
                    .doubt_deletion(stored.map_or(Precondition::Absent, Precondition::Version));
                return Err(Error::Unavailable(error));
            }
        }
        // The record is deleted, even if the following steps fail.
        instance.upkeep.lock().deleted();
        let first = begin_absent(table, instance, before.as_deref(), Absence::Deleted, deadline);
        let first = match first.await {
            Err(Error::Unknown) => {
                let Some(before) = before else { return Err(Error::Unknown) };
                let version = vanish(table, instance, &before)?;
                return Ok(Outcome::quiet(Applied::Changed, version));
            }
            first => first?,
        };
        let next = Arc::new(Current::start(first)?);
        match &before {
            Some(before) => adopt_stored(table, instance, before, &next),
            None => *instance.current.write() = Some(Arc::clone(&next)),
        }
        note_saved(table, instance, asked, None);
        publish_change(table, instance, before.map_or(next.version, |before| before.version), &next);
        return Ok(Outcome::quiet(Applied::Changed, next.version));
    }
    Err(Error::TimedOut)
}
