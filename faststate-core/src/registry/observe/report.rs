//! Creation of event traces.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    ReactiveState, clock,
    registry::{
        Applied, Error, Outcome,
        instance::{Instance, Slot, queue::QueuedEvent, revision::Revision, table::InstanceTable},
        observe::trace::EventTrace,
    },
};

/// Notifies the observers of a finished event.
pub(in crate::registry) fn watch_event<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    event: &QueuedEvent<S>,
    began: Instant,
    outcome: &Result<Outcome, Error>,
) {
    table.shared.watchers.notify(|| {
        let outcome_and_reason = match outcome {
            Ok(outcome) => match outcome.answer {
                Applied::Changed => ("changed", None),
                Applied::Unchanged => ("unchanged", None),
                Applied::Repeated => ("repeated", None),
            },
            Err(Error::Rejected(rejection)) => ("rejected", Some(rejection.to_string())),
            Err(error) => ("failed", Some(error.to_string())),
        };
        let step = event.step.get();
        EventTrace {
            at: clock::now(),
            key: instance.key.clone(),
            event: event.mutation.name(),
            id: Some(event.id.clone()),
            user: event.viewer.user().map(str::to_owned),
            outcome: outcome_and_reason,
            version: outcome.as_ref().ok().map(|outcome| outcome.version),
            change: step.map(|(before, after)| (before.encoded.data.clone(), after.encoded.data.clone())),
            recipients: recipients(table, instance),
            took: began.elapsed(),
        }
    });
}

/// Notifies the observers of a newer state from the store or another node.
pub(in crate::registry) fn watch_store<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    before: &Arc<Revision<S>>,
    after: &Arc<Revision<S>>,
) {
    table.shared.watchers.notify(|| EventTrace {
        at: clock::now(),
        key: instance.key.clone(),
        event: "(store)",
        id: None,
        user: None,
        outcome: ("adopted", None),
        version: Some(after.version),
        change: Some((before.encoded.data.clone(), after.encoded.data.clone())),
        recipients: recipients(table, instance),
        took: std::time::Duration::ZERO,
    });
}

fn recipients<S: ReactiveState>(table: &InstanceTable<S>, instance: &Instance<S>) -> Vec<(String, usize)> {
    let topics = instance.topics.lock();
    let name = |slot: &Slot| match slot {
        Slot::Signals => "signals".to_owned(),
        Slot::View(at) => table.views[*at].name().to_owned(),
    };
    topics.open.iter().map(|(slot, topic)| (name(slot), topic.followers())).collect()
}
