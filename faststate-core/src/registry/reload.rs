//! Background reloads of instances whose state in memory may be older than the store, through one queue per state.

mod limit;

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use rand::seq::SliceRandom as _;
use tokio::time::{Instant, sleep};

pub(super) use self::limit::ReloadLimit;
use self::limit::Slot;
use super::{
    Error,
    instance::Instance,
    states::{DynInstanceTable as _, InstanceTable},
    turn::Command,
};
use crate::{
    ReactiveState,
    store::{CircuitOpen, Loaded, StoreError},
    version::Version,
};

/// The first and the longest pause after a failed reload. Pauses double, and each is shortened by a random part of up to
/// one half. The longest is below the 5 s within which nodes agree with a store that has recovered (law 13).
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// The pause before another reload when a new doubt arose during the last one.
const RENEWED_PAUSE: Duration = Duration::from_millis(10);
/// The pause while the store's circuit breaker is half-open and events use its trial calls.
const TRIAL_PAUSE: Duration = Duration::from_millis(50);

/// The instances of one state that are queued for a reload, each at most once.
pub(super) struct Reloads<S> {
    waiting: VecDeque<Arc<Instance<S>>>,
    /// Whether a task is processing the queue.
    running: bool,
}

/// A record that was loaded outside the instance's turn.
pub(super) struct Found {
    pub(super) loaded: Loaded,
    /// The instance's version when the load began.
    pub(super) before: Option<Version>,
    /// When the load began.
    pub(super) asked: Instant,
}

impl<S> Default for Reloads<S> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: false }
    }
}

impl<S: ReactiveState> InstanceTable<S> {
    /// Reloads the followed instances, in random order, because the store may be ahead of this node's memory. Other
    /// instances are confirmed when they are used.
    pub(super) fn reload_followed(&self) {
        let loaded = self.instances.iter().map(|entry| Arc::clone(entry.value()));
        self.reload_all(loaded.filter(|instance| instance.followers() > 0).collect());
    }

    /// Reloads these instances, in random order.
    pub(super) fn reload_all(&self, mut instances: Vec<Arc<Instance<S>>>) {
        instances.shuffle(&mut rand::rng());
        instances.iter().for_each(|instance| self.reload(instance));
    }

    /// Queues an instance for a reload. The reload is skipped if the store confirms the instance first.
    pub(super) fn reload(&self, instance: &Arc<Instance<S>>) {
        {
            let mut upkeep = instance.upkeep.lock();
            upkeep.doubted = Some(Instant::now());
            if std::mem::replace(&mut upkeep.reloading, true) {
                return;
            }
        }
        self.queue_reload(Arc::clone(instance));
    }

    /// Reloads a suspect instance until it is confirmed, if it is followed or other nodes must be notified of its state.
    /// Any other suspect instance is loaded when it is used.
    pub(super) fn clear_up(&self, instance: &Arc<Instance<S>>) {
        // Most instances are not suspect: no other lock is taken for them.
        if !instance.upkeep.lock().suspect || !self.is_concerned(instance) {
            return;
        }
        {
            let mut upkeep = instance.upkeep.lock();
            if !upkeep.suspect || upkeep.is_unreadable() || std::mem::replace(&mut upkeep.reloading, true) {
                return;
            }
        }
        self.queue_reload(Arc::clone(instance));
    }

    fn queue_reload(&self, instance: Arc<Instance<S>>) {
        {
            let mut reloads = self.reloads.lock();
            reloads.waiting.push_back(instance);
            if std::mem::replace(&mut reloads.running, true) {
                return;
            }
        }
        // Not tracked by `settle`, because it may run for as long as the store is unavailable.
        tokio::spawn(run_reloads(Weak::clone(&self.me), Arc::clone(&self.reload_limit)));
    }

    /// Whether an instance is reloaded although no caller waits for it.
    fn is_concerned(&self, instance: &Instance<S>) -> bool {
        instance.followers() > 0 || (self.nodes().is_some() && instance.upkeep.lock().untold)
    }

