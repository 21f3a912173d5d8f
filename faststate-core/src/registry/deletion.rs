//! Deletion of a record.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Applied, Error, Outcome,
    instance::{Current, Instance},
    look::Absence,
    states::InstanceTable,
    tries::Tries,
    work::{pause, within},
};
use crate::{
    ReactiveState,
    store::{Precondition, StoreError},
};

impl<S: ReactiveState> InstanceTable<S> {
    /// Deletes the record. Followers see the initial state again, under a new epoch.
    pub(super) async fn delete(
        &self,
        instance: &Arc<Instance<S>>,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let mut tries = Tries::<S>::new(deadline);
        while tries.may_load() && Instant::now() < deadline {
            tries.count_load(false);
            let (before, stored) = match self.refresh(instance, None, deadline).await {
                Ok((current, _)) => {
                    let stored = current.stored.then_some(current.version);
                    (Some(current), stored)
                }
                // A record that cannot be decoded can still be deleted if the store returns its version.
                Err(Error::Unavailable(StoreError::Corrupt { .. })) => {
                    let record = within(deadline, self.store.load(&instance.key, None)).await?.record;
                    (instance.current.read().clone(), record.map(|record| record.version))
                }
                Err(error) => return Err(error),
            };
            let asked = Instant::now();
            let deletion = async {
                match stored {
                    Some(version) => self.store.delete(&instance.key, version).await,
                    None => Ok(true),
                }
            };
            match within(deadline, deletion).await {
                Ok(true) => {}
                Ok(false) => {
                    tries.count_save();
                    pause(stored.map_or(Duration::ZERO, |found| {
                        self.pause_after_conflict(instance, &mut tries, found)
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
            let first = self.begin_absent(instance, before.as_deref(), Absence::Deleted, deadline);
            let first = match first.await {
                Err(Error::Unknown) => {
                    let Some(before) = before else { return Err(Error::Unknown) };
                    let version = self.vanish(instance, &before)?;
                    return Ok(Outcome::quiet(Applied::Changed, version));
                }
                first => first?,
            };
            let next = Arc::new(Current::start(first)?);
            match &before {
                Some(before) => self.take_over(instance, before, &next),
                None => *instance.current.write() = Some(Arc::clone(&next)),
            }
            self.saved(instance, asked, None);
            self.publish(instance, before.map_or(next.version, |before| before.version), &next);
            return Ok(Outcome::quiet(Applied::Changed, next.version));
        }
        Err(Error::TimedOut)
    }
}
