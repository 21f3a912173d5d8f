//! Housekeeping: records that are in use live on, instances that are not leave memory.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    instance::Instance,
    state_registry::StateRegistry,
    states::{DynInstanceTable, InstanceTable},
};
use crate::{Key, ReactiveState, Store, store::StoreError};

/// How long an unused instance stays in memory.
const IDLE: Duration = Duration::from_secs(60);
/// The longest time between two looks.
const LOOK: Duration = Duration::from_secs(15);
/// How long what is followed goes without a confirmation of the store.
const VERIFIED: Duration = Duration::from_secs(60);
/// How many records are touched at a time.
const TOUCHES: usize = 32;
/// How many times a store is asked between two sweeps whether another process has written to it.
const PEEKS: u32 = 5;
/// The fewest and the most expired records and receipts that one call of a sweep removes.
const SWEEP_ROWS: (usize, usize) = (100, 10_000);
/// About how long one call of a sweep may take.
const SWEEP_CALL: Duration = Duration::from_millis(100);

/// Keeps one state's instances, for as long as the registry lives. Each state has its own keeper, so that
/// one whose store is dead holds up no other.
pub(super) async fn keep_instances(states: Weak<dyn DynInstanceTable>, ttl: Option<Duration>) {
    let pause = ttl.map_or(LOOK, |ttl| (ttl / 4).clamp(Duration::from_millis(10), LOOK));
    loop {
        tokio::time::sleep(pause).await;
        let Some(states) = states.upgrade() else { return };
        states.upkeep().await;
    }
}

/// Looks again at what is in memory whenever the store answers after a rest: it may have gone back in time.
pub(super) async fn look_again(states: Weak<dyn DynInstanceTable>, mut returns: watch::Receiver<u64>) {
    while returns.changed().await.is_ok() {
        let Some(states) = states.upgrade() else { return };
        states.returned();
    }
}

/// Removes what has expired in one store, and loads again what is followed there when another process has written to it;
/// for as long as the registry lives.
pub(super) async fn keep_store(name: String, registry: Weak<StateRegistry>) {
    let mut rows = SWEEP_ROWS.1;
    loop {
        for _ in 0..PEEKS {
            // At random, so that nodes that were started together do not sweep together.
            tokio::time::sleep((LOOK / PEEKS).mul_f64(rand::random_range(0.8..1.2))).await;
            let Some(registry) = registry.upgrade() else { return };
            let Some(store) = registry.stores.get(&name).map(Arc::clone) else { return };
            if matches!(store.is_written_elsewhere().await, Ok(true)) {
                tracing::info!(
                    store = name,
                    "another process has written to it: what is followed is loaded again"
                );
                registry.saved_in(&name).for_each(|states| states.returned());
            }
        }
        let store = registry.upgrade().and_then(|registry| registry.stores.get(&name).map(Arc::clone));
        let Some(store) = store else { return };
        sweep(&name, &*store, &mut rows, || registry.strong_count() > 0).await;
    }
}

/// Removes all that has expired, in calls of about [`SWEEP_CALL`]. `rows` is how many such a call removes.
async fn sweep(name: &str, store: &dyn Store, rows: &mut usize, is_wanted: impl Fn() -> bool) {
    let (fewest, most) = SWEEP_ROWS;
    while is_wanted() {
        let began = Instant::now();
        let failure = match timeout(LOOK, store.sweep(*rows)).await {
            Ok(Ok(swept)) if swept < *rows => return,
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error),
            Err(late) => Some(StoreError::Unavailable(late.into())),
        };
        if let Some(error) = failure {
            // Perhaps it was too much for one call.
            *rows = (*rows / 4).max(fewest);
            tracing::warn!(store = name, error = &error as &dyn std::error::Error, "not swept");
            return;
        }
        let took = began.elapsed();
        *rows = if took > SWEEP_CALL { (*rows / 2).max(fewest) } else { (*rows * 2).min(most) };
        tokio::task::yield_now().await;
    }
}

impl<S: ReactiveState> InstanceTable<S> {
    pub(super) async fn keep(&self) {
        if let Some(ttl) = self.config.ttl {
            let due = self.instances.iter().filter(|instance| is_due(instance, ttl));
            let due: Vec<_> = due.map(|instance| Arc::clone(&instance)).collect();
            let touch = |instance| async move { self.keep_alive(&instance, ttl).await };
            stream::iter(due).for_each_concurrent(TOUCHES, touch).await;
        }
        self.verify_followed();
        self.let_go_idle(IDLE);
    }

