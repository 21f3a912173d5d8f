//! The turn of a sender that removes finished messages and applies the events that follow them.

use std::sync::{Arc, atomic::Ordering};

use futures::future::{BoxFuture, ready};

use super::{
    answer::stored_answer,
    outbox::{Outbox, OutboxEntry, Work},
    settlement::{SettledAs, Settlement, Take},
};
use crate::{
    Context, PrepareContext, ReactiveState, Rejection, Viewer,
    event::{Cause, EncodedEvent, Mutation, OutboxEdit, Prepared},
    registry::panics::guard,
};

/// The name of the turn in logs. No event can have this name.
const NAME: &str = "(messages)";

/// A settlement with its event, decoded and prepared.
pub(in crate::registry) struct PreparedSettlement<S> {
    pub(in crate::registry) settlement: Settlement,
    pub(in crate::registry) follow_up: Option<FollowUp<S>>,
}

/// An event of the sender that follows a message or belongs to a timer.
pub(in crate::registry) struct FollowUp<S> {
    pub(in crate::registry) encoded: EncodedEvent,
    /// The event, or the reason why it cannot be applied.
    pub(in crate::registry) mutation: Result<Box<dyn Mutation<S>>, String>,
    /// The rejection by the event's `prepare`.
    pub(in crate::registry) refusal: Option<Rejection>,
    pub(in crate::registry) cause: Arc<Cause>,
    /// Whether the state may reject it without consequences. Otherwise it is parked.
    pub(in crate::registry) is_optional: bool,
}

/// Returns the event of the sender's state that a settlement applies.
pub(in crate::registry) fn event_of<'a>(
    outbox: &'a Outbox,
    settlement: &Settlement,
) -> Option<&'a EncodedEvent> {
    let entry = outbox.get(settlement.id)?;
    match (&entry.work, &settlement.result) {
        (Work::Message { then, .. }, SettledAs::Accepted) => then.as_ref(),
        (Work::Message { or_else, .. }, SettledAs::Rejected(_)) => or_else.as_ref(),
        (Work::Timer { event, .. }, SettledAs::Fired)
        | (Work::FollowUp { event, .. }, SettledAs::Accepted) => Some(event),
        _ => None,
    }
}

/// Settles messages, timers and jobs in one turn.
pub(in crate::registry) struct Settle<S>(pub(in crate::registry) Vec<PreparedSettlement<S>>);

impl<S: ReactiveState> Mutation<S> for Settle<S> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(self: Box<Self>, _: PrepareContext) -> BoxFuture<'static, Prepared<S>> {
        Box::pin(ready((self as Box<dyn Mutation<S>>, Ok(()))))
    }

    fn authorize(&self, _: &S, _: &Viewer) -> Result<(), Rejection> {
        Ok(())
    }

    fn apply(&self, state: &mut S, context: &mut Context<S>) -> Result<(), Rejection> {
        for PreparedSettlement { settlement, follow_up } in &self.0 {
            let id = settlement.id;
            // Another node, or an earlier attempt of this turn, may have settled it.
            let entry = context.outbox().and_then(|outbox| outbox.get(id));
            let still_applies = entry.is_some_and(|entry| still_applies(&settlement.result, entry));
            if let SettledAs::Taken(take) = &settlement.result {
                take.is_taken.store(still_applies, Ordering::Relaxed);
            }
            if !still_applies {
                continue;
            }
            let edit = match &settlement.result {
                SettledAs::Parked(reason) => OutboxEdit::Park { id, reason: reason.clone() },
                SettledAs::Retried { millis } => OutboxEdit::Postpone { id, millis: *millis, is_retry: true },
                SettledAs::Claimed { millis } | SettledAs::Taken(Take { millis, .. }) => {
                    OutboxEdit::Postpone { id, millis: *millis, is_retry: false }
                }
                SettledAs::Unparked => OutboxEdit::Unpark(id),
                SettledAs::Accepted | SettledAs::Rejected(_) | SettledAs::Fired | SettledAs::Dropped => {
                    OutboxEdit::Finish(id)
                }
            };
            context.edit_outbox(edit);
            if let Some(follow_up) = follow_up {
                follow_up.apply(id, state, context);
            }
        }
        Ok(())
    }
}

/// Whether the entry is still the one that this is the result of.
fn still_applies(result: &SettledAs, entry: &OutboxEntry) -> bool {
    let is_follow_up = matches!(entry.work, Work::FollowUp { .. });
    match result {
        SettledAs::Taken(take) => take.from == entry.from && entry.parked.is_none(),
        // Two nodes have delivered the message. After the first one, the state refused the event that follows.
        SettledAs::Accepted => !is_follow_up || entry.parked.is_none(),
        SettledAs::Rejected(_) => !is_follow_up,
        _ => true,
    }
}

impl<S: ReactiveState> FollowUp<S> {
    /// Applies the event to the state. If the state refuses it, or the event requests a message that is not possible, the
    /// state does not change, and the event is parked unless it is optional.
    fn apply(&self, id: u128, state: &mut S, context: &mut Context<S>) {
        let mut changed = state.clone();
        let mark = context.begin_follow_up(Arc::clone(&self.cause));
        let applied = match (&self.mutation, &self.refusal) {
            (Err(reason), _) => Err((reason.clone(), false)),
            (Ok(_), Some(refusal)) => Err((refusal.to_string(), self.is_optional)),
            (Ok(mutation), None) => {
                let viewer = Viewer::application();
                let apply = || {
                    mutation.authorize(&changed, &viewer)?;
                    mutation.apply(&mut changed, context)
                };
                match guard("an event that follows a message panicked", apply) {
                    Ok(Ok(())) => match context.draft.mistake.take() {
                        None => Ok(()),
                        Some(mistake) => Err((mistake.to_string(), false)),
                    },
                    Ok(Err(rejection)) => Err((rejection.to_string(), self.is_optional)),
                    Err(error) => Err((error.to_string(), false)),
                }
            }
        };
        match applied {
            Ok(()) => {
                *state = changed;
                context.end_follow_up();
            }
            Err((reason, is_optional)) => {
                context.undo_follow_up(mark);
                if !is_optional {
                    // Instead of its end, which was the last edit.
                    context.replace_edit(OutboxEdit::ParkFollowUp {
                        id,
                        follow_up: self.encoded.clone(),
                        rejection: self.cause.rejection.as_ref().and_then(stored_answer),
                        reason,
                    });
                }
            }
        }
    }
}
