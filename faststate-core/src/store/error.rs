//! The error of a store's calls, and the sources by which the engine decides how to continue.

use crate::{BoxError, Key};

/// The reason for which a call of a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store does not answer. This is temporary; the outcome of a save is unknown.
    #[error("the store does not answer")]
    Unavailable(#[source] BoxError),
    /// The store has no room for another record or receipt. Nothing changed; a retry succeeds once there is room.
    #[error("the store is full: make room, or raise its limits")]
    Full(#[source] BoxError),
    /// The store refuses this key or record. This is permanent; nothing changed.
    #[error("the store refuses this key or record: {0}")]
    Refused(#[source] BoxError),
    /// The stored record cannot be read. This is permanent until the record is repaired.
    #[error("the record stored under {key} cannot be read: repair or delete it")]
    Corrupt {
        /// The record's key.
        key: Key,
        /// The reason.
        #[source]
        source: BoxError,
    },
}

/// The circuit is open: the store is not called at the moment, because several calls in a row failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("several calls in a row failed, so the store is not called until it answers a ping; try again soon")]
#[non_exhaustive]
pub struct CircuitOpen;

/// The durable store of a [`Cached`](super::Cached) was not called, because the key could not be claimed in the fast
/// store. Nothing changed.
#[derive(Debug, thiserror::Error)]
#[error("the fast store does not answer, so nothing was changed; try again")]
pub(super) struct Unclaimed(#[source] pub(super) BoxError);

impl StoreError {
    /// Returns whether the same call may succeed later without a change of the call or the record.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Full(_) => true,
            Self::Refused(_) | Self::Corrupt { .. } => false,
        }
    }

    /// Returns whether a save that failed with this error may still take effect.
    pub(crate) fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Unavailable(error) if !error.is::<Unclaimed>()) && !self.is_resting()
    }

    /// Returns whether the same call may succeed within moments.
    pub(crate) fn may_pass_soon(&self) -> bool {
        matches!(self, Self::Unavailable(_)) && !self.is_resting()
    }

    /// Returns whether the call did not reach the store because the circuit is open.
    pub(crate) fn is_resting(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.is::<CircuitOpen>())
    }
}
