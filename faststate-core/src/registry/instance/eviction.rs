//! Background maintenance: extends the lifetime of records in use, evicts idle instances, and sweeps the stores.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    ReactiveState, Store,
    registry::{
        dyn_table::DynInstanceTable,
        engine::StateRegistry,
        instance::{Instance, queue::Command, table::InstanceTable},
        load::background::{mark_stale, reload_all, schedule_reload},
    },
    store::StoreError,
};

/// Time after which an unused instance is evicted.
const EVICT_AFTER: Duration = Duration::from_secs(60);
/// Maximum interval between two rounds of maintenance.
const MAX_INTERVAL: Duration = Duration::from_secs(15);
/// Time after which a followed instance is loaded again although nothing is known to have changed.
const VERIFY_AFTER: Duration = Duration::from_secs(60);
/// Number of records that are touched concurrently.
const TOUCH_CONCURRENCY: usize = 32;
/// Number of checks between two sweeps whether another process has written to the store.
const CHECKS_PER_SWEEP: u32 = 5;
/// The minimum and maximum number of expired records and receipts that one sweep call removes.
const SWEEP_ROWS: (usize, usize) = (100, 10_000);
/// Target duration of one sweep call.
const SWEEP_CALL: Duration = Duration::from_millis(100);

/// Maintains the instances of one state, for as long as the registry lives. Each state has its own task, so that a
/// state whose store is unavailable does not delay the others.
pub(in crate::registry) async fn maintain_instances(
    table: Weak<dyn DynInstanceTable>,
    ttl: Option<Duration>,
) {
    let pause = ttl.map_or(MAX_INTERVAL, |ttl| (ttl / 4).clamp(Duration::from_millis(10), MAX_INTERVAL));
    loop {
        tokio::time::sleep(pause).await;
        let Some(table) = table.upgrade() else { return };
        table.maintain().await;
    }
}

/// Reloads the instances of a state whenever its store recovers from an outage, because the store may have been restored
/// to an older point in time.
pub(in crate::registry) async fn reload_on_recovery(
    table: Weak<dyn DynInstanceTable>,
    mut returns: watch::Receiver<u64>,
) {
    while returns.changed().await.is_ok() {
        let Some(table) = table.upgrade() else { return };
        table.returned();
    }
}

/// Sweeps one store, and reloads the followed instances when another process has written to it, for as long as the
/// registry lives.
pub(in crate::registry) async fn maintain_store(name: String, registry: Weak<StateRegistry>) {
    let mut rows = SWEEP_ROWS.1;
    loop {
        for _ in 0..CHECKS_PER_SWEEP {
            // Randomised, so that nodes that were started together do not sweep together.
            tokio::time::sleep((MAX_INTERVAL / CHECKS_PER_SWEEP).mul_f64(rand::random_range(0.8..1.2))).await;
            let Some(registry) = registry.upgrade() else { return };
            let Some(store) = registry.stores.get(&name).map(Arc::clone) else { return };
            if matches!(store.is_written_elsewhere().await, Ok(true)) {
                tracing::info!(
                    store = name,
                    "another process has written to the store: reloading the followed instances"
                );
                registry.saved_in(&name).for_each(|table| table.returned());
            }
        }
        let store = registry.upgrade().and_then(|registry| registry.stores.get(&name).map(Arc::clone));
        let Some(store) = store else { return };
        sweep(&name, &*store, &mut rows, || registry.strong_count() > 0).await;
    }
}

/// Removes all expired records and receipts, in calls of about [`SWEEP_CALL`]. `rows` is the limit of one call, and is
/// adapted to its duration.
async fn sweep(name: &str, store: &dyn Store, rows: &mut usize, is_wanted: impl Fn() -> bool) {
    let (fewest, most) = SWEEP_ROWS;
    while is_wanted() {
        let began = Instant::now();
        let failure = match timeout(MAX_INTERVAL, store.sweep(*rows)).await {
            Ok(Ok(swept)) if swept < *rows => return,
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error),
            Err(late) => Some(StoreError::Unavailable(late.into())),
        };
        if let Some(error) = failure {
            // The call may have been too large.
            *rows = (*rows / 4).max(fewest);
            tracing::warn!(store = name, error = &error as &dyn std::error::Error, "the store was not swept");
            return;
        }
        let took = began.elapsed();
        *rows = if took > SWEEP_CALL { (*rows / 2).max(fewest) } else { (*rows * 2).min(most) };
        tokio::task::yield_now().await;
    }
}

