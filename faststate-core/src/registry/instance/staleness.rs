//! Where the store does not answer: what is in memory is marked, and reloaded once it does.

use std::time::Duration;

use crate::{
    ReactiveState,
    registry::{
        Error,
        instance::{Instance, table::InstanceTable},
    },
    store::StoreError,
};

/// How long a record that cannot be read is not loaded again for reads.
const UNREADABLE: Duration = Duration::from_secs(1);

/// The error of a load that failed. A record that cannot be read is logged once.
pub(in crate::registry) fn load_failed<S: ReactiveState>(
    _table: &InstanceTable<S>,
    instance: &Instance<S>,
    error: StoreError,
) -> Error {
    if let StoreError::Corrupt { source, .. } = &error
        && instance.upkeep.lock().note_unreadable()
    {
        tracing::error!(key = ?instance.key, error = %source, "what is stored cannot be read");
    }
    Error::Unavailable(error)
}

/// Refuses to load a record again for a read that could not be read a moment ago.
pub(in crate::registry) fn check_readable<S: ReactiveState>(
    _table: &InstanceTable<S>,
    instance: &Instance<S>,
) -> Result<(), Error> {
    let unreadable = instance.upkeep.lock().unreadable_since();
    if unreadable.is_none_or(|since| since.elapsed() >= UNREADABLE) {
        return Ok(());
    }
    let source = "it could not be read a moment ago".into();
    Err(Error::Unavailable(StoreError::Corrupt { key: instance.key.clone(), source }))
}
