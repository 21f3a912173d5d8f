//! A node's connection to the store, at which a test intervenes in the steps of a message.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Key, MemoryStore, Store, Version,
    store::{DueKeys, Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::{Overridden, StoreOverride};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

/// A step of a message at which a test intervenes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The sender saves the message.
    Send,
    /// The target saves its answer, an acceptance or a rejection.
    Answer,
    /// The sender saves the acknowledgement.
    Acknowledge,
    /// The sender saves a claim of its messages.
    Claim,
}

/// What happens at a step.
#[derive(Clone, Debug)]
pub(crate) enum Intervention {
    DieBefore,
    DieAfter,
    /// The call waits for the permission of the test.
    Hold(Arc<Notify>),
    /// The call takes this time and then takes effect.
    Slow(Duration),
    /// The call takes effect, and its answer takes this time.
    SlowAnswer(Duration),
}

/// A node's connection to the store.
#[derive(Debug)]
pub(crate) struct Connection {
    store: Arc<MemoryStore>,
    pub(crate) is_dead: AtomicBool,
    interventions: Mutex<Vec<(Step, Intervention)>>,
    /// The step whose calls fail.
    pub(crate) failing: Mutex<Option<Step>>,
    /// The number of the answers that targets tried to save.
    pub(crate) answers: AtomicUsize,
    pub(crate) is_held: AtomicBool,
}

impl Connection {
    pub(crate) fn new(store: &Arc<MemoryStore>) -> Arc<Overridden<Self>> {
        Arc::new(Overridden(Self {
            store: Arc::clone(store),
            is_dead: AtomicBool::new(false),
            interventions: Mutex::default(),
            failing: Mutex::default(),
            answers: AtomicUsize::new(0),
            is_held: AtomicBool::new(false),
        }))
    }

    /// Plans an intervention for the next call of this step that has none yet.
    pub(crate) fn at(&self, step: Step, intervention: Intervention) {
        self.interventions.lock().push((step, intervention));
    }

    async fn lives(&self) {
        if self.is_dead.load(SeqCst) {
            pending().await
        }
    }

    async fn die(&self) {
        self.is_dead.store(true, SeqCst);
        pending().await
    }

    /// Carries out a call with the intervention of this step.
    async fn step<T>(&self, step: Step, call: impl Future<Output = T>) -> T {
        self.lives().await;
        self.answers.fetch_add(usize::from(step == Step::Answer), SeqCst);
        let intervention = {
            let mut planned = self.interventions.lock();
            let next = planned.iter().position(|(at, _)| *at == step);
            next.map(|next| planned.remove(next).1)
        };
        match intervention {
            None => call.await,
            Some(Intervention::DieBefore) => {
                self.die().await;
                call.await
            }
            Some(Intervention::DieAfter) => {
                call.await;
                self.die().await;
                unreachable!("a dead node gets no answer")
            }
            Some(Intervention::Hold(permission)) => {
                self.is_held.store(true, SeqCst);
                permission.notified().await;
                call.await
            }
            Some(Intervention::Slow(delay)) => {
                sleep(delay).await;
                call.await
            }
            Some(Intervention::SlowAnswer(delay)) => {
                let answer = call.await;
                sleep(delay).await;
                answer
            }
        }
    }
}

#[async_trait]
impl StoreOverride for Connection {
    fn inner(&self) -> &dyn Store {
        &*self.store
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.lives().await;
        self.store.load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let before = self.store.load(key, None).await?.record;
        let before = before.map_or(0, |record| record.pending.waiting);
        let step = match record.pending.waiting {
            _ if receipt.is_some_and(Receipt::is_message) => Step::Answer,
            waiting if waiting > before => Step::Send,
            waiting if waiting < before => Step::Acknowledge,
            _ => Step::Claim,
        };
        if *self.failing.lock() == Some(step) {
            return Err(StoreError::Refused("a fault".into()));
        }
        self.step(step, self.store.save(key, record, expect, receipt)).await
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.step(Step::Answer, self.store.refuse(key, receipt, answer)).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.lives().await;
        self.store.release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.lives().await;
        self.store.due(limit).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.lives().await;
        self.store.delete(key, version).await
    }
}
