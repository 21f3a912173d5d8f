//! Housekeeping: records that are in use live on, instances that are not leave memory.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{instance::Instance, state_registry::StateRegistry, states::States, turn::Work};
use crate::ReactiveState;

/// How long an unused instance stays in memory.
const IDLE: Duration = Duration::from_secs(60);
/// The longest time between two looks.
const LOOK: Duration = Duration::from_secs(15);
/// How many expired records and receipts a store removes at a time.
const SWEEP: usize = 10_000;

/// Runs for as long as the registry lives.
pub(super) async fn keep_house(registry: Weak<StateRegistry>, shortest_ttl: Option<Duration>) {
    let pause = shortest_ttl.map_or(LOOK, |ttl| (ttl / 4).clamp(Duration::from_millis(10), LOOK));
    let mut swept = Instant::now();
    loop {
        tokio::time::sleep(pause).await;
        let Some(registry) = registry.upgrade() else { return };
        for states in registry.states.values() {
            states.upkeep().await;
        }
        if swept.elapsed() >= LOOK {
            swept = Instant::now();
            for (name, store) in &registry.stores {
                if let Err(error) = store.sweep(SWEEP).await {
                    tracing::warn!(store = name, error = &error as &dyn std::error::Error, "not swept");
                }
            }
        }
    }
}

impl<S: ReactiveState> States<S> {
    pub(super) async fn keep(&self) {
        if let Some(ttl) = self.config.ttl {
            let loaded: Vec<_> = self.instances.iter().map(|entry| Arc::clone(entry.value())).collect();
            for instance in loaded {
                self.keep_alive(&instance, ttl).await;
            }
        }
        self.let_go_idle(IDLE);
    }

    /// Extends the life of a record that is followed or was used, once a quarter of it has passed.
    async fn keep_alive(&self, instance: &Arc<Instance<S>>, ttl: Duration) {
        let now = Instant::now();
        let followed = instance.followers() > 0;
        let due = {
            let upkeep = instance.upkeep.lock();
            let Some(expires) = upkeep.expires else { return };
            let touched = expires - ttl;
            expires <= now + ttl * 3 / 4 && (followed || upkeep.used > touched)
        };
        if !due || !instance.current.read().as_ref().is_some_and(|current| current.stored) {
            return;
        }
        match tokio::time::timeout(self.shared.deadline, self.store.touch(&instance.key, ttl)).await {
            Ok(Ok(true)) => instance.upkeep.lock().expires = Some(now + ttl),
            // It is gone: whoever follows it sees how it starts over.
            Ok(Ok(false)) if followed => self.look(Arc::clone(instance), Work::Refresh),
            Ok(Ok(false)) => instance.upkeep.lock().suspect = true,
            Ok(Err(error)) => {
                tracing::warn!(key = ?instance.key, error = &error as &dyn std::error::Error, "not kept alive");
            }
            Err(_) => tracing::warn!(key = ?instance.key, "not kept alive: the store does not answer"),
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

    /// Drops an instance that turned out not to exist.
    pub(super) fn forget(&self, instance: Arc<Instance<S>>) {
        let key = instance.key.clone();
        drop(instance);
        let removed = self
            .instances
            .remove_if(&key, |_, instance| Arc::strong_count(instance) == 1 && instance.is_idle());
        self.shared.instances_leave(usize::from(removed.is_some()));
    }
}
