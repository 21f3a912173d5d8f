//! Where the store does not answer: what is in memory is marked, and reloaded once it does.

use std::{sync::Arc, time::Duration};

use super::{Error, instance::Instance, states::InstanceTable};
use crate::{ReactiveState, store::StoreError};

/// How long a record that cannot be read is not loaded again for reads.
const UNREADABLE: Duration = Duration::from_secs(1);

impl<S: ReactiveState> InstanceTable<S> {
    /// Whether the store is not asked at the moment.
    pub(super) fn is_resting(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.is_resting())
    }

    /// Whether every load fails at once at the moment.
    pub(super) fn refuses_loads(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.refuses_loads())
    }

    /// The store did not answer: what is in memory may be stale, and must be confirmed.
    pub(super) fn unanswered(&self, instance: &Arc<Instance<S>>) {
        instance.upkeep.lock().suspect = true;
        instance.mark(true);
        self.clear_up(instance);
    }

    /// The error of a load that failed. A record that cannot be read is logged once.
    pub(super) fn load_failed(&self, instance: &Instance<S>, error: StoreError) -> Error {
        if let StoreError::Corrupt { source, .. } = &error
            && instance.upkeep.lock().note_unreadable()
        {
            tracing::error!(key = ?instance.key, error = %source, "what is stored cannot be read");
        }
        Error::Unavailable(error)
    }

    /// Refuses to load a record again for a read that could not be read a moment ago.
    pub(super) fn check_readable(&self, instance: &Instance<S>) -> Result<(), Error> {
        let unreadable = instance.upkeep.lock().unreadable_since();
        if unreadable.is_none_or(|since| since.elapsed() >= UNREADABLE) {
            return Ok(());
        }
        let source = "it could not be read a moment ago".into();
        Err(Error::Unavailable(StoreError::Corrupt { key: instance.key.clone(), source }))
    }
}
