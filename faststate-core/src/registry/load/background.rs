//! Background reloads of instances whose state in memory may be older than the store, through one queue per state.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use rand::seq::SliceRandom as _;
use tokio::time::{Instant, sleep};

use super::limit::{ReloadLimit, ReloadPermit};
use crate::{
    ReactiveState,
    registry::{
        Error,
        instance::{
            Instance,
            queue::{Command, Found},
            staleness::load_failed,
            table::InstanceTable,
        },
        load::reload::load_record,
        tasks::spawn,
    },
    store::{CircuitOpen, StoreError},
};

/// The first and the longest pause after a failed reload. Pauses double, and each is shortened by a random part of up to
/// one half. The longest is below the 5 s within which nodes agree with a store that has recovered (law 13).
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// The pause before another reload when a new doubt arose during the last one.
const RENEWED_PAUSE: Duration = Duration::from_millis(10);
/// The pause while the store's circuit breaker is half-open and events use its trial calls.
const TRIAL_PAUSE: Duration = Duration::from_millis(50);

/// Reloads the followed instances, in random order, because the store may be ahead of this node's memory. Other
/// instances are confirmed when they are used.
pub(in crate::registry) fn reload_followed<S: ReactiveState>(table: &InstanceTable<S>) {
    let loaded = table.instances.iter().map(|entry| Arc::clone(entry.value()));
    reload_all(table, loaded.filter(|instance| instance.followers() > 0).collect());
}

/// Reloads these instances, in random order.
pub(in crate::registry) fn reload_all<S: ReactiveState>(
    table: &InstanceTable<S>,
    mut instances: Vec<Arc<Instance<S>>>,
) {
    instances.shuffle(&mut rand::rng());
    instances.iter().for_each(|instance| schedule_reload(table, instance));
}

/// Queues an instance for a reload. The reload is skipped if the store confirms the instance first.
pub(in crate::registry) fn schedule_reload<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
) {
    {
        let mut freshness = instance.freshness.lock();
        freshness.doubted = Some(Instant::now());
        if std::mem::replace(&mut freshness.reloading, true) {
            return;
        }
    }
    queue_reload(table, Arc::clone(instance));
}

/// Reloads a suspect instance until it is confirmed, if it is followed or other nodes must be notified of its state.
/// Any other suspect instance is loaded when it is used.
pub(in crate::registry) fn spawn_revalidation<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
) {
    // Most instances are not suspect: no other lock is taken for them.
    if !instance.freshness.lock().suspect || !is_concerned(table, instance) {
        return;
    }
    {
        let mut freshness = instance.freshness.lock();
        if !freshness.suspect
            || freshness.is_unreadable()
            || std::mem::replace(&mut freshness.reloading, true)
        {
            return;
        }
    }
    queue_reload(table, Arc::clone(instance));
}

/// The store did not answer: what is in memory may be stale, and must be confirmed.
pub(in crate::registry) fn mark_stale<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
) {
    instance.freshness.lock().suspect = true;
    instance.mark(true);
    spawn_revalidation(table, instance);
}

fn queue_reload<S: ReactiveState>(table: &InstanceTable<S>, instance: Arc<Instance<S>>) {
    {
        let mut reloads = table.reloads.lock();
        reloads.waiting.push_back(instance);
        if std::mem::replace(&mut reloads.running, true) {
            return;
        }
    }
    // Not tracked by `settle`, because it may run for as long as the store is unavailable.
    spawn(run_reloads(Weak::clone(&table.me), Arc::clone(&table.reload_limit)));
}

/// Whether an instance is reloaded although no caller waits for it.
fn is_concerned<S: ReactiveState>(table: &InstanceTable<S>, instance: &Instance<S>) -> bool {
    instance.followers() > 0 || (table.nodes().is_some() && instance.freshness.lock().unpublished)
}

