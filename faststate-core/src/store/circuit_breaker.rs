//! A circuit breaker around a store.

mod capacity;
mod circuit;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use self::{
    capacity::Capacity,
    circuit::{CallPermit, Circuit, Opened},
};
use super::{
    CircuitOpen, DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome, Store,
    StoreError,
};
use crate::{Key, Version};

/// The default of [`CircuitBreaker::deadline`].
const DEFAULT_DEADLINE: Duration = Duration::from_secs(2);

/// Wraps a store, so that calls fail fast while the store does not answer (law 13).
///
/// Each call has one deadline (2 s by default). After three calls in a row without an answer, the circuit opens: calls
/// fail at once with [`StoreError::Unavailable`], whose source is [`CircuitOpen`].
///
/// Loads have one circuit, and saves, deletions and touches another, because a store may still answer one kind: a full
/// disk or a server that became read-only still answers loads. Every answer counts as a success, even a refusal. A
/// call that failed while the store answered other calls of its kind counts for nothing.
///
/// While a circuit is open, the store is pinged: first after 100 ms, then at growing intervals of up to about one
/// second. Once the store answers a ping, the circuit is half open: up to three trial calls at a time reach the store,
/// and all others still fail at once. The first answer closes the circuit; the first failure opens it again, without
/// shortening the intervals.
///
/// After a save found the store full, [`ping`](Store::ping) fails for 30 s, unless a later save succeeds. The registry
/// wraps each of its stores in a circuit breaker with the registry's deadline.
pub struct CircuitBreaker<S: ?Sized> {
    store: Arc<S>,
    deadline: Duration,
    loads: Arc<Circuit>,
    saves: Arc<Circuit>,
    capacity: Capacity,
}

impl<S: ?Sized> CircuitBreaker<S> {
    /// Returns whether the circuit of loads is open or half open: loads fail at once, except for trial calls.
    #[doc(hidden)]
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.loads.is_resting()
    }

    /// Returns whether the circuit of saves is open or half open: saves, deletions and touches fail at once, except for
    /// trial calls.
    #[doc(hidden)]
    #[must_use]
    pub fn is_save_resting(&self) -> bool {
        self.saves.is_resting()
    }

    /// Returns whether the circuit of loads is open: every load fails at once.
    pub(crate) fn refuses_loads(&self) -> bool {
        self.loads.is_open()
    }

    /// Waits until the circuit of saves is not open, so that a save may reach the store.
    pub(crate) async fn until_saves_are_tried(&self) {
        let mut returns = self.saves.returns();
        while self.saves.is_open() && returns.changed().await.is_ok() {}
    }

    /// Returns a channel that changes whenever the circuit of loads becomes half open.
    pub(crate) fn returns(&self) -> watch::Receiver<u64> {
        self.loads.returns()
    }
}

impl<S: Store> CircuitBreaker<S> {
    /// Creates a circuit breaker around `store`.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self::shared(Arc::new(store))
    }
}

impl<S: Store + ?Sized> CircuitBreaker<S> {
    pub(crate) fn shared(store: Arc<S>) -> Self {
        let circuit = |calls| Arc::new(Circuit::new(calls));
        Self {
            store,
            deadline: DEFAULT_DEADLINE,
            loads: circuit("loads"),
            saves: circuit("saves"),
            capacity: Capacity::default(),
        }
    }

    /// Sets the deadline of each call (2 s by default).
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes a call within the deadline, and counts its outcome in `circuit`.
    async fn call<T>(
        &self,
        circuit: &Arc<Circuit>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(permit) = circuit.admit() else { return Err(circuit_open()) };
        let mut tracked =
            TrackedCall { breaker: self, circuit, permit, began: Instant::now(), has_ended: false };
        let answer = self.in_time(call).await;
        tracked.has_ended = true;
        match &answer {
            Err(error @ StoreError::Unavailable(_)) => self.failed(circuit, &tracked.permit, error),
            _ => circuit.answered(&tracked.permit),
        }
        answer
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match timeout(self.deadline, call).await {
            Ok(answer) => answer,
            Err(late) => Err(StoreError::Unavailable(late.into())),
        }
    }

