//! What watchers are told of an instance.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Answer, Error, Outcome,
    instance::{Current, Instance, Slot},
    states::States,
    turn::Attempting,
    watch::Seen,
};
use crate::{ReactiveState, clock};

impl<S: ReactiveState> States<S> {
    /// An event was done with.
    pub(super) fn watch_event(
        &self,
        instance: &Instance<S>,
        attempting: &Attempting<S>,
        began: Instant,
        outcome: &Result<Outcome, Error>,
    ) {
        self.shared.watchers.tell(|| {
            let word = match outcome {
                Ok(outcome) => match outcome.answer {
                    Answer::Changed => ("changed", None),
                    Answer::Unchanged => ("unchanged", None),
                    Answer::Repeated => ("repeated", None),
                },
                Err(Error::Rejected(rejection)) => ("rejected", Some(rejection.to_string())),
                Err(error) => ("failed", Some(error.to_string())),
            };
            let step = attempting.step.get();
            Seen {
                at: clock::now(),
                key: instance.key.clone(),
                event: attempting.attempt.name(),
                id: Some(attempting.id.clone()),
                user: attempting.viewer.user().map(str::to_owned),
                outcome: word,
                version: outcome.as_ref().ok().map(|outcome| outcome.version),
                change: step.map(|(before, after)| (before.encoded.data.clone(), after.encoded.data.clone())),
                recipients: self.recipients(instance),
                took: began.elapsed(),
            }
        });
    }

    /// The store, or another node, had something newer.
    pub(super) fn watch_store(
        &self,
        instance: &Instance<S>,
        before: &Arc<Current<S>>,
        after: &Arc<Current<S>>,
    ) {
        self.shared.watchers.tell(|| Seen {
            at: clock::now(),
            key: instance.key.clone(),
            event: "(store)",
            id: None,
            user: None,
            outcome: ("taken over", None),
            version: Some(after.version),
            change: Some((before.encoded.data.clone(), after.encoded.data.clone())),
            recipients: self.recipients(instance),
            took: std::time::Duration::ZERO,
        });
    }

    fn recipients(&self, instance: &Instance<S>) -> Vec<(String, usize)> {
        let topics = instance.topics.lock();
        let name = |slot: &Slot| match slot {
            Slot::Signals => "signals".to_owned(),
            Slot::View(at) => self.views[*at].name().to_owned(),
        };
        topics.open.iter().map(|(slot, topic)| (name(slot), topic.followers())).collect()
    }
}
