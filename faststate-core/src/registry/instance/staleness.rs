//! Records that cannot be decoded, and the pause before they are loaded again.

use std::time::Duration;

use crate::{
    ReactiveState,
    registry::{
        Error,
        instance::{Instance, table::InstanceTable},
    },
    store::StoreError,
};

/// Minimum interval between two loads of a record that cannot be decoded.
const UNREADABLE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the error of a failed load. A record that cannot be decoded is logged once.
pub(in crate::registry) fn load_failed<S: ReactiveState>(
    _table: &InstanceTable<S>,
    instance: &Instance<S>,
    error: StoreError,
) -> Error {
    if let StoreError::Corrupt { source, .. } = &error
        && instance.freshness.lock().note_unreadable()
    {
        tracing::error!(key = ?instance.key, error = %source, "the record cannot be decoded");
    }
    Error::Unavailable(error)
}

/// Returns an error if the record could not be decoded within the last second, so that reads do not load it again and
/// again.
pub(in crate::registry) fn check_readable<S: ReactiveState>(
    _table: &InstanceTable<S>,
    instance: &Instance<S>,
) -> Result<(), Error> {
    let unreadable = instance.freshness.lock().unreadable_since();
    if unreadable.is_none_or(|since| since.elapsed() >= UNREADABLE_RETRY_INTERVAL) {
        return Ok(());
    }
    let source = "it could not be decoded less than a second ago".into();
    Err(Error::Unavailable(StoreError::Corrupt { key: instance.key.clone(), source }))
}
