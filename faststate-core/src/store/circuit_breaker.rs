//! A circuit breaker around a store.

mod circuit;

mod room;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use self::{
    circuit::{Admission, Circuit, Opened},
    room::Room,
};
use super::{Loaded, Precondition, Receipt, Record, SaveOutcome, Store, StoreError};
use crate::{Key, Version};

/// Wraps a store: each call has one deadline (2 s, settable), and after 3 calls in a row without an
/// answer the store rests: calls fail at once with [`StoreError::Unavailable`], whose source is
/// [`CircuitOpen`] (law 13).
///
/// Calls that read are counted apart from calls that write, as a store may still answer one kind: a full
/// disk or a server that became read-only still answers loads. Any answer counts, a refusal too, and a call
/// that failed while the store answered others of its kind does not count as a failure.
///
/// A resting store is pinged after 100 ms, then less and less often up to about once a second. Once it
/// answers, up to 3 calls at a time are let through to try it, and the others still fail at once. The first
/// answer ends the rest; the first failure prolongs it, and the pauses keep their length.
///
/// A ping also fails for 30 s after a save that found the store full, unless a later save succeeds. The registry
/// wraps each of its stores in one, with its own deadline.
pub struct CircuitBreaker<S: ?Sized> {
    store: Arc<S>,
    deadline: Duration,
    loads: Arc<Circuit>,
    saves: Arc<Circuit>,
    room: Room,
}

/// The store is not asked at the moment, because it gave no answer several times in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has failed several times in a row and is not asked until it answers a ping; try again soon")]
#[non_exhaustive]
pub struct CircuitOpen;

impl<S: ?Sized> CircuitBreaker<S> {
    /// Whether loads fail at once at the moment, except for a few that try the store.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.loads.is_resting()
    }

    /// Whether saves, deletes and touches fail at once at the moment, except for a few that try the store.
    #[must_use]
    pub fn is_save_resting(&self) -> bool {
        self.saves.is_resting()
    }

    /// Whether every load fails at once at the moment.
    pub(crate) fn refuses_loads(&self) -> bool {
        self.loads.is_open()
    }

    /// Waits until a save may try the store.
    pub(crate) async fn until_saves_are_tried(&self) {
        let mut returns = self.saves.returns();
        while self.saves.is_open() && returns.changed().await.is_ok() {}
    }

    /// Changes whenever a few loads may try the store after a rest.
    pub(crate) fn returns(&self) -> watch::Receiver<u64> {
        self.loads.returns()
    }
}

impl<S: Store> CircuitBreaker<S> {
    /// Guards `store`.
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
            deadline: Duration::from_secs(2),
            loads: circuit("loads"),
            saves: circuit("saves"),
            room: Room::default(),
        }
    }

    /// How long a call may take (2 s).
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes a call that `circuit` counts.
    async fn call<T>(
        &self,
        circuit: &Arc<Circuit>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(admission) = circuit.admit() else { return Err(resting()) };
        let mut pending =
            Pending { guarded: self, circuit, admission, began: Instant::now(), has_ended: false };
        let answer = self.in_time(call).await;
        pending.has_ended = true;
        match &answer {
            Err(error @ StoreError::Unavailable(_)) => self.failed(circuit, &pending.admission, error),
            _ => circuit.answered(&pending.admission),
        }
        answer
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match timeout(self.deadline, call).await {
            Ok(answer) => answer,
            Err(late) => Err(StoreError::Unavailable(late.into())),
        }
    }

    fn failed(
        &self,
        circuit: &Arc<Circuit>,
        admission: &Admission,
        error: &(dyn std::error::Error + 'static),
    ) {
        // Without a runtime, at its end, no task could close the circuit again.
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(opened) = circuit.failed(admission) else { return };
        // Once per outage.
        if opened == Opened::First {
            tracing::warn!(store = ?self.store, calls = circuit.calls, error, "a store rests until it answers");
        }
        runtime.spawn(probe(Arc::downgrade(&self.store), Arc::downgrade(circuit), self.deadline));
    }
}

fn resting() -> StoreError {
    StoreError::Unavailable(CircuitOpen.into())
}

/// Pings the store until it answers, and then lets trial calls through.
async fn probe<S: Store + ?Sized>(store: Weak<S>, circuit: Weak<Circuit>, deadline: Duration) {
    loop {
        let Some(pause) = circuit.upgrade().map(|circuit| circuit.next_pause()) else { return };
        sleep(pause).await;
        let (Some(store), Some(circuit)) = (store.upgrade(), circuit.upgrade()) else { return };
        // Not for the whole deadline: it may have come back right after it was asked.
        if matches!(timeout(deadline / 2, store.ping()).await, Ok(Ok(()))) {
            return circuit.half_open();
        }
    }
}

/// A call in flight. A caller with a deadline of its own drops it early; after a long wait that counts as
/// a failure.
struct Pending<'a, S: Store + ?Sized> {
    guarded: &'a CircuitBreaker<S>,
    circuit: &'a Arc<Circuit>,
    admission: Admission,
    began: Instant,
    has_ended: bool,
}

impl<S: Store + ?Sized> Drop for Pending<'_, S> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if self.began.elapsed() >= self.guarded.deadline / 2 {
            self.guarded.failed(self.circuit, &self.admission, &Abandoned);
        } else {
            self.circuit.dropped(&self.admission);
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("its caller gave up waiting")]
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
        self.room.note(&saved);
        saved
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.call(&self.saves, self.store.delete(key, version)).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.call(&self.saves, self.store.touch(key, ttl)).await
    }

    /// Not counted: a sweep that takes long says nothing about saves.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        if self.saves.is_open() {
            return Err(resting());
        }
        self.in_time(self.store.sweep(limit)).await
    }

    /// A store that is not asked to load or to save is not healthy. An answer says nothing about loads, so
    /// only failures are counted.
    async fn ping(&self) -> Result<(), StoreError> {
        if self.saves.is_open() {
            return Err(resting());
        }
        let Some(admission) = self.loads.admit_ping() else { return Err(resting()) };
        let answer = self.in_time(self.store.ping()).await;
        if let Err(error @ StoreError::Unavailable(_)) = &answer {
            self.failed(&self.loads, &admission, error);
        }
        answer?;
        self.room.check()
    }

    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        self.in_time(self.store.is_written_elsewhere()).await
    }

    fn settles_within(&self) -> Duration {
        self.store.settles_within()
    }

    /// As the store does it: without a deadline, and rest or no rest.
    async fn flush(&self) -> Result<(), StoreError> {
        self.store.flush().await
    }
}

impl<S: fmt::Debug + ?Sized> fmt::Debug for CircuitBreaker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("store", &&*self.store)
            .field("resting", &self.is_resting())
            .field("save_resting", &self.is_save_resting())
            .finish_non_exhaustive()
    }
}
