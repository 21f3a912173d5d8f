//! Stores: where states are saved.
//!
//! A [`Store`] saves one [`Record`] per key, together with the [`Receipt`]s of the events that made it. Everything that
//! FastState promises across nodes rests on one operation, [`Store::save`], which succeeds only if the stored version
//! still is the expected one. The documentation of [`Store`] contains a whole store.
//!
//! [`CircuitBreaker`], [`Cached`] and [`WriteBehind`] wrap other stores. [`CallQueue`] combines the concurrent calls of
//! a store over a server.

mod cached;
mod circuit_breaker;
mod error;
mod memory;
mod pending;
mod queue;
mod receipt;
mod record;
mod write_behind;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::{
    cached::Cached,
    error::StoreError,
    memory::MemoryStore,
    pending::{DueKeys, MAX_PENDING_BYTES, PendingMessages, PendingSummary},
    receipt::{MESSAGE_RECEIPT_KEPT, RECEIPT_KEPT, Receipt},
    record::{Loaded, MAX_RECORD_BYTES, Precondition, Record, SaveOutcome},
};
// For the registry, and for the stores of this workspace.
#[doc(hidden)]
pub use self::{
    circuit_breaker::CircuitBreaker,
    error::CircuitOpen,
    queue::{BatchedCall, CallQueue, QueueLimits},
    write_behind::WriteBehind,
};
use crate::{Key, Version};

