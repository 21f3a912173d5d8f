//! The messages, timers and jobs that an event requests, and the origin of a message.

use std::{marker::PhantomData, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{BoxError, Event, Key, ReactiveState, Rejection, Viewer};

/// The instance and the viewer whose event sent a message.
#[derive(Clone, Debug)]
pub struct Cause {
    key: Key,
    viewer: Viewer,
    /// The number of messages that led to this one, one after the other.
    pub(crate) hops: u32,
    /// The answer of the target, if this event follows a refused message.
    pub(crate) rejection: Option<Rejection>,
}

impl Cause {
    pub(crate) const fn new(key: Key, viewer: Viewer, hops: u32) -> Self {
        Self { key, viewer, hops, rejection: None }
    }

    /// Returns the key of the instance that sent the message.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the viewer that sent the first event, which led to this message.
    #[must_use]
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }
}

/// An event with its input, encoded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EncodedEvent {
    pub(crate) event: String,
    pub(crate) input: Box<RawValue>,
}

impl EncodedEvent {
    fn of<E: Event>(event: &E) -> Result<Self, BoxError> {
        Ok(Self { event: E::NAME.to_owned(), input: encode(event)? })
    }
}

/// A change of an instance's messages, timers and jobs.
#[derive(Clone, Debug)]
pub(crate) enum OutboxEdit {
    Send {
        to: Key,
        event: EncodedEvent,
        then: Option<EncodedEvent>,
        or_else: Option<EncodedEvent>,
    },
    Schedule {
        name: String,
        at: SystemTime,
        event: EncodedEvent,
    },
    Cancel {
        name: String,
    },
    Run {
        job: String,
        input: Box<RawValue>,
    },
    /// Removes a message, timer or job that is finished.
    Finish(u128),
    /// Keeps a message, timer or job for an operator.
    Park {
        id: u128,
        reason: String,
    },
    /// Replaces a message by its follow-up, which the state refused, and keeps it for an operator.
    ParkFollowUp {
        id: u128,
        follow_up: EncodedEvent,
        /// The answer of the target, if it rejected the message.
        rejection: Option<Box<RawValue>>,
        reason: String,
    },
    /// Lets other nodes take a message or job after this many milliseconds. `is_retry` counts a failed attempt.
    Postpone {
        id: u128,
        millis: u64,
        is_retry: bool,
    },
    /// Makes a parked message, timer or job due again.
    Unpark(u128),
}

/// A change of an outbox, and the origin of the event that requested it.
#[derive(Debug)]
pub(crate) struct DraftedEdit {
    pub(crate) edit: OutboxEdit,
    pub(crate) cause: Option<Arc<Cause>>,
}

/// The messages, timers and jobs that one event has requested so far.
#[derive(Debug, Default)]
pub(crate) struct OutboxDraft {
    /// The origin of the message that carries the event.
    pub(crate) cause: Option<Arc<Cause>>,
    pub(crate) edits: Vec<DraftedEdit>,
    /// The first request that cannot be fulfilled.
    pub(crate) mistake: Option<BoxError>,
}

impl OutboxDraft {
    pub(crate) const fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.mistake.is_none()
    }

    /// Whether an event requests a message, timer or job. An event that follows a message or belongs to a timer does not
    /// count, because its turn removes one.
    pub(crate) fn adds(&self) -> bool {
        let is_end = |drafted: &DraftedEdit| matches!(drafted.edit, OutboxEdit::Finish(_));
        if self.edits.iter().any(is_end) {
            return false;
        }
        let is_request = |edit: &OutboxEdit| {
            matches!(edit, OutboxEdit::Send { .. } | OutboxEdit::Schedule { .. } | OutboxEdit::Run { .. })
        };
        self.edits.iter().any(|drafted| is_request(&drafted.edit))
    }

    /// Returns the requests.
    ///
    /// # Errors
    /// The first request that cannot be fulfilled.
    pub(crate) fn into_edits(self) -> Result<Vec<DraftedEdit>, BoxError> {
        self.mistake.map_or(Ok(self.edits), Err)
    }

    pub(crate) fn push(&mut self, edit: Result<OutboxEdit, BoxError>) {
        match edit {
            Ok(edit) => self.edits.push(DraftedEdit { edit, cause: self.cause.clone() }),
            Err(error) => _ = self.mistake.get_or_insert(error),
        }
    }

    pub(crate) fn send<E: Event>(&mut self, to: Result<&Key, crate::KeyError>, event: &E) {
        let edit = || {
            let to =
                to.map_err(|error| format!("the address of a message to `{}`: {error}", E::State::NAME))?;
            Ok(OutboxEdit::Send {
                to: to.clone(),
                event: EncodedEvent::of(event)?,
                then: None,
                or_else: None,
            })
        };
        self.push(edit());
    }
}

impl OutboxEdit {
    /// Returns the edit that sets a timer.
    pub(crate) fn schedule<E: Event>(name: String, at: SystemTime, event: &E) -> Result<Self, BoxError> {
        Ok(Self::Schedule { name, at, event: EncodedEvent::of(event)? })
    }

    /// Returns the edit that requests the job with this name.
    pub(crate) fn run(name: &str, job: &impl Serialize) -> Result<Self, BoxError> {
        Ok(Self::Run { job: name.to_owned(), input: encode(job)? })
    }
}

/// A message that an event has just sent, to which events of the sender's own state can be attached.
///
/// They are applied in the turn that removes the message, so each of them runs exactly once.
#[derive(Debug)]
pub struct SentMessage<'a, S> {
    draft: &'a mut OutboxDraft,
    state: PhantomData<fn() -> S>,
}

impl<'a, S: ReactiveState> SentMessage<'a, S> {
    pub(crate) const fn new(draft: &'a mut OutboxDraft) -> Self {
        Self { draft, state: PhantomData }
    }

    /// Applies `event` to the sender once the target has accepted the message.
    #[expect(
        clippy::return_self_not_must_use,
        clippy::needless_pass_by_value,
        reason = "the event is handed over, and is attached when this returns"
    )]
    pub fn then(self, event: impl Event<State = S>) -> Self {
        self.attach(&event, |(then, _), event| *then = Some(event))
    }

    /// Applies `event` to the sender once the target has rejected the message.
    /// [`Context::rejection`](crate::Context::rejection) then returns the target's rejection.
    #[expect(
        clippy::return_self_not_must_use,
        clippy::needless_pass_by_value,
        reason = "the event is handed over, and is attached when this returns"
    )]
    pub fn or_else(self, event: impl Event<State = S>) -> Self {
        self.attach(&event, |(_, or_else), event| *or_else = Some(event))
    }

    fn attach<E: Event<State = S>>(
        self,
        event: &E,
        set: impl FnOnce((&mut Option<EncodedEvent>, &mut Option<EncodedEvent>), EncodedEvent),
    ) -> Self {
        match (EncodedEvent::of(event), self.draft.edits.last_mut()) {
            // Without the message itself, its mistake is already recorded.
            (Ok(event), Some(DraftedEdit { edit: OutboxEdit::Send { then, or_else, .. }, .. })) => {
                set((then, or_else), event);
            }
            (Ok(_), _) => {}
            (Err(error), _) => _ = self.draft.mistake.get_or_insert(error),
        }
        self
    }
}

fn encode(value: &impl Serialize) -> Result<Box<RawValue>, BoxError> {
    Ok(serde_json::value::to_raw_value(value)?)
}
