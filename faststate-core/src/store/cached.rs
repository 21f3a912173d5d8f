//! A cache in one store for the records of another.

mod entry;

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use self::entry::{CachedCopy, Claims};
use super::{
    CircuitBreaker, CircuitOpen, DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome,
    Store, StoreError, error::Unclaimed,
};
use crate::{Key, Version};

/// The time limit of a call of the fast store. After it, a call of the durable store is better.
const FAST_TIMEOUT: Duration = Duration::from_millis(500);
/// The lifetime of a claim that is not released: longer than any call can be in flight.
const CLAIM_LEASE: Duration = Duration::from_secs(30);
/// The maximum number of attempts to add or remove a claim while other writers claim the same key.
const MAX_CLAIM_ATTEMPTS: usize = 32;
/// The default of [`Cached::max_age`].
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(60);

/// A store that loads records from `Fast` if it can, and keeps the contract of [`Store`] with `Durable`.
///
/// # Contract
/// Reads are never wrong, whatever fails between the two stores. A cached record is valid only while no process that
/// shares both stores is changing its key. A change therefore replaces the cached record in `Fast` by a claim; then
/// `Durable` decides; then the new record replaces the claim, unless another process has claimed the key in the
/// meantime. A read that misses claims the key, loads from `Durable` and fills `Fast` in the same way, so that a slow
/// read never overwrites a newer record. The claim of a change with an unknown outcome, or of a process that died,
/// expires after 30 s.
///
/// - `Durable` alone decides about conflicts, receipts, due times and expiry. A load with a receipt calls only `Durable`.
/// - A record with unfinished messages is not cached.
/// - Every process must write to `Durable` through a `Cached` over the same `Fast`.
/// - `Fast` may lose any entry at any time, but it must not restore old entries. A Redis that restarts with an old
///   snapshot does; its old records are then loaded for up to [`max_age`](Self::max_age).
///
/// # Errors
/// A load needs one of the two stores, and calls `Durable` if `Fast` does not answer. A change needs both: without a
/// claim, other processes could still load the cached record after the change, and an error is better than an old
/// record.
#[derive(Debug)]
pub struct Cached<Fast, Durable> {
    fast: CircuitBreaker<Fast>,
    durable: Durable,
    max_age: Duration,
}

/// A claim that is in the fast store.
struct Claimed {
    claims: Claims,
    /// When the claim was requested.
    since: Instant,
}

impl<Fast: Store, Durable: Store> Cached<Fast, Durable> {
    /// Creates a store that caches the records of `durable` in `fast`.
    #[must_use]
    pub fn new(fast: Fast, durable: Durable) -> Self {
        let fast = CircuitBreaker::new(fast).deadline(FAST_TIMEOUT);
        Self { fast, durable, max_age: DEFAULT_MAX_AGE }
    }

    /// Sets the time for which a record is loaded from `Fast` before it is loaded from `Durable` again (60 s by
    /// default).
    #[must_use]
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Loads from the durable store, and caches a copy unless the key is changed in the meantime.
    async fn fill(&self, key: &Key) -> Result<Loaded, StoreError> {
        let (claims, since) = (Claims::none().join(), Instant::now());
        let claimed = self.fast.save(key, &claims.record(), Precondition::Absent, None).await;
        let loaded = self.durable.load(key, None).await;
        if matches!(claimed, Ok(SaveOutcome::Saved)) {
            let stored = loaded.as_ref().ok().and_then(|loaded| loaded.record.as_ref());
            self.release(key, &Claimed { claims, since }, stored).await;
        }
        loaded
    }

