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
use faststate_core::{
    Key, Store, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

/// How a call fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreFault {
    /// It does not.
    #[default]
    None,
    /// It answers after so long.
    Slow(Duration),
    /// It takes one call after the other, each for so long: the others wait in its queue, and a call whose
    /// caller gave up keeps its place.
    Queue(Duration),
    /// It never answers and does nothing.
    Hang,
    /// It does what it should and never answers.
    HangAfter,
    /// It never answers, and a save takes effect after so long, as one that a lock holds.
    Late(Duration),
    /// It fails and does nothing.
    Fail,
    /// It does what it should and then fails: the outcome is unknown to the caller.
    FailAfter,
    /// A save says that there is a conflict, and does nothing; other calls succeed.
    Conflict,
    /// A save finds no room, and does nothing; other calls succeed.
    Full,
}

/// Wraps a store and fails as it is told: for all calls from now on, or for the next few saves.
///
/// Receipts that the engine minted are kept here: a store whose own outcomes are never unknown need not keep them, and
/// here they may be.
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
    minted: HashSet<[u8; 16]>,
    /// When the queue is empty.
    free: Option<Instant>,
}

impl FaultyStore {
    /// A wrapper that does not fail yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        let (loads, saves) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { inner, faults: Arc::default(), loads, saves })
    }

    /// Every call fails like this from now on.
    pub fn set(&self, fault: StoreFault) {
        self.faults.lock().always = fault;
    }

    /// The next saves fail like these, one each; loads and later saves are as [`set`](Self::set) says.
    pub fn next_saves(&self, faults: impl IntoIterator<Item = StoreFault>) {
        self.faults.lock().saves.extend(faults);
    }

    /// Every delete fails like this from now on, where [`set`](Self::set) says nothing else.
    pub fn set_deletes(&self, fault: StoreFault) {
        self.faults.lock().deletes = fault;
    }

    /// Whether [`next_saves`](Self::next_saves) has faults left.
    #[must_use]
    pub fn next_is_faulty(&self) -> bool {
        !self.faults.lock().saves.is_empty()
    }

    /// How often it was asked to load so far.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// How often it was asked to save so far.
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

    /// Joins the queue. Returns when the call's turn ends.
    fn take_place(&self, each: Duration) -> Instant {
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
                sleep_until(self.take_place(each)).await;
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
        loaded.receipt |=
            receipt.is_some_and(|receipt| self.faults.lock().minted.contains(receipt.as_bytes()));
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
        if receipt.is_some_and(|receipt| self.faults.lock().minted.contains(receipt.as_bytes())) {
            return self.with(fault, async { Ok(SaveOutcome::Duplicate) }).await;
        }
        let (inner, faults) = (Arc::clone(&self.inner), Arc::clone(&self.faults));
        let (key, record, receipt) = (key.clone(), record.clone(), receipt.copied());
        let save = async move {
            let saving = inner.save(&key, &record, expect, receipt.as_ref()).await?;
            if let (SaveOutcome::Saved, Some(receipt)) = (saving, receipt.filter(Receipt::is_internal)) {
                faults.lock().minted.insert(*receipt.as_bytes());
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
