//! Two stores as one: a fast one that answers, a durable one that keeps promises.

mod entry;

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use self::entry::{Claim, Entry};
use super::{
    CircuitBreaker, CircuitOpen, Loaded, Precondition, Receipt, Record, SaveOutcome, Store, StoreError,
};
use crate::{BoxError, Key, Version};

/// How long the fast store may take: beyond it, asking the durable one is better.
const PATIENCE: Duration = Duration::from_millis(500);
/// The lifetime of a claim that is not released: longer than any call can be in flight.
const LEASE: Duration = Duration::from_secs(30);
/// How often a claim is tried while others claim the same key.
const TRIES: usize = 32;

/// A store that answers reads from `Fast` where it can and keeps its promises with `Durable`.
///
/// # Contract
/// Reads are never wrong, whatever fails between the two stores. A cached record is valid only while no process that
/// shares both stores is changing its key. A change therefore replaces the cached record in `Fast` by a claim; then
/// `Durable` decides; then the new record replaces the claim, unless another process has claimed the key in the
/// meantime. A read that misses claims the key, loads from `Durable` and fills `Fast` in the same way, so that a slow
/// read never overwrites a newer record. The claim of a change with an unknown outcome, or of a process that died,
/// expires after 30 s.
///
/// - Conflicts, receipts and expiry are judged by `Durable` alone: loads with a receipt ask only it.
/// - Every process writes to `Durable` through a `Cached` over the same `Fast`.
/// - `Fast` may forget anything at any time. It must not bring old things back: a Redis that restarts with
///   an old snapshot would, for up to [`max_age`](Self::max_age).
///
/// # Errors
/// Reads need one of the stores, and ask `Durable` where `Fast` does not answer. Changes need both:
/// a claim that cannot be left would leave what is cached to others, and a wrong answer is worse than none.
#[derive(Debug)]
pub struct Cached<Fast, Durable> {
    fast: CircuitBreaker<Fast>,
    durable: Durable,
    max_age: Duration,
}

/// The durable store was not called, because the key could not be claimed: nothing changed.
#[derive(Debug, thiserror::Error)]
#[error("the fast store does not answer, so nothing was changed; try again")]
pub(super) struct Unclaimed(#[source] BoxError);

fn unclaimed(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(error) if !error.is::<CircuitOpen>() => {
            StoreError::Unavailable(Unclaimed(error).into())
        }
        error => error,
    }
}

/// What a change left in the fast store before it happens.
struct Claimed {
    claim: Claim,
    since: Instant,
}

impl<Fast: Store, Durable: Store> Cached<Fast, Durable> {
    /// `fast` in front of `durable`.
    #[must_use]
    pub fn new(fast: Fast, durable: Durable) -> Self {
        let fast = CircuitBreaker::new(fast).deadline(PATIENCE);
        Self { fast, durable, max_age: Duration::from_secs(60) }
    }

    /// How long a record may be answered from `Fast` (60 s) before `Durable` is asked again.
    #[must_use]
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Loads from the durable store, and caches a copy unless the key is changed in the meantime.
    async fn fill(&self, key: &Key) -> Result<Loaded, StoreError> {
        let (claim, since) = (Claim::none().join(), Instant::now());
        let claimed = self.fast.save(key, &claim.record(), Precondition::Absent, None).await;
        let loaded = self.durable.load(key, None).await;
        if matches!(claimed, Ok(SaveOutcome::Saved)) {
            let now = loaded.as_ref().ok().and_then(|loaded| loaded.record.as_ref());
            self.settle(key, &Claimed { claim, since }, now).await;
        }
        loaded
    }

