//! The part of a record that holds its unfinished messages, timers and jobs, and the results of looking for them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::Key;

/// The maximum size of [`PendingMessages::data`] in bytes, in every store: 1 MiB.
pub const MAX_PENDING_BYTES: usize = 1 << 20;

/// The messages, timers and jobs that a record's events have requested and that are not finished.
///
/// A store saves these values and does not interpret `data`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingMessages {
    /// The encoded messages, timers and jobs. Empty if there are none.
    pub data: Bytes,
    /// The number of messages and jobs that are not finished. Timers do not count.
    pub waiting: u32,
    /// The number of messages, timers and jobs that wait for an operator.
    pub parked: u32,
    /// When the oldest of `waiting` and `parked` was requested, with a resolution of 1 ms.
    pub oldest: Option<SystemTime>,
}

impl PendingMessages {
    /// Returns whether there are no messages, timers and jobs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

/// The records whose due time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueKeys {
    /// The time of day by the store's clock.
    pub now: SystemTime,
    /// The keys of the records whose [`due`](super::Record::due) is not after `now`, earliest first.
    pub keys: Vec<Key>,
}

/// The unfinished messages and jobs of all records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingSummary {
    /// The sum of [`PendingMessages::waiting`].
    pub waiting: u64,
    /// The sum of [`PendingMessages::parked`].
    pub parked: u64,
    /// The time since the earliest [`PendingMessages::oldest`].
    pub age: Option<Duration>,
    /// The keys of the records with waiting or parked messages or jobs, oldest first.
    pub keys: Vec<Key>,
}