    fn failed(&self, circuit: &Arc<Circuit>, permit: &CallPermit, error: &(dyn std::error::Error + 'static)) {
        // Without a runtime, no task could close the circuit again.
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(opened) = circuit.failed(permit) else { return };
        // Logged once per outage.
        if opened == Opened::First {
            tracing::warn!(store = ?self.store, calls = circuit.calls, error, "a store is not called until it answers a ping");
        }
        runtime.spawn(probe(Arc::downgrade(&self.store), Arc::downgrade(circuit), self.deadline));
    }
}

fn circuit_open() -> StoreError {
    StoreError::Unavailable(CircuitOpen.into())
}

/// Pings the store until it answers, and then half-opens the circuit.
async fn probe<S: Store + ?Sized>(store: Weak<S>, circuit: Weak<Circuit>, deadline: Duration) {
    loop {
        let Some(pause) = circuit.upgrade().map(|circuit| circuit.next_pause()) else { return };
        sleep(pause).await;
        let (Some(store), Some(circuit)) = (store.upgrade(), circuit.upgrade()) else { return };
        // Half the deadline, because a store that returns right after it was pinged answers only the next ping.
        if matches!(timeout(deadline / 2, store.ping()).await, Ok(Ok(()))) {
            return circuit.half_open();
        }
    }
}

/// A call in flight. A caller with a deadline of its own may drop it; if at least half of the breaker's deadline has
/// passed by then, this counts as a failure.
struct TrackedCall<'a, S: Store + ?Sized> {
    breaker: &'a CircuitBreaker<S>,
    circuit: &'a Arc<Circuit>,
    permit: CallPermit,
    began: Instant,
    has_ended: bool,
}

impl<S: Store + ?Sized> Drop for TrackedCall<'_, S> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if self.began.elapsed() >= self.breaker.deadline / 2 {
            self.breaker.failed(self.circuit, &self.permit, &Abandoned);
        } else {
            self.circuit.dropped(&self.permit);
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the caller dropped the call before the store answered")]
struct Abandoned;

#[async_trait]
impl<S: Store + ?Sized> Store for CircuitBreaker<S> {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.call(&self.loads, self.store.load(key, receipt)).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        let saved = self.call(&self.saves, self.store.save(key, record, expect, receipt)).await;
        self.capacity.record(&saved);
        saved
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.call(&self.saves, self.store.refuse(key, receipt, answer)).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.call(&self.saves, self.store.release(receipts)).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.call(&self.loads, self.store.due(limit)).await
    }

    /// Counts for no circuit, because it may read many records.
    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        if self.loads.is_open() {
            return Err(circuit_open());
        }
        self.in_time(self.store.pending(limit)).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.call(&self.saves, self.store.delete(key, version)).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.call(&self.saves, self.store.touch(key, ttl)).await
    }

    /// Counts for no circuit, because a slow sweep does not show that saves are slow.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        if self.saves.is_open() {
            return Err(circuit_open());
        }
        self.in_time(self.store.sweep(limit)).await
    }

    /// Fails while a circuit is open. Counts only failures, because an answer to a ping does not show that loads work.
    async fn ping(&self) -> Result<(), StoreError> {
        if self.saves.is_open() {
            return Err(circuit_open());
        }
        let Some(permit) = self.loads.admit_ping() else { return Err(circuit_open()) };
        let answer = self.in_time(self.store.ping()).await;
        if let Err(error @ StoreError::Unavailable(_)) = &answer {
            self.failed(&self.loads, &permit, error);
        }
        answer?;
        self.capacity.check()
    }

    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        self.in_time(self.store.is_written_elsewhere()).await
    }

    fn settles_within(&self) -> Duration {
        self.store.settles_within()
    }

    /// Calls the store even if a circuit is open, and without a deadline.
    async fn flush(&self) -> Result<(), StoreError> {
        self.store.flush().await
    }
}

impl<S: fmt::Debug + ?Sized> fmt::Debug for CircuitBreaker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("store", &&*self.store)
            .field("resting", &self.is_resting())
            .field("save_resting", &self.is_save_resting())
            .finish_non_exhaustive()
    }
}
