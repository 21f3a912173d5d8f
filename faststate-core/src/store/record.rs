//! Records, and the parameters and results of loading and saving them.

use std::time::Duration;

use bytes::Bytes;

use super::StoreError;
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
}

impl Record {
    /// Checks the size of `data`. Every store begins `save` with this, so that a state that fits into one store fits
    /// into all of them.
    ///
    /// # Errors
    /// Returns [`StoreError::Refused`] for more than [`MAX_RECORD_BYTES`].
    pub fn check_size(&self) -> Result<(), StoreError> {
        match self.data.len() {
            bytes if bytes > MAX_RECORD_BYTES => Err(StoreError::Refused(TooLarge { bytes }.into())),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a record has at most {MAX_RECORD_BYTES} bytes of JSON, and this one has {bytes}: split the state")]
struct TooLarge {
    bytes: usize,
}

/// The result of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The record, unless there is none or it has expired.
    pub record: Option<Record>,
    /// Whether the requested receipt exists.
    pub receipt: bool,
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
