//! Records, and the parameters and results of loading and saving them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{MAX_PENDING_BYTES, PendingMessages, StoreError};
use crate::Version;

/// The maximum size of a record's JSON in bytes, in every store: 1 MiB.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// The record of one key.
///
/// Deliberately not `#[non_exhaustive]`: a new field must break every store, since a store that ignores a field loses
/// data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The `SCHEMA` of the state that wrote it.
    pub schema: u32,
    /// Its version.
    pub version: Version,
    /// The state as JSON.
    pub data: Bytes,
    /// The remaining lifetime by the store's clock: the requested one in a save, the remaining one in a load. A record
    /// without one does not expire.
    pub ttl: Option<Duration>,
    /// The messages, timers and jobs that are not finished.
    pub pending: PendingMessages,
    /// The time of day at which [`Store::due`](super::Store::due) returns the record's key, with a resolution of 1 ms.
    pub due: Option<SystemTime>,
}

impl Record {
    /// Creates a record without unfinished messages.
    #[must_use]
    pub fn new(schema: u32, version: Version, data: impl Into<Bytes>, ttl: Option<Duration>) -> Self {
        Self { schema, version, data: data.into(), ttl, pending: PendingMessages::default(), due: None }
    }

    /// Checks the sizes of `data` and `pending`. Every store begins `save` with this, so that a state that fits into one store fits
    /// into all of them.
    ///
    /// # Errors
    /// Returns [`StoreError::Refused`] for more than [`MAX_RECORD_BYTES`] or [`MAX_PENDING_BYTES`].
    pub fn check_size(&self) -> Result<(), StoreError> {
        let (bytes, pending) = (self.data.len(), self.pending.data.len());
        if bytes > MAX_RECORD_BYTES {
            return Err(StoreError::Refused(TooLarge::Data(bytes).into()));
        }
        if pending > MAX_PENDING_BYTES {
            return Err(StoreError::Refused(TooLarge::Pending(pending).into()));
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum TooLarge {
    #[error("a record has at most {MAX_RECORD_BYTES} bytes of JSON, and this one has {0}: split the state")]
    Data(usize),
    #[error(
        "a record has at most {MAX_PENDING_BYTES} bytes of unfinished messages, and this one has {0}: send fewer or smaller messages"
    )]
    Pending(usize),
}

/// The result of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The record, unless there is none or it has expired.
    pub record: Option<Record>,
    /// The answer of the requested receipt, if the receipt exists. It is empty unless [`Store::refuse`](super::Store::refuse)
    /// saved the receipt.
    pub receipt: Option<Bytes>,
}

/// The condition under which a save takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precondition {
    /// There is no record.
    Absent,
    /// There is a record at exactly this version.
    Version(Version),
}

/// The outcome of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaveOutcome {
    /// Record and receipt are saved.
    Saved,
    /// The precondition does not hold; nothing changed.
    Conflict,
    /// The receipt already exists; nothing changed.
    Duplicate,
}