    /// Claims a key, changes its record in the durable store, and releases the claim.
    ///
    /// `expect` is the probable content of the fast store; a wrong one costs two more calls. `stored` returns the
    /// record that the change left in the durable store, if the outcome determines it.
    async fn change<'a, T>(
        &self,
        key: &Key,
        expect: Precondition,
        change: impl Future<Output = Result<T, StoreError>>,
        stored: impl FnOnce(&T) -> Option<&'a Record>,
    ) -> Result<T, StoreError> {
        let claimed = self.claim(key, expect).await?;
        let changed = match timeout(CLAIM_LEASE / 3, change).await {
            // The change may still take effect, so the claim stays.
            Err(late) => return Err(StoreError::Unavailable(late.into())),
            Ok(Err(error @ StoreError::Unavailable(_))) => return Err(error),
            Ok(changed) => changed,
        };
        self.release(key, &claimed, changed.as_ref().ok().and_then(stored)).await;
        changed
    }

    /// Adds a claim to those of other writers of the key, which removes the cached record.
    async fn claim(&self, key: &Key, mut expect: Precondition) -> Result<Claimed, StoreError> {
        let since = Instant::now();
        let mut others = Claims::none();
        for _ in 0..MAX_CLAIM_ATTEMPTS {
            let claims = others.join();
            let claimed = self.fast.save(key, &claims.record(), expect, None).await.map_err(unclaimed)?;
            if claimed == SaveOutcome::Saved {
                return Ok(Claimed { claims, since });
            }
            (expect, others) = match self.fast.load(key, None).await.map_err(unclaimed)?.record {
                None => (Precondition::Absent, Claims::none()),
                Some(found) => {
                    (Precondition::Version(found.version), Claims::read(&found).unwrap_or_else(Claims::none))
                }
            };
        }
        Err(unclaimed(StoreError::Unavailable("too many writers change the same key at once".into())))
    }

    /// Releases a claim, and caches `stored` unless another process has claimed the key. If this fails, the claim
    /// stays until its lease ends, which is safe.
    async fn release(&self, key: &Key, claimed: &Claimed, stored: Option<&Record>) {
        let Claimed { claims, since } = claimed;
        let stored = stored.filter(|_| claims.is_alone());
        let released = match stored.and_then(|record| CachedCopy::write(record, *since, self.max_age)) {
            Some(copy) => {
                let saved = self.fast.save(key, &copy, Precondition::Version(claims.version()), None).await;
                saved.map(|outcome| outcome == SaveOutcome::Saved)
            }
            None if claims.is_alone() => self.fast.delete(key, claims.version()).await,
            None => Ok(false),
        };
        if matches!(released, Ok(false)) {
            self.release_among_others(key, claims).await;
        }
    }

    /// Releases a claim of a key that other processes have claimed as well.
    async fn release_among_others(&self, key: &Key, claims: &Claims) {
        for _ in 0..MAX_CLAIM_ATTEMPTS {
            let Ok(Loaded { record: Some(found), .. }) = self.fast.load(key, None).await else { return };
            let released = match Claims::read(&found).and_then(|present| present.without(claims)) {
                Some(others) => {
                    let expect = Precondition::Version(found.version);
                    let saved = self.fast.save(key, &others.record(), expect, None).await;
                    saved.map(|outcome| outcome == SaveOutcome::Saved)
                }
                // No claim remains, or the fast store lost the claim and the present entry may be old.
                None => self.fast.delete(key, found.version).await,
            };
            if !matches!(released, Ok(false)) {
                return;
            }
        }
    }
}

/// Marks an error of the fast store, so that the engine knows that the durable store was not called.
fn unclaimed(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(error) if !error.is::<CircuitOpen>() => {
            StoreError::Unavailable(Unclaimed(error).into())
        }
        error => error,
    }
}

#[async_trait]
impl<Fast: Store, Durable: Store> Store for Cached<Fast, Durable> {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        if receipt.is_some() {
            return self.durable.load(key, receipt).await;
        }
        match self.fast.load(key, None).await.map(|loaded| loaded.record) {
            Ok(Some(found)) => match CachedCopy::read(&found) {
                Some(record) => Ok(Loaded { record: Some(record), receipt: None }),
                None => self.durable.load(key, None).await,
            },
            Ok(None) => self.fill(key).await,
            Err(_) => self.durable.load(key, None).await,
        }
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let save = self.durable.save(key, record, expect, receipt);
        self.change(key, expect, save, |outcome| (*outcome == SaveOutcome::Saved).then_some(record)).await
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.durable.refuse(key, receipt, answer).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.durable.release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.durable.due(limit).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        self.durable.pending(limit).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.change(key, Precondition::Version(version), self.durable.delete(key, version), |_| None).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.change(key, Precondition::Absent, self.durable.touch(key, ttl), |_| None).await
    }

    /// Sweeps both stores; returns how many entries the durable one removed.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let (fast, durable) = tokio::join!(self.fast.sweep(limit), self.durable.sweep(limit));
        if let Err(error) = fast {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the fast store of a cache could not be swept"
            );
        }
        durable
    }

    async fn ping(&self) -> Result<(), StoreError> {
        tokio::try_join!(self.fast.ping(), self.durable.ping())?;
        Ok(())
    }

    fn settles_within(&self) -> Duration {
        self.durable.settles_within()
    }

    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        self.durable.is_written_elsewhere().await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.durable.flush().await
    }
}