/// Loads one instance and queues the result for a turn.
async fn reload_with_permit<S: ReactiveState>(
    table: Arc<InstanceTable<S>>,
    instance: Arc<Instance<S>>,
    permit: ReloadPermit,
) {
    // The deadline begins here: neither the queue nor the wait for a permit counts.
    let (asked, deadline) = (Instant::now(), table.deadline());
    let before = instance.current.read().as_ref().map(|current| current.version);
    // Outside the instance's turn, so that no event waits for it.
    let loaded = load_record(&table, &instance.key, None, deadline).await;
    let outcome = match loaded {
        Ok(loaded) => {
            permit.answered();
            let found = Command::Found(Box::new(Found { loaded, before, asked }));
            table.take_turn(&instance, found, table.deadline()).await.map(drop)
        }
        Err(StoreError::Unavailable(error)) => {
            let is_resting = error.is::<CircuitOpen>();
            if is_resting {
                drop(permit)
            } else {
                permit.failed()
            }
            mark_stale(&table, &instance);
            if is_resting {
                sleep(TRIAL_PAUSE).await;
                return queue_reload(&table, instance);
            }
            Err(Error::Unavailable(StoreError::Unavailable(error)))
        }
        Err(error) => {
            permit.answered();
            Err(load_failed(&table, &instance, error))
        }
    };
    end_reload(&table, instance, asked, &outcome);
}

/// Queues the instance again if it is still in doubt.
fn end_reload<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: Arc<Instance<S>>,
    asked: Instant,
    outcome: &Result<(), Error>,
) {
    // The instance does not exist or cannot be decoded, so another reload would not help until it changes.
    let is_final = match outcome {
        Err(Error::Unavailable(error)) => !error.is_temporary(),
        outcome => matches!(outcome, Err(Error::Unknown)),
    };
    let is_concerned = is_concerned(table, &instance);
    let pause = {
        let mut freshness = instance.freshness.lock();
        if is_final {
            freshness.doubted = freshness.doubted.filter(|doubted| *doubted >= asked);
        } else if let Err(error) = outcome {
            tracing::debug!(key = ?instance.key, %error, "not reloaded");
            freshness.suspect = true;
        }
        if !is_concerned || (freshness.doubted.is_none() && (is_final || !freshness.suspect)) {
            freshness.end_reloading();
            return;
        }
        // A doubt that arose during a successful load does not need a long pause.
        let is_renewed = outcome.is_ok() && !freshness.suspect;
        if is_renewed { RENEWED_PAUSE } else { freshness.next_reload_pause(RETRY_PAUSES) }
    };
    let table = Weak::clone(&table.me);
    spawn(async move {
        sleep(pause).await;
        if let Some(table) = table.upgrade() {
            queue_reload(&table, instance);
        }
    });
}

/// The next instance that still needs a reload. With `None`, the task that processes the queue ends.
fn next_reload<S: ReactiveState>(table: &InstanceTable<S>) -> Option<Arc<Instance<S>>> {
    loop {
        let instance = {
            let mut reloads = table.reloads.lock();
            let next = reloads.waiting.pop_front();
            reloads.running = next.is_some();
            next?
        };
        let is_concerned = is_concerned(table, &instance);
        let mut freshness = instance.freshness.lock();
        if (freshness.suspect || freshness.doubted.is_some()) && is_concerned {
            drop(freshness);
            return Some(instance);
        }
        freshness.end_reloading();
    }
}

/// Processes the queue, with as many concurrent reloads as the limit allows, and none while the circuit breaker is open.
/// A task that waits keeps neither the registry nor its store alive.
async fn run_reloads<S: ReactiveState>(table: Weak<InstanceTable<S>>, limit: Arc<ReloadLimit>) {
    let Some(mut returns) = table.upgrade().map(|table| table.guard.as_ref().map(|guard| guard.returns()))
    else {
        return;
    };
    loop {
        if let Some(returns) = &mut returns {
            while table.upgrade().is_some_and(|table| table.refuses_loads()) {
                if returns.changed().await.is_err() {
                    return;
                }
            }
        }
        let (Some(permit), Some(table)) = (limit.permit().await, table.upgrade()) else { return };
        let Some(instance) = next_reload(&table) else { return };
        let is_trial = table.is_resting();
        let reload = spawn(reload_with_permit(table, instance, permit));
        if is_trial {
            // One at a time, because events need trial calls as well.
            let _ = reload.await;
        }
    }
}
