//! The end of an accepted event: its outcome, its streamed reply and its background work.

use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    ReactiveState, Reply,
    event::{Aftermath, Effects},
    registry::{
        Outcome, ReplyStream,
        instance::{Instance, queue::QueuedEvent, table::InstanceTable},
    },
};

/// The parts of an event that take effect once its change is committed.
pub(super) struct Committed<S> {
    pub(super) outcome: Outcome,
    pub(super) effects: Effects,
    pub(super) aftermath: Aftermath<S>,
    /// One permit for each piece of `aftermath`.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
}

/// Starts the background work of an accepted event, and completes its outcome.
pub(super) fn start_aftermath<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    event: &QueuedEvent<S>,
    committed: Committed<S>,
) -> Outcome {
    let Committed { outcome, effects, aftermath, permits } = committed;
    table.shared.events.fetch_add(1, Ordering::Relaxed);
    let mut outcome = Outcome { elements: effects.caller, fields: event.fields, ..outcome };
    if permits.is_empty() {
        return outcome;
    }
    let Some(handle) = table.shared.handle(&instance.key) else { return outcome };
    let mut permits = permits.into_iter();
    if let Some(streaming) = aftermath.streaming
        && let Some(permit) = permits.next()
    {
        let (reply, pieces) = Reply::channel();
        outcome.stream = Some(ReplyStream(pieces));
        let handle = handle.clone();
        table.shared.background(permit, move || streaming(handle, reply));
    }
    for (work, permit) in aftermath.background.into_iter().zip(permits) {
        let handle = handle.clone();
        table.shared.background(permit, move || work(handle));
    }
    outcome
}
