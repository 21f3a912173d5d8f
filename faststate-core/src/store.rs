//! Where states are saved.

mod cached;
mod circuit_breaker;
mod memory;
mod queue;
mod write_behind;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use self::cached::Unclaimed;
pub use self::{
    cached::Cached,
    circuit_breaker::{CircuitBreaker, CircuitOpen},
    memory::MemoryStore,
    queue::{Queue, Shards, Waiting},
    write_behind::WriteBehind,
};
use crate::{BoxError, EventId, Key, Version, Viewer};

/// How long a store keeps a caller's receipt, by its own clock.
pub const RECEIPT_KEPT: Duration = Duration::from_secs(600);

/// The most bytes of JSON in a record, whatever the store: 1 MiB.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// Saves records, at most one per key, and the receipts of the events that made them.
///
/// # Contract
/// 1. Of any number of concurrent saves of one key that expect the same version and bring another, exactly one
///    succeeds (law 2).
/// 2. A record and its receipt are saved together or not at all (law 3). A save may keep version and data, for its
///    receipt alone.
/// 3. A save whose receipt is already there changes nothing and says [`SaveOutcome::Duplicate`], whatever
///    version it expects.
/// 4. What a durable store has acknowledged is there after `kill -9` (law 1).
/// 5. A record is gone once its time to live has passed by the store's clock: `load` no longer gives
///    it, `touch` does not revive it, and a save that expects it is a conflict.
/// 6. Different keys are different records, byte for byte (law 11).
/// 7. A receipt outlives its record: deletion or expiry of the record does not make room for a repeat.
///
/// The suite `conformance::store` checks all of it but promise 4. `examples/custom_store.rs` in the repository
/// is a whole one, written by hand.
///
/// # Errors
/// A call may take up to two seconds; then it fails. After an error of `save` the outcome is unknown:
/// the engine loads again, with the receipt.
///
/// # Cancellation
/// A dropped future leaves the old record or the new one, never a mixture.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The record, and whether the receipt is there.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError>;

    /// Saves the record if what is stored still is what was expected, together with the receipt.
    ///
    /// # Limits
    /// `record.data` is at most 1 MiB of JSON ([`MAX_RECORD_BYTES`]); `record.ttl` has a resolution of a millisecond.
    ///
    /// # Errors
    /// When the store does not answer (the outcome is then unknown), has no room (nothing changed), or refuses the
    /// record, as it does every one that is too large ([`Record::check_size`]; nothing changed).
    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError>;

    /// Deletes the record if it still is at this version; says whether it did.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError>;

    /// Lets the record live `ttl` from now; says whether there was one.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError>;

    /// Removes expired records and receipts, at most `limit` of each; says how many.
    ///
    /// Only housekeeping: what has expired is gone before it is swept.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError>;

    /// Whether the store answers.
    ///
    /// # Errors
    /// When it does not.
    async fn ping(&self) -> Result<(), StoreError>;

    /// How long after an answer of the store an earlier save or deletion may still take effect whose caller
    /// got no answer: a lock may hold it in the server. Until then, a load that finds the old record does not
    /// prove that it failed.
    ///
    /// # Limits
    /// 10 s, unless the store knows a shorter bound: zero for one in which nothing goes on after the call.
    fn settles_within(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Whether another process has written to the store since this was asked last. Only a store that one process is meant
    /// to have for itself, and that notices others, has something to say; the registry then loads again what is followed.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Writes what was acknowledged and is not durable yet, and tidies up before the process ends. Only stores that break
    /// promise 4 on purpose, or keep a log beside their data, have something to do.
    ///
    /// # Errors
    /// When not all of it could be written; it is tried again.
    async fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl<T: Store + ?Sized> Store for Arc<T> {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        (**self).load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        (**self).save(key, record, expect, receipt).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        (**self).delete(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        (**self).touch(key, ttl).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        (**self).sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        (**self).ping().await
    }

    fn settles_within(&self) -> Duration {
        (**self).settles_within()
    }

    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        (**self).is_written_elsewhere().await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        (**self).flush().await
    }
}