    /// Reloads what is followed here and has not been confirmed for a while: of a change that was lost
    /// without a word, nothing else would tell. The moments are random, so that not all come at once.
    fn verify_followed(&self) {
        // Nothing but this node changes its own memory.
        if self.guard.is_none() {
            return;
        }
        let is_old = |instance: &Arc<Instance<S>>| {
            let age = {
                let upkeep = instance.upkeep.lock();
                if upkeep.is_unreadable() {
                    return false;
                }
                upkeep.verified.map_or(VERIFIED, |verified| verified.elapsed())
            };
            let is_due = age >= VERIFIED || (age >= VERIFIED / 2 && rand::random_ratio(1, 3));
            is_due && instance.followers() > 0
        };
        let loaded = self.instances.iter().map(|entry| Arc::clone(entry.value()));
        self.reload_all(loaded.filter(is_old).collect());
    }

    /// Extends the life of a record.
    async fn keep_alive(&self, instance: &Arc<Instance<S>>, ttl: Duration) {
        let now = Instant::now();
        let followed = instance.followers() > 0;
        match timeout(self.shared.deadline, self.store.touch(&instance.key, ttl)).await {
            Ok(Ok(true)) => instance.upkeep.lock().expires = Some(now + ttl),
            // It is gone: whoever follows it sees how it starts over.
            Ok(Ok(false)) if followed => self.reload(instance),
            Ok(Ok(false)) => instance.upkeep.lock().suspect = true,
            Ok(Err(error)) => {
                tracing::warn!(key = ?instance.key, error = &error as &dyn std::error::Error, "not kept alive");
                self.unanswered(instance);
            }
            Err(_) => {
                tracing::warn!(key = ?instance.key, "not kept alive: the store does not answer");
                self.unanswered(instance);
            }
        }
    }

    /// Drops the instances that nobody follows, uses or waits for.
    pub(super) fn let_go_idle(&self, idle: Duration) {
        let now = Instant::now();
        let mut gone = 0;
        self.instances.retain(|_, instance| {
            let stays = Arc::strong_count(instance) > 1
                || now.duration_since(instance.upkeep.lock().used) < idle
                || !instance.is_idle();
            gone += usize::from(!stays);
            stays
        });
        self.shared.instances_leave(gone);
    }

    /// Drops an instance of which nothing is in memory, unless another task uses it: it does not exist, or could not
    /// be loaded.
    ///
    /// Each task that has used one calls this in the end, so that the last one of them drops it.
    pub(super) fn forget(&self, instance: Arc<Instance<S>>) {
        if !instance.is_empty() {
            return;
        }
        let key = instance.key.clone();
        drop(instance);
        let removed =
            self.instances.remove_if(&key, |_, instance| instance.is_empty() && is_unused(instance));
        self.shared.instances_leave(usize::from(removed.is_some()));
    }

    /// Removes an instance that nobody follows, uses or waits for; says whether it did.
    pub(super) fn remove_idle(&self, key: &Key) -> bool {
        self.instances.remove_if(key, |_, instance| is_unused(instance)).is_some()
    }
}

/// Whether nobody follows an instance, uses it or waits for it.
fn is_unused<S: ReactiveState>(instance: &Arc<Instance<S>>) -> bool {
    Arc::strong_count(instance) == 1 && instance.is_idle()
}

/// Whether the life of an instance's record is to be extended: it is followed or was used, and a quarter
/// of its time has passed, or nobody here looks after it from now on.
fn is_due<S: ReactiveState>(instance: &Instance<S>, ttl: Duration) -> bool {
    let now = Instant::now();
    let followed = instance.followers() > 0;
    let due = {
        let upkeep = instance.upkeep.lock();
        let leaves = !followed && upkeep.used + IDLE <= now;
        upkeep.expires.is_some_and(|expires| {
            (leaves || expires <= now + ttl * 3 / 4) && (followed || upkeep.used + ttl > expires)
        })
    };
    due && instance.current.read().as_ref().is_some_and(|current| current.stored)
}