/// Saves records, at most one per key, and the receipts of the events that made them.
///
/// # Contract
/// 1. Of any number of concurrent saves of one key that expect the same version and write a different one, exactly
///    one succeeds (law 2).
/// 2. A record, its pending messages, its due time and its receipt are saved together or not at all (laws 3 and 16). A
///    save may keep the version and the data, and add only its receipt or change only its due time.
/// 3. A save whose receipt already exists changes nothing and returns [`SaveOutcome::Duplicate`], whatever version it
///    expects.
/// 4. A save that a durable store has acknowledged survives `kill -9` (law 1).
/// 5. A record ceases to exist when its time to live has passed by the store's clock: `load` does not return it,
///    `touch` does not revive it, and a save that expects it is a conflict.
/// 6. Different keys are different records, byte for byte (law 11).
/// 7. A receipt outlives its record: after the record was deleted or has expired, a repeat is still a duplicate.
/// 8. Of a save and a refusal with the same receipt, in any number, the first one takes effect and the others change
///    nothing.
/// 9. The receipt of a message is kept for [`MESSAGE_RECEIPT_KEPT`], or for [`RECEIPT_KEPT`] after its release.
/// 10. A record is due when its due time has come by the store's clock, whatever the nodes' clocks show (law 16).
///
/// The suite `conformance::store` checks all points except 4.
///
/// # Errors
/// A call may take up to 2 s and must then fail. After an error of `save` the outcome is unknown, so the engine loads
/// again with the receipt.
///
/// # Cancellation
/// A dropped future leaves the old record or the new one, never a mixture.
///
/// # For implementers
/// - Begin `save` with [`Record::check_size`], so that a state that fits into one store fits into all of them.
/// - Check the receipt first, then the version, and write both in the same atomic step: a transaction, a script, or a
///   lock.
/// - Measure lifetimes with the store's clock. The nodes' clocks may differ.
/// - Return [`StoreError::Unavailable`] only if the outcome is unknown or a retry may help. Return
///   [`StoreError::Full`] and [`StoreError::Refused`] only if nothing has changed.
/// - If calls need a server, [`CallQueue`] combines concurrent ones into one round trip.
/// - Run `conformance::store::all` in your tests.
///
/// This is a whole store, in memory. The suite checks it, too. For one over a folder of files, see
/// `examples/custom_store` in the repository.
///
/// ```
/// use std::{collections::HashMap, time::{Duration, SystemTime}};
///
/// use bytes::Bytes;
/// use faststate_core::{Key, Version, store::*};
/// use parking_lot::{Mutex, MutexGuard};
/// use tokio::time::Instant;
///
/// #[derive(Debug, Default)]
/// struct MapStore(Mutex<Data>);
///
/// /// Records, and receipts with their answers, each with the time at which it expires.
/// #[derive(Debug, Default)]
/// struct Data {
///     records: HashMap<Key, (Record, Option<Instant>)>,
///     receipts: HashMap<Receipt, (Bytes, Instant)>,
/// }
///
/// impl MapStore {
///     /// Removes what has expired, so that no call sees it.
///     fn lock(&self) -> MutexGuard<'_, Data> {
///         let (mut data, now) = (self.0.lock(), Instant::now());
///         data.records.retain(|_, (_, end)| end.is_none_or(|end| end > now));
///         data.receipts.retain(|_, (_, end)| *end > now);
///         data
///     }
/// }
///
/// #[async_trait::async_trait]
/// impl Store for MapStore {
///     async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
///         let data = self.lock();
///         let record = data.records.get(key).map(|(record, end)| {
///             let ttl = end.map(|end| end - Instant::now());
///             Record { ttl, ..record.clone() }
///         });
///         let receipt = receipt.and_then(|receipt| data.receipts.get(receipt));
///         let receipt = receipt.map(|(answer, _)| answer.clone());
///         Ok(Loaded { record, receipt })
///     }
///
///     async fn save(
///         &self,
///         key: &Key,
///         record: &Record,
///         expect: Precondition,
///         receipt: Option<&Receipt>,
///     ) -> Result<SaveOutcome, StoreError> {
///         record.check_size()?;
///         let mut data = self.lock();
///         if receipt.is_some_and(|receipt| data.receipts.contains_key(receipt)) {
///             return Ok(SaveOutcome::Duplicate);
///         }
///         let version = data.records.get(key).map(|(record, _)| record.version);
///         if version.map_or(Precondition::Absent, Precondition::Version) != expect {
///             return Ok(SaveOutcome::Conflict);
///         }
///         let end = |lifetime| Instant::now() + lifetime;
///         data.records.insert(key.clone(), (record.clone(), record.ttl.map(end)));
///         let accepted = |receipt: &Receipt| (*receipt, (Bytes::new(), end(receipt.lifetime())));
///         data.receipts.extend(receipt.map(accepted));
///         Ok(SaveOutcome::Saved)
///     }
///
///     async fn refuse(&self, _: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
///         let mut data = self.lock();
///         if data.receipts.contains_key(receipt) {
///             return Ok(false);
///         }
///         data.receipts.insert(*receipt, (answer.clone(), Instant::now() + receipt.lifetime()));
///         Ok(true)
///     }
///
///     async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
///         let mut data = self.lock();
///         for (_, receipt) in receipts {
///             let kept = data.receipts.get_mut(receipt);
///             kept.map(|(_, end)| *end = (*end).min(Instant::now() + RECEIPT_KEPT));
///         }
///         Ok(())
///     }
///
///     async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
///         let (data, now) = (self.lock(), SystemTime::now());
///         let records = data.records.iter().filter_map(|(key, (record, _))| Some((record.due?, key)));
///         let mut due: Vec<_> = records.filter(|(due, _)| *due <= now).collect();
///         due.sort_by_key(|(due, _)| *due);
///         Ok(DueKeys { now, keys: due.into_iter().take(limit).map(|(_, key)| key.clone()).collect() })
///     }
///
///     async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
///         let (data, now) = (self.lock(), SystemTime::now());
///         let records = data.records.iter().map(|(key, (record, _))| (key, &record.pending));
///         let mut found: Vec<_> = records.filter(|(_, pending)| pending.oldest.is_some()).collect();
///         found.sort_by_key(|(_, pending)| pending.oldest);
///         Ok(PendingSummary {
///             waiting: found.iter().map(|(_, pending)| u64::from(pending.waiting)).sum(),
///             parked: found.iter().map(|(_, pending)| u64::from(pending.parked)).sum(),
///             age: found.first().and_then(|(_, pending)| now.duration_since(pending.oldest?).ok()),
///             keys: found.into_iter().take(limit).map(|(key, _)| key.clone()).collect(),
///         })
///     }
///
///     async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
///         let mut data = self.lock();
///         let matches = data.records.get(key).is_some_and(|(record, _)| record.version == version);
///         Ok(matches && data.records.remove(key).is_some())
///     }
///
///     async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
///         let mut data = self.lock();
///         let record = data.records.get_mut(key);
///         Ok(record.map(|(_, end)| *end = Some(Instant::now() + ttl)).is_some())
///     }
///
///     async fn sweep(&self, _limit: usize) -> Result<usize, StoreError> {
///         Ok(0) // Every call removes what has expired.
///     }
///
///     async fn ping(&self) -> Result<(), StoreError> {
///         Ok(())
///     }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// #     let store: std::sync::Arc<dyn Store> = std::sync::Arc::new(MapStore::default());
/// #     faststate_testkit::suites::store::all(&store, &store).await.unwrap();
/// # }
/// ```
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

    /// Saves the receipt of a message that its target refused, together with the answer for the sender. Returns false,
    /// and changes nothing, if the receipt exists. The key's record does not change, and need not exist.
    ///
    /// # Limits
    /// `answer` is not empty and has at most 4 KiB.
    ///
    /// # Errors
    /// Fails if the store does not answer (the outcome is then unknown) or is full. A full store changes nothing.
    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError>;

    /// Shortens the remaining lifetime of these messages' receipts, each with the key of its target, to
    /// [`RECEIPT_KEPT`]. A receipt that does not exist is ignored, and no lifetime becomes longer.
    ///
    /// # Errors
    /// Fails if the store does not answer. Any part of the receipts may then have been released.
    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError>;

    /// Returns the keys of at most `limit` records whose due time has come, earliest first, and the time of the store's
    /// clock.
    ///
    /// # Errors
    /// Fails if the store does not answer.
    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError>;

    /// Counts the unfinished messages of all records, and returns the keys of at most `limit` of these records, those
    /// with the oldest message first.
    ///
    /// # Errors
    /// Fails if the store does not answer.
    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError>;

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

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        (**self).refuse(key, receipt, answer).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        (**self).release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        (**self).due(limit).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        (**self).pending(limit).await
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