    /// Claims a key and does something to it in the durable store; then says what is in there now, if
    /// that is known.
    async fn change<'a, T>(
        &self,
        key: &Key,
        likely: Precondition,
        change: impl Future<Output = Result<T, StoreError>>,
        now: impl FnOnce(&T) -> Option<&'a Record>,
    ) -> Result<T, StoreError> {
        let claimed = self.claim(key, likely).await?;
        let changed = match timeout(LEASE / 3, change).await {
            // The change may happen yet, and the claim stays.
            Err(late) => return Err(StoreError::Unavailable(late.into())),
            Ok(Err(error @ StoreError::Unavailable(_))) => return Err(error),
            Ok(changed) => changed,
        };
        self.settle(key, &claimed, changed.as_ref().ok().and_then(now)).await;
        changed
    }

    /// Adds a claim to those of other writers of the key, which removes the cached record.
    async fn claim(&self, key: &Key, likely: Precondition) -> Result<Claimed, StoreError> {
        let since = Instant::now();
        let (mut expect, mut others) = (likely, Claim::none());
        for _ in 0..TRIES {
            let claim = others.join();
            let claimed = self.fast.save(key, &claim.record(), expect, None).await.map_err(unclaimed)?;
            if claimed == SaveOutcome::Saved {
                return Ok(Claimed { claim, since });
            }
            (expect, others) = match self.fast.load(key, None).await.map_err(unclaimed)?.record {
                None => (Precondition::Absent, Claim::none()),
                Some(found) => {
                    (Precondition::Version(found.version), Claim::read(&found).unwrap_or_else(Claim::none))
                }
            };
        }
        Err(unclaimed(StoreError::Unavailable("too many change the same key at once".into())))
    }

    /// Releases a claim, and caches the record unless another process has claimed the key. If this fails, the claim
    /// stays until its lease ends, which is safe.
    async fn settle(&self, key: &Key, claimed: &Claimed, now: Option<&Record>) {
        let Claimed { claim, since } = claimed;
        let now = now.filter(|_| claim.is_alone());
        let settled = match now.and_then(|record| Entry::write(record, *since, self.max_age)) {
            Some(copy) => {
                let saving = self.fast.save(key, &copy, Precondition::Version(claim.version()), None).await;
                saving.map(|saving| saving == SaveOutcome::Saved)
            }
            None if claim.is_alone() => self.fast.delete(key, claim.version()).await,
            None => Ok(false),
        };
        if matches!(settled, Ok(false)) {
            self.leave(key, claim).await;
        }
    }

    /// Leaves a claim that is not alone any more.
    async fn leave(&self, key: &Key, claim: &Claim) {
        for _ in 0..TRIES {
            let Ok(Loaded { record: Some(found), .. }) = self.fast.load(key, None).await else { return };
            let left = match Claim::read(&found).and_then(|others| others.without(claim)) {
                Some(others) => {
                    let expect = Precondition::Version(found.version);
                    let saving = self.fast.save(key, &others.record(), expect, None).await;
                    saving.map(|saving| saving == SaveOutcome::Saved)
                }
                // No claim is left, or the fast store lost the claim and the present entry may be old.
                None => self.fast.delete(key, found.version).await,
            };
            if !matches!(left, Ok(false)) {
                return;
            }
        }
    }
}

#[async_trait]
impl<Fast: Store, Durable: Store> Store for Cached<Fast, Durable> {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        if receipt.is_some() {
            return self.durable.load(key, receipt).await;
        }
        match self.fast.load(key, None).await.map(|loaded| loaded.record) {
            Ok(Some(found)) => match Entry::read(&found) {
                Some(record) => Ok(Loaded { record: Some(record), receipt: false }),
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
        self.change(key, expect, save, |saving| (*saving == SaveOutcome::Saved).then_some(record)).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.change(key, Precondition::Version(version), self.durable.delete(key, version), |_| None).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.change(key, Precondition::Absent, self.durable.touch(key, ttl), |_| None).await
    }

    /// Sweeps both, and says how many the durable one removed.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let (fast, durable) = tokio::join!(self.fast.sweep(limit), self.durable.sweep(limit));
        if let Err(error) = fast {
            tracing::warn!(error = &error as &dyn std::error::Error, "the fast store is not swept");
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