/// Runs one round of maintenance.
pub(in crate::registry) async fn keep_instances_of<S: ReactiveState>(table: &InstanceTable<S>) {
    if let Some(ttl) = table.config.ttl {
        let due = table.instances.iter().filter(|instance| is_due(instance, ttl));
        let due: Vec<_> = due.map(|instance| Arc::clone(&instance)).collect();
        let touch = |instance| async move { keep_alive(table, &instance, ttl).await };
        stream::iter(due).for_each_concurrent(TOUCH_CONCURRENCY, touch).await;
    }
    verify_followed(table);
    table.evict_idle_for(EVICT_AFTER);
}

/// Reloads the followed instances that the store has not confirmed for a while. Nothing else detects a change that the
/// transport lost silently. The moments are random, to spread the load.
fn verify_followed<S: ReactiveState>(table: &InstanceTable<S>) {
    // Without a circuit breaker, the store is this process's own memory, which no other node changes.
    if table.guard.is_none() {
        return;
    }
    let is_old = |instance: &Arc<Instance<S>>| {
        let age = {
            let freshness = instance.freshness.lock();
            if freshness.is_unreadable() {
                return false;
            }
            freshness.verified.map_or(VERIFY_AFTER, |verified| verified.elapsed())
        };
        let is_due = age >= VERIFY_AFTER || (age >= VERIFY_AFTER / 2 && rand::random_ratio(1, 3));
        is_due && instance.followers() > 0
    };
    let loaded = table.instances.iter().map(|entry| Arc::clone(entry.value()));
    reload_all(table, loaded.filter(is_old).collect());
}

/// Extends the lifetime of a record.
async fn keep_alive<S: ReactiveState>(table: &InstanceTable<S>, instance: &Arc<Instance<S>>, ttl: Duration) {
    if table.config.sends_messages && has_new_messages(table, instance).await {
        return;
    }
    let now = Instant::now();
    let followed = instance.followers() > 0;
    match timeout(table.shared.deadline, table.store.touch(&instance.key, ttl)).await {
        Ok(Ok(true)) => instance.freshness.lock().expires = Some(now + ttl),
        // The record has expired: the reload shows its followers the initial state.
        Ok(Ok(false)) if followed => schedule_reload(table, instance),
        Ok(Ok(false)) => instance.freshness.lock().suspect = true,
        Ok(Err(error)) => {
            tracing::warn!(key = ?instance.key, error = &error as &dyn std::error::Error, "the lifetime was not extended");
            mark_stale(table, instance);
        }
        Err(_) => {
            tracing::warn!(key = ?instance.key, "the lifetime was not extended: the store does not respond");
            mark_stale(table, instance);
        }
    }
}

/// Whether another node has requested messages or timers that this node does not know. Then the record does not expire, and
/// must not get a lifetime again.
async fn has_new_messages<S: ReactiveState>(table: &InstanceTable<S>, instance: &Arc<Instance<S>>) -> bool {
    let Ok(table) = table.me() else { return true };
    let refreshed = table.take_turn(instance, Command::refresh(), table.deadline()).await;
    refreshed.is_err() || instance.current.read().as_ref().is_none_or(|current| current.outbox.is_some())
}

/// Whether the lifetime of an instance's record must be extended: the instance is followed or was used, and a quarter of
/// the lifetime has passed or the instance is about to be evicted.
fn is_due<S: ReactiveState>(instance: &Instance<S>, ttl: Duration) -> bool {
    let now = Instant::now();
    let followed = instance.followers() > 0;
    let due = {
        let freshness = instance.freshness.lock();
        let leaves = !followed && freshness.used + EVICT_AFTER <= now;
        freshness.expires.is_some_and(|expires| {
            (leaves || expires <= now + ttl * 3 / 4) && (followed || freshness.used + ttl > expires)
        })
    };
    // A record with unfinished messages does not expire.
    due && instance.current.read().as_ref().is_some_and(|current| current.stored && current.outbox.is_none())
}
