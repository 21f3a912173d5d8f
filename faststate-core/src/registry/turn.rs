//! The turns of an instance: its queue runs one command at a time, in order of arrival.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use futures::FutureExt as _;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::{
    ReactiveState,
    registry::{
        Applied, Error, Outcome,
        event::{delete::delete_record, save::save_event},
        instance::{
            Instance,
            queue::{Command, QueuedEvent, Turn},
            staleness::check_readable,
            table::InstanceTable,
        },
        load::{
            adopt::adopt_arrived,
            background::{mark_stale, spawn_revalidation},
            reload::{adopt_reloaded, reload, renew_if_ahead},
        },
        panics::panic_text,
    },
    store::{CircuitOpen, StoreError},
};

/// Runs an instance's queue: inside the caller until the queue first waits, then in a task of its own.
pub(super) fn start_queue<S: ReactiveState>(table: Arc<InstanceTable<S>>, instance: Arc<Instance<S>>) {
    let shared = Arc::clone(&table.shared);
    shared.detach(run_queue(table, instance));
}

/// Runs turns until the queue is empty, and publishes their changes to the other nodes.
async fn run_queue<S: ReactiveState>(table: Arc<InstanceTable<S>>, instance: Arc<Instance<S>>) {
    // However this future ends, also when the runtime shuts down, the next event finds the queue open.
    let mut running = RunningQueue { instance: &instance, is_finished: false };
    let (mut turns, mut has_failed) = (0_u64, false);
    let publishing = loop {
        let turn = {
            let mut queue = instance.queue.lock();
            let Some(turn) = queue.pop() else {
                running.is_finished = true;
                break table.shared.publishing();
            };
            turn
        };
        // Detached, so that the next turn does not wait for the transport.
        if let Some(publishing) = table.shared.publishing() {
            table.shared.detach(publishing);
        }
        match turns {
            0 => {}
            // The first turn runs inside its caller. The caller does not run the events that arrived in the meantime.
            1 => tokio::task::yield_now().await,
            _ => tokio::task::coop::consume_budget().await,
        }
        turns += 1;
        let Turn { command, deadline, claimed, reply } = turn;
        let command = async {
            // AcqRel: the turn and its caller race for this flag, and exactly one of them reads `false`.
            if claimed.swap(true, Ordering::AcqRel) {
                // The caller has given up. Dropping the command runs application code, which may panic.
                drop(command);
                return Err(Error::TimedOut);
            }
            execute(&table, &instance, command, deadline).await
        };
        let outcome = AssertUnwindSafe(command)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(Error::internal("the engine panicked", &panic_text(&*panic))));
        has_failed = outcome.is_err();
        // Sending fails if the caller is gone.
        let _ = reply.send(outcome);
        spawn_revalidation(&table, &instance);
    };
    drop(running);
    if has_failed {
        table.forget(instance);
    }
    // In this task, because a new task would have to be woken first.
    if let Some(publishing) = publishing {
        publishing.await;
    }
}

/// Executes one command. If the store does not respond, the state in memory becomes stale.
async fn execute<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
    command: Command<S>,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let outcome = match command {
        Command::Apply(event) => apply_event(table, instance, event, deadline).await,
        Command::Refresh(asked) => {
            check_readable(table, instance)?;
            let known = instance.freshness.lock().verified.is_some_and(|at| at > asked);
            let current = match instance.usable(Instant::now()).filter(|_| known) {
                Some(current) => Ok(current),
                None => reload(table, instance, None, deadline).await.map(|(current, _)| current),
            };
            current.map(|current| Outcome::quiet(Applied::Unchanged, current.version))
        }
        // The other commands are boxed because they are rare: the future of every event would be larger.
        Command::Compare(seen) => Box::pin(renew_if_ahead(table, instance, seen, deadline)).await,
        Command::Found(found) => Box::pin(adopt_reloaded(table, instance, *found, deadline)).await,
        Command::Arrived => Box::pin(adopt_arrived(table, instance, deadline)).await,
        Command::Delete => Box::pin(delete_record(table, instance, deadline)).await,
    };
    match &outcome {
        // Only saves are refused, so the state that this node has loaded is as good as before.
        Err(Error::Unavailable(StoreError::Unavailable(error)))
            if error.is::<CircuitOpen>() && !table.is_resting() => {}
        Err(Error::Unavailable(StoreError::Unavailable(_)) | Error::OutcomeUnknown) => {
            mark_stale(table, instance);
        }
        _ => {}
    }
    outcome
}

/// Applies and saves an event, inside its log span.
async fn apply_event<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
    mut event: Box<QueuedEvent<S>>,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let span = std::mem::replace(&mut event.span, Span::none());
    #[cfg(feature = "inspector")]
    let began = Instant::now();
    // Instrumenting moves the future once more, so a disabled span is not attached.
    let outcome = if span.is_disabled() {
        save_event(table, instance, &event, deadline).await
    } else {
        let saving = save_event(table, instance, &event, deadline);
        Box::pin(saving.instrument(span.clone())).await
    };
    span.in_scope(|| match &outcome {
        Ok(outcome) => tracing::debug!(answer = ?outcome.answer, "accepted"),
        Err(error) => tracing::debug!(%error, "refused"),
    });
    #[cfg(feature = "inspector")]
    crate::registry::observe::report::watch_event(table, instance, &event, began, &outcome);
    outcome
}

/// Marks an instance's queue as running until it is dropped.
struct RunningQueue<'a, S> {
    instance: &'a Instance<S>,
    is_finished: bool,
}

impl<S> Drop for RunningQueue<'_, S> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.instance.queue.lock().abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    /// The largest allocation that glibc's allocator caches per thread, in bytes. A larger future makes every event
    /// slower.
    const MAX_CACHED_BYTES: usize = 1032;

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Empty {}

    impl ReactiveState for Empty {
        const NAME: &'static str = "empty";
    }

    const fn output_size<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn future_of_a_queue_fits_into_the_cache_of_the_allocator() {
        let bytes = output_size(run_queue::<Empty>);
        assert!(bytes <= MAX_CACHED_BYTES, "{bytes} bytes");
    }
}
