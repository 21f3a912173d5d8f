//! A store that is asked only while it answers.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{Expect, Loaded, Receipt, Record, Saving, Store, StoreError};
use crate::{Key, Version};

/// How many failures in a row make it rest.
const FAILURES: u32 = 3;
/// The first and the longest pause before it is asked whether it answers again; each is up to half as
/// long again, at random, so that many nodes do not come back at once.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(800));

/// Wraps a store: each call has one deadline (2 s, settable), and after 3 calls in a row without an
/// answer the store rests: calls fail at once with [`StoreError::Unavailable`], whose source is
/// [`Resting`]. A ping asks after 100 ms, then less and less often up to about once a second, whether it
/// answers again; then all goes on (law 13).
///
/// Any answer counts, a refusal too. The registry wraps each of its stores in one, with its own deadline.
pub struct Guarded<S: ?Sized> {
    store: Arc<S>,
    deadline: Duration,
    circuit: Arc<Circuit>,
}

/// The store is not asked at the moment, because it gave no answer several times in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has failed several times in a row and is not asked until it answers a ping; try again soon")]
#[non_exhaustive]
pub struct Resting;

#[derive(Default)]
struct Circuit {
    state: Mutex<State>,
    /// The state's, for those who only look.
    resting: AtomicBool,
    /// Tells each new life.
    lives: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// How often it has come back: what was asked before says nothing about it now.
    life: u64,
    failures: u32,
    resting: bool,
}

impl<S: ?Sized> Guarded<S> {
    /// Whether calls fail at once at the moment.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.circuit.resting.load(Ordering::Relaxed)
    }

    /// Changes whenever the store answers again after a rest.
    pub(crate) fn returns(&self) -> watch::Receiver<u64> {
        self.circuit.lives.subscribe()
    }
}

impl<S: Store> Guarded<S> {
    /// Guards `store`.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self::shared(Arc::new(store))
    }
}

impl<S: Store + ?Sized> Guarded<S> {
    pub(crate) fn shared(store: Arc<S>) -> Self {
        Self { store, deadline: Duration::from_secs(2), circuit: Arc::default() }
    }

    /// How long a call may take (2 s).
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let life = {
            let state = self.circuit.state.lock();
            if state.resting {
                return Err(StoreError::Unavailable(Resting.into()));
            }
            state.life
        };
        let mut watch = Watch { guarded: self, life, asked: Instant::now(), answered: false };
        let answer = match timeout(self.deadline, call).await {
            Ok(answer) => answer,
            Err(late) => Err(StoreError::Unavailable(late.into())),
        };
        watch.answered = true;
        match &answer {
            Err(error @ StoreError::Unavailable(_)) => self.failed(life, error),
            _ => self.answered(life),
        }
        answer
    }

    fn answered(&self, life: u64) {
        let mut state = self.circuit.state.lock();
        if state.life == life {
            state.failures = 0;
        }
    }

    fn failed(&self, life: u64, error: &(dyn std::error::Error + 'static)) {
        let mut state = self.circuit.state.lock();
        if state.life != life || state.resting {
            return;
        }
        state.failures += 1;
        // Without a runtime, at its end, nobody could wake it.
        let Ok(runtime) = Handle::try_current() else { return };
        if state.failures < FAILURES {
            return;
        }
        state.resting = true;
        self.circuit.resting.store(true, Ordering::Relaxed);
        drop(state);
        tracing::warn!(store = ?self.store, error, "a store rests until it answers again");
        runtime.spawn(probe(Arc::downgrade(&self.store), Arc::downgrade(&self.circuit), self.deadline));
    }
}

/// Asks until there is an answer, or nobody wants it any more.
async fn probe<S: Store + ?Sized>(store: Weak<S>, circuit: Weak<Circuit>, deadline: Duration) {
    let (mut pause, longest) = PAUSES;
    loop {
        sleep(pause.mul_f64(1.0 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(longest);
        let (Some(store), Some(circuit)) = (store.upgrade(), circuit.upgrade()) else { return };
        // Not for the whole deadline: it may have come back right after it was asked.
        if matches!(timeout(deadline / 2, store.ping()).await, Ok(Ok(()))) {
            let mut state = circuit.state.lock();
            *state = State { life: state.life + 1, ..State::default() };
            circuit.resting.store(false, Ordering::Relaxed);
            let life = state.life;
            drop(state);
            circuit.lives.send_replace(life);
            tracing::info!(?store, "a store answers again");
            return;
        }
    }
}

/// A caller with a deadline of its own drops the call: that tells something too, if it has waited long.
struct Watch<'a, S: Store + ?Sized> {
    guarded: &'a Guarded<S>,
    life: u64,
    asked: Instant,
    answered: bool,
}

impl<S: Store + ?Sized> Drop for Watch<'_, S> {
    fn drop(&mut self) {
        if !self.answered && self.asked.elapsed() >= self.guarded.deadline / 2 {
            self.guarded.failed(self.life, &Abandoned);
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("its caller gave up waiting")]
struct Abandoned;

#[async_trait]
impl<S: Store + ?Sized> Store for Guarded<S> {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.call(self.store.load(key, receipt)).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Expect,
        receipt: Option<&Receipt>,
    ) -> Result<Saving, StoreError> {
        self.call(self.store.save(key, record, expect, receipt)).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.call(self.store.delete(key, version)).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.call(self.store.touch(key, ttl)).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.call(self.store.sweep(limit)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.call(self.store.ping()).await
    }

    /// As the store does it: without a deadline, and rest or no rest.
    async fn flush(&self) -> Result<(), StoreError> {
        self.store.flush().await
    }
}

impl<S: fmt::Debug + ?Sized> fmt::Debug for Guarded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("store", &&*self.store)
            .field("resting", &self.is_resting())
            .finish_non_exhaustive()
    }
}