/// What is saved under a key: a store keeps every field of it, so another one would break stores on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The `SCHEMA` of the state that wrote it.
    pub schema: u32,
    /// Its version.
    pub version: Version,
    /// The state as JSON.
    pub data: Bytes,
    /// How much longer it lives, by the store's clock: asked for when saved, left when loaded. Without
    /// one it stays.
    pub ttl: Option<Duration>,
}

impl Record {
    /// Whether its data is within the limit. Every store begins its `save` with this, so that a state that fits into one
    /// store fits into all of them.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it has more than [`MAX_RECORD_BYTES`].
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

/// What `load` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The record, unless there is none or it has expired.
    pub record: Option<Record>,
    /// Whether the receipt that was asked for is there.
    pub receipt: bool,
}

/// What a save expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precondition {
    /// No record.
    Absent,
    /// A record at exactly this version.
    Version(Version),
}

/// What became of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaveOutcome {
    /// Record and receipt are saved.
    Saved,
    /// Something else was found than expected; nothing changed.
    Conflict,
    /// The receipt was there already; nothing changed.
    Duplicate,
}

/// Proof that an event was applied to a key: 128 bits of SHA-256 over key, event, event id and sender.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    digest: [u8; 16],
    minted: bool,
}

impl Receipt {
    /// The receipt of a caller's event id.
    #[must_use]
    pub fn new(key: &Key, event: &str, id: &EventId) -> Self {
        Self::of(key, event, id, &[])
    }

    /// The receipt of an event id of this viewer's: the same id of another session is another event.
    ///
    /// An instance that a session or a user owns has no other senders. A client whose cookie has not come back
    /// cannot be told from others like it.
    pub(crate) fn from_viewer(key: &Key, event: &str, id: &EventId, viewer: &Viewer) -> Self {
        let bound = !key.scope().has_owner() && !viewer.is_unconfirmed();
        let sender = viewer.session_id().filter(|_| bound);
        Self::of(key, event, id, sender.map_or(&[], |session| session.as_bytes()))
    }

    fn of(key: &Key, event: &str, id: &EventId, sender: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [key.as_str(), event, id.as_str()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(sender);
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self { digest, minted: false }
    }

    /// A receipt that no caller knows: it serves the engine's own retries.
    #[must_use]
    pub fn internal() -> Self {
        Self { digest: rand::random(), minted: true }
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.digest
    }

    /// Whether the engine minted it: kept for [`lifetime`](Self::lifetime) only, and not at all by a
    /// store whose outcomes are never unknown.
    #[must_use]
    pub const fn is_internal(&self) -> bool {
        self.minted
    }

    /// How long a store keeps it: 10 minutes, or 1 minute if minted.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        if self.minted { Duration::from_secs(60) } else { RECEIPT_KEPT }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({:032x})", u128::from_be_bytes(self.digest))
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It does not answer: temporary, and the outcome of a save is unknown.
    #[error("the store does not answer")]
    Unavailable(#[source] BoxError),
    /// It has no room for another record or receipt: nothing changed; temporary, once somebody makes room.
    #[error("the store is full")]
    Full(#[source] BoxError),
    /// It refuses this key or record: permanent, nothing changed.
    #[error("the store refuses this: {0}")]
    Refused(#[source] BoxError),
    /// What it holds cannot be read: permanent until somebody repairs it.
    #[error("what is stored under {key} cannot be read")]
    Corrupt {
        /// The record's key.
        key: Key,
        /// Why not.
        #[source]
        source: BoxError,
    },
}

impl StoreError {
    /// Whether the same call may succeed later, without anybody repairing the call or the record.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Full(_) => true,
            Self::Refused(_) | Self::Corrupt { .. } => false,
        }
    }

    /// Whether a save that failed like this may still take effect.
    pub(crate) fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Unavailable(error) if !error.is::<Unclaimed>()) && !self.is_resting()
    }

    /// Whether the same call may succeed in a moment.
    pub(crate) fn may_pass_soon(&self) -> bool {
        matches!(self, Self::Unavailable(_)) && !self.is_resting()
    }

    /// Whether the call did not reach the store, because it rests.
    pub(crate) fn is_resting(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.is::<CircuitOpen>())
    }
}
