//! Stores: where states are saved.
//!
//! A [`Store`] saves one [`Record`] per key, together with the [`Receipt`]s of the events that made it. Everything that
//! FastState promises across nodes rests on one operation, [`Store::save`], which succeeds only if the stored version
//! still is the expected one. This is a whole store:
//!
//! ```
//! use std::{collections::HashMap, time::{Duration, Instant}};
//!
//! use faststate_core::{Key, Version, store::*};
//! use parking_lot::Mutex;
//!
//! #[derive(Debug, Default)]
//! struct MapStore {
//!     data: Mutex<Data>,
//! }
//!
//! #[derive(Debug, Default)]
//! struct Data {
//!     /// Each record with the end of its lifetime.
//!     records: HashMap<Key, (Record, Option<Instant>)>,
//!     /// Each receipt with the end of its lifetime.
//!     receipts: HashMap<[u8; 16], Instant>,
//! }
//!
//! impl Data {
//!     fn record(&self, key: &Key) -> Option<Record> {
//!         let (record, end) = self.records.get(key)?;
//!         let left = end.map(|end| end.saturating_duration_since(Instant::now()));
//!         (left != Some(Duration::ZERO)).then(|| Record { ttl: left, ..record.clone() })
//!     }
//!
//!     fn has(&self, receipt: Option<&Receipt>) -> bool {
//!         let end = receipt.and_then(|receipt| self.receipts.get(receipt.as_bytes()));
//!         end.is_some_and(|end| *end > Instant::now())
//!     }
//! }
//!
//! #[async_trait::async_trait]
//! impl Store for MapStore {
//!     async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
//!         let data = self.data.lock();
//!         Ok(Loaded { record: data.record(key), receipt: data.has(receipt) })
//!     }
//!
//!     async fn save(
//!         &self,
//!         key: &Key,
//!         record: &Record,
//!         expect: Precondition,
//!         receipt: Option<&Receipt>,
//!     ) -> Result<SaveOutcome, StoreError> {
//!         record.check_size()?;
//!         let mut data = self.data.lock();
//!         if data.has(receipt) {
//!             return Ok(SaveOutcome::Duplicate);
//!         }
//!         let found = data.record(key).map_or(Precondition::Absent, |record| Precondition::Version(record.version));
//!         if found != expect {
//!             return Ok(SaveOutcome::Conflict);
//!         }
//!         let now = Instant::now();
//!         data.records.insert(key.clone(), (record.clone(), record.ttl.map(|ttl| now + ttl)));
//!         if let Some(receipt) = receipt {
//!             data.receipts.insert(*receipt.as_bytes(), now + receipt.lifetime());
//!         }
//!         Ok(SaveOutcome::Saved)
//!     }
//!
//!     async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
//!         let mut data = self.data.lock();
//!         let matches = data.record(key).is_some_and(|record| record.version == version);
//!         Ok(matches && data.records.remove(key).is_some())
//!     }
//!
//!     async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
//!         let mut data = self.data.lock();
//!         let Some(record) = data.record(key) else { return Ok(false) };
//!         data.records.insert(key.clone(), (record, Some(Instant::now() + ttl)));
//!         Ok(true)
//!     }
//!
//!     async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
//!         let (mut data, now) = (self.data.lock(), Instant::now());
//!         let expired = data.receipts.iter().filter(|(_, end)| **end <= now).map(|(digest, _)| *digest);
//!         let expired: Vec<_> = expired.take(limit).collect();
//!         expired.iter().for_each(|digest| _ = data.receipts.remove(digest));
//!         let records = data.records.iter().filter(|(_, (_, end))| end.is_some_and(|end| end <= now));
//!         let records: Vec<_> = records.map(|(key, _)| key.clone()).take(limit).collect();
//!         records.iter().for_each(|key| _ = data.records.remove(key));
//!         Ok(expired.len() + records.len())
//!     }
//!
//!     async fn ping(&self) -> Result<(), StoreError> {
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (store, key) = (MapStore::default(), "counter/g".parse::<Key>()?);
//! # let record = Record { schema: 1, version: Version::start(), data: "{}".into(), ttl: None };
//! # let receipt = Receipt::internal();
//! # assert_eq!(store.save(&key, &record, Precondition::Absent, Some(&receipt)).await?, SaveOutcome::Saved);
//! # assert_eq!(store.save(&key, &record, Precondition::Absent, None).await?, SaveOutcome::Conflict);
//! # assert_eq!(store.save(&key, &record, Precondition::Absent, Some(&receipt)).await?, SaveOutcome::Duplicate);
//! # assert_eq!(store.load(&key, Some(&receipt)).await?, Loaded { record: Some(record), receipt: true });
//! # assert!(store.touch(&key, Duration::ZERO).await? && store.load(&key, None).await?.record.is_none());
//! # assert_eq!(store.sweep(10).await?, 1);
//! # Ok(())
//! # }
//! ```

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

/// How long a store keeps the receipt of a caller's event id, by the store's clock: 10 minutes.
pub const RECEIPT_KEPT: Duration = Duration::from_secs(600);

