//! A store that fails on demand.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    future::{Future, pending},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Key, Store, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

/// A fault of a store call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreFault {
    /// The call succeeds.
    #[default]
    None,
    /// The call is delayed by this time.
    Slow(Duration),
    /// Calls run one at a time, each for this time. A call keeps its place in the queue when its caller gives up.
    Queue(Duration),
    /// The call has no effect and never returns.
    Hang,
    /// The call takes effect and never returns.
    HangAfter,
    /// The call never returns, and a save takes effect after this time, as if it had waited for a lock.
    Late(Duration),
    /// The call fails without effect.
    Fail,
    /// The call takes effect and then fails, so the caller does not know the outcome.
    FailAfter,
    /// A save returns a conflict without effect; other calls succeed.
    Conflict,
    /// A save fails because the store is full; other calls succeed.
    Full,
}

/// Wraps a store and injects faults into all later calls or into the next saves.
///
/// The wrapper keeps the receipts of internal events itself. A store whose outcomes are never unknown need not keep them,
/// but the injected faults make outcomes unknown.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Arc<Mutex<Faults>>,
    loads: AtomicUsize,
    saves: AtomicUsize,
}

#[derive(Default)]
struct Faults {
    always: StoreFault,
    deletes: StoreFault,
    saves: VecDeque<StoreFault>,
    internal_receipts: HashSet<[u8; 16]>,
    /// The time at which the queue is empty.
    free: Option<Instant>,
}

impl FaultyStore {
    /// Wraps `inner` without a fault.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        let (loads, saves) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { inner, faults: Arc::default(), loads, saves })
    }

    /// Sets the fault of every later call.
    pub fn set(&self, fault: StoreFault) {
        self.faults.lock().always = fault;
    }

    /// Queues one fault for each of the next saves. Loads and later saves have the fault of [`set`](Self::set).
    pub fn next_saves(&self, faults: impl IntoIterator<Item = StoreFault>) {
        self.faults.lock().saves.extend(faults);
    }

    /// Sets the fault of every later delete, unless [`set`](Self::set) has set one.
    pub fn set_deletes(&self, fault: StoreFault) {
        self.faults.lock().deletes = fault;
    }

    /// Returns whether faults of [`next_saves`](Self::next_saves) are left.
    #[must_use]
    pub fn next_is_faulty(&self) -> bool {
        !self.faults.lock().saves.is_empty()
    }

    /// The number of calls of `load`.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// The number of calls of `save`.
    #[must_use]
    pub fn saves(&self) -> usize {
        self.saves.load(Ordering::SeqCst)
    }

    fn fault(&self) -> StoreFault {
        self.faults.lock().always
    }

    fn fault_of_save(&self) -> StoreFault {
        let mut faults = self.faults.lock();
        faults.saves.pop_front().unwrap_or(faults.always)
    }

    /// Enqueues a call that takes `each`. Returns the time at which it completes.
    fn enqueue(&self, each: Duration) -> Instant {
        let mut faults = self.faults.lock();
        let now = Instant::now();
        let free = faults.free.map_or(now, |free| free.max(now)) + each;
        faults.free = Some(free);
        free
    }

    async fn with<T: Send>(
        &self,
        fault: StoreFault,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match fault {
            StoreFault::None | StoreFault::Conflict | StoreFault::Full => call.await,
            StoreFault::Slow(delay) => {
                sleep(delay).await;
                call.await
            }
            StoreFault::Queue(each) => {
                sleep_until(self.enqueue(each)).await;
                call.await
            }
            StoreFault::Hang | StoreFault::Late(_) => pending().await,
            StoreFault::HangAfter => {
                call.await?;
                pending().await
            }
            StoreFault::Fail => Err(StoreError::Unavailable("a fault before the call".into())),
            StoreFault::FailAfter => {
                call.await?;
                Err(StoreError::Unavailable("a fault after the call".into()))
            }
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let mut loaded = self.with(self.fault(), self.inner.load(key, receipt)).await?;
        if receipt.is_some_and(|receipt| self.faults.lock().internal_receipts.contains(receipt.as_bytes())) {
            loaded.receipt.get_or_insert_default();
        }
        Ok(loaded)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        self.saves.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault_of_save();
        if fault == StoreFault::Conflict {
            return Ok(SaveOutcome::Conflict);
        }
        if fault == StoreFault::Full {
            return Err(StoreError::Full("a fault".into()));
        }
        if receipt.is_some_and(|receipt| self.faults.lock().internal_receipts.contains(receipt.as_bytes())) {
            return self.with(fault, async { Ok(SaveOutcome::Duplicate) }).await;
        }
        let (inner, faults) = (Arc::clone(&self.inner), Arc::clone(&self.faults));
        let (key, record, receipt) = (key.clone(), record.clone(), receipt.copied());
        let save = async move {
            let saving = inner.save(&key, &record, expect, receipt.as_ref()).await?;
            if let (SaveOutcome::Saved, Some(receipt)) = (saving, receipt.filter(Receipt::is_internal)) {
                faults.lock().internal_receipts.insert(*receipt.as_bytes());
            }
            Ok(saving)
        };
        if let StoreFault::Late(delay) = fault {
            tokio::spawn(async move {
                sleep(delay).await;
                save.await
            });
            return pending().await;
        }
        self.with(fault, save).await
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.with(self.fault(), self.inner.refuse(key, receipt, answer)).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.with(self.fault(), self.inner.release(receipts)).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.with(self.fault(), self.inner.due(limit)).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        self.with(self.fault(), self.inner.pending(limit)).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let fault = {
            let faults = self.faults.lock();
            if faults.always == StoreFault::None { faults.deletes } else { faults.always }
        };
        self.with(fault, self.inner.delete(key, version)).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.with(self.fault(), self.inner.touch(key, ttl)).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.with(self.fault(), self.inner.sweep(limit)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.with(self.fault(), self.inner.ping()).await
    }

    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        self.with(self.fault(), self.inner.is_written_elsewhere()).await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.with(self.fault(), self.inner.flush()).await
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore")
            .field("inner", &self.inner)
            .field("fault", &self.fault())
            .finish_non_exhaustive()
    }
}