    /// Loads one instance and queues the result for a turn.
    async fn reload_now(self: Arc<Self>, instance: Arc<Instance<S>>, slot: Slot) {
        // The deadline begins here: neither the queue nor the wait for a slot counts.
        let (asked, deadline) = (Instant::now(), self.deadline());
        let before = instance.current.read().as_ref().map(|current| current.version);
        // Outside the instance's turn, so that no event waits for it.
        let loaded = self.load(&instance.key, None, deadline).await;
        let outcome = match loaded {
            Ok(loaded) => {
                slot.answered();
                let found = Command::Found(Box::new(Found { loaded, before, asked }));
                self.take_turn(&instance, found, self.deadline()).await.map(drop)
            }
            Err(StoreError::Unavailable(error)) => {
                let is_resting = error.is::<CircuitOpen>();
                if is_resting {
                    drop(slot)
                } else {
                    slot.failed()
                }
                self.unanswered(&instance);
                if is_resting {
                    sleep(TRIAL_PAUSE).await;
                    return self.queue_reload(instance);
                }
                Err(Error::Unavailable(StoreError::Unavailable(error)))
            }
            Err(error) => {
                slot.answered();
                Err(self.load_failed(&instance, error))
            }
        };
        self.end_reload(instance, asked, &outcome);
    }

    /// Queues the instance again if it is still in doubt.
    fn end_reload(&self, instance: Arc<Instance<S>>, asked: Instant, outcome: &Result<(), Error>) {
        // The instance does not exist or cannot be decoded, so another reload would not help until it changes.
        let is_final = match outcome {
            Err(Error::Unavailable(error)) => !error.is_temporary(),
            outcome => matches!(outcome, Err(Error::Unknown)),
        };
        let is_concerned = self.is_concerned(&instance);
        let pause = {
            let mut upkeep = instance.upkeep.lock();
            if is_final {
                upkeep.doubted = upkeep.doubted.filter(|doubted| *doubted >= asked);
            } else if let Err(error) = outcome {
                tracing::debug!(key = ?instance.key, %error, "not reloaded");
                upkeep.suspect = true;
            }
            if !is_concerned || (upkeep.doubted.is_none() && (is_final || !upkeep.suspect)) {
                upkeep.end_reloading();
                return;
            }
            // A doubt that arose during a successful load does not need a long pause.
            let is_renewed = outcome.is_ok() && !upkeep.suspect;
            if is_renewed { RENEWED_PAUSE } else { upkeep.next_reload_pause(RETRY_PAUSES) }
        };
        let states = Weak::clone(&self.me);
        tokio::spawn(async move {
            sleep(pause).await;
            if let Some(states) = states.upgrade() {
                states.queue_reload(instance);
            }
        });
    }

    /// The next instance that still needs a reload. With `None`, the task that processes the queue ends.
    fn next_reload(&self) -> Option<Arc<Instance<S>>> {
        loop {
            let instance = {
                let mut reloads = self.reloads.lock();
                let next = reloads.waiting.pop_front();
                reloads.running = next.is_some();
                next?
            };
            let is_concerned = self.is_concerned(&instance);
            let mut upkeep = instance.upkeep.lock();
            if (upkeep.suspect || upkeep.doubted.is_some()) && is_concerned {
                drop(upkeep);
                return Some(instance);
            }
            upkeep.end_reloading();
        }
    }
}

/// Processes the queue, with as many concurrent reloads as the limit allows, and none while the circuit breaker is open.
/// A task that waits keeps neither the registry nor its store alive.
async fn run_reloads<S: ReactiveState>(states: Weak<InstanceTable<S>>, limit: Arc<ReloadLimit>) {
    let Some(mut returns) = states.upgrade().map(|states| states.returns()) else { return };
    loop {
        if let Some(returns) = &mut returns {
            while states.upgrade().is_some_and(|states| states.refuses_loads()) {
                if returns.changed().await.is_err() {
                    return;
                }
            }
        }
        let (Some(slot), Some(states)) = (limit.slot().await, states.upgrade()) else { return };
        let Some(instance) = states.next_reload() else { return };
        let is_trial = states.is_resting();
        let reload = tokio::spawn(states.reload_now(instance, slot));
        if is_trial {
            // One at a time, because events need trial calls as well.
            let _ = reload.await;
        }
    }
}