/// The maximum size of a record's JSON in bytes, in every store: 1 MiB.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// Saves records, at most one per key, and the receipts of the events that made them.
///
/// # Contract
/// 1. Of any number of concurrent saves of one key that expect the same version and write a different one, exactly
///    one succeeds (law 2).
/// 2. A record and its receipt are saved together or not at all (law 3). A save may keep the version and the data and
///    add only its receipt.
/// 3. A save whose receipt already exists changes nothing and returns [`SaveOutcome::Duplicate`], whatever version it
///    expects.
/// 4. A save that a durable store has acknowledged survives `kill -9` (law 1).
/// 5. A record ceases to exist when its time to live has passed by the store's clock: `load` does not return it,
///    `touch` does not revive it, and a save that expects it is a conflict.
/// 6. Different keys are different records, byte for byte (law 11).
/// 7. A receipt outlives its record: after the record was deleted or has expired, a repeat is still a duplicate.
///
/// The suite `conformance::store` checks all points except 4.
///
/// # Errors
/// A call may take up to 2 s and must then fail. After an error of `save` the outcome is unknown, so the engine loads
/// again with the receipt.
///
/// # For implementers
/// - Begin `save` with [`Record::check_size`], so that a state that fits into one store fits into all of them.
/// - Decide on the receipt first, then on the version, in one atomic step: a transaction, a script, or a lock.
/// - Measure lifetimes with the store's clock. The nodes' clocks may differ.
/// - Return [`StoreError::Unavailable`] only if the outcome is unknown or a retry may help. Return
///   [`StoreError::Full`] and [`StoreError::Refused`] only if nothing has changed.
/// - [`Shards`] and [`Queue`] combine concurrent calls into one round trip.
/// - The [module's documentation](crate::store) contains a whole store, and `examples/custom_store.rs` in the
///   repository a tested one over a file. Run `conformance::store::all` in your tests.
///
/// # Cancellation
/// A dropped future leaves the old record or the new one, never a mixture.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Loads the record, and checks whether the receipt exists.
    ///
    /// # Errors
    /// Fails if the store does not answer or the stored bytes cannot be read.
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError>;

    /// Saves the record and the receipt if the stored record still meets `expect`.
    ///
    /// # Limits
    /// `record.data` is at most 1 MiB of JSON ([`MAX_RECORD_BYTES`]); `record.ttl` has a resolution of 1 ms.
    ///
    /// # Errors
    /// Fails if the store does not answer (the outcome is then unknown), is full, or refuses the record, for example
    /// because it is too large ([`Record::check_size`]). A full store and a refusal change nothing.
    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError>;

    /// Deletes the record if its version still is `version`; returns whether it was deleted.
    ///
    /// # Errors
    /// Fails if the store does not answer.
    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError>;

    /// Sets the record's remaining lifetime to `ttl`; returns whether the record exists.
    ///
    /// # Errors
    /// Fails if the store does not answer.
    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError>;

    /// Removes expired records and receipts, at most `limit` of each; returns how many it removed.
    ///
    /// This only frees space: an expired record does not exist for the other methods.
    ///
    /// # Errors
    /// Fails if the store does not answer.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError>;

    /// Checks that the store answers.
    ///
    /// # Errors
    /// Fails if it does not.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Returns for how long a save or deletion without an answer may still take effect after the store has answered
    /// again, for example because a lock holds it in the server. Until then, a load that finds the old record does not
    /// prove that the call failed.
    ///
    /// # Limits
    /// 10 s by default. Return a shorter bound if the store has one; zero if nothing continues after a call.
    fn settles_within(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Returns whether another process has written to the store since the last call.
    ///
    /// Only a store that is meant for one process, and can detect others, needs to implement this. The registry then
    /// reloads every followed instance.
    ///
    /// # Errors
    /// Fails if the store does not answer.
    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Writes acknowledged records that are not durable yet, before the process ends.
    ///
    /// Only stores that deliberately break point 4 of the contract, or that keep a log beside their data, need this.
    ///
    /// # Errors
    /// Fails if not all of them could be written. The caller retries.
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
    /// Checks the size of `data`. Every store begins `save` with this, so that a state that fits into one store fits into
    /// all of them.
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

/// Proof that an event was applied to a key: 128 bits of SHA-256 over key, event, event id and sender.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    digest: [u8; 16],
    is_internal: bool,
}

impl Receipt {
    /// Creates the receipt of a caller's event id.
    #[must_use]
    pub fn new(key: &Key, event: &str, id: &EventId) -> Self {
        Self::of(key, event, id, &[])
    }

    /// Creates the receipt of this viewer's event id, so that the same id from another session is another event.
    ///
    /// The session is left out for an instance that a session or a user owns, which has no other senders, and for a
    /// client that has not returned its cookie yet, which cannot be distinguished from other new clients.
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
        Self { digest, is_internal: false }
    }

    /// Creates a random receipt, with which the engine learns the outcome of its own saves.
    #[must_use]
    pub fn internal() -> Self {
        Self { digest: rand::random(), is_internal: true }
    }

    /// Returns the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.digest
    }

    /// Returns whether the engine created it. A store whose outcomes are never unknown need not keep such a receipt.
    #[must_use]
    pub const fn is_internal(&self) -> bool {
        self.is_internal
    }

    /// Returns how long a store keeps it: 10 minutes, or 1 minute if it is internal.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        if self.is_internal { Duration::from_secs(60) } else { RECEIPT_KEPT }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({:032x})", u128::from_be_bytes(self.digest))
    }
}

/// The reason for which a call of a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store does not answer. This is temporary; the outcome of a save is unknown.
    #[error("the store does not answer")]
    Unavailable(#[source] BoxError),
    /// The store has no room for another record or receipt. Nothing changed; a retry succeeds once there is room.
    #[error("the store is full")]
    Full(#[source] BoxError),
    /// The store refuses this key or record. This is permanent; nothing changed.
    #[error("the store refuses this: {0}")]
    Refused(#[source] BoxError),
    /// The stored record cannot be read. This is permanent until the record is repaired.
    #[error("what is stored under {key} cannot be read")]
    Corrupt {
        /// The record's key.
        key: Key,
        /// The reason.
        #[source]
        source: BoxError,
    },
}

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
