//! The queue of an instance: one command at a time, in order of arrival.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{sync::oneshot, time::Instant};
use tracing::Span;

use crate::{
    EventId, Version, Viewer,
    event::{Cause, Mutation},
    registry::{Error, Outcome},
    store::{Loaded, Receipt},
};

/// How much earlier than its caller a turn gives up, so that the caller still receives the outcome.
pub(in crate::registry) const REPLY_GRACE: Duration = Duration::from_millis(50);

/// The commands that wait for their turn.
pub(in crate::registry) struct Queue<S> {
    waiting: VecDeque<Turn<S>>,
    /// Whether a task runs the queue.
    is_running: bool,
}

/// A command, and the way to its caller.
pub(in crate::registry) struct Turn<S> {
    pub(in crate::registry) command: Command<S>,
    pub(in crate::registry) deadline: Instant,
    /// Set by the turn when it begins, or by the caller when it gives up, whichever is first.
    pub(in crate::registry) claimed: Arc<AtomicBool>,
    pub(in crate::registry) reply: oneshot::Sender<Result<Outcome, Error>>,
}

/// A place in the queue. The caller awaits the outcome of its turn with it.
pub(in crate::registry) struct Ticket {
    claimed: Arc<AtomicBool>,
    outcome: oneshot::Receiver<Result<Outcome, Error>>,
}

/// The work of one turn.
pub(in crate::registry) enum Command<S> {
    /// Applies an event.
    Apply(Box<QueuedEvent<S>>),
    /// Loads the record, unless it was loaded since this moment.
    Refresh(Instant),
    /// Compares the store with a version that a client has seen. A store behind it has lost changes.
    Compare(Version),
    /// Adopts a record that a reload found.
    Found(Box<Found>),
    /// Adopts the changes that have arrived from other nodes.
    Arrived,
    /// Deletes the record.
    Delete,
}

/// A record that was loaded outside the instance's turn.
pub(in crate::registry) struct Found {
    pub(in crate::registry) loaded: Loaded,
    /// The instance's version when the load began.
    pub(in crate::registry) before: Option<Version>,
    /// When the load began.
    pub(in crate::registry) asked: Instant,
}

/// An event that is prepared and waits for its turn.
pub(in crate::registry) struct QueuedEvent<S> {
    pub(in crate::registry) mutation: Box<dyn Mutation<S>>,
    pub(in crate::registry) viewer: Viewer,
    pub(in crate::registry) id: EventId,
    pub(in crate::registry) receipt: Receipt,
    /// When the event arrived.
    pub(in crate::registry) now: SystemTime,
    pub(in crate::registry) wants_view: bool,
    pub(in crate::registry) fields: &'static [&'static str],
    /// The origin of the message that carries the event.
    pub(in crate::registry) cause: Option<Arc<Cause>>,
    /// The span of the turn's log entries, whichever task runs the turn.
    pub(in crate::registry) span: Span,
    /// The state before and after the change, once it is saved, for observers.
    #[cfg(feature = "inspector")]
    pub(in crate::registry) step: std::sync::OnceLock<Stepped<S>>,
}

/// A state before a change and after it.
#[cfg(feature = "inspector")]
pub(in crate::registry) type Stepped<S> = (
    Arc<crate::registry::instance::revision::Revision<S>>,
    Arc<crate::registry::instance::revision::Revision<S>>,
);

impl<S> Queue<S> {
    /// Adds a turn, unless `limit` turns are waiting. Returns whether the caller must start a task that runs the queue.
    ///
    /// Loads and changes of other nodes are exempt from the limit: one load serves all of its callers, and arrived
    /// changes share one turn.
    pub(super) fn push(&mut self, turn: Turn<S>, limit: usize) -> Result<bool, Error> {
        let is_exempt = matches!(
            turn.command,
            Command::Refresh(_) | Command::Compare(_) | Command::Found(_) | Command::Arrived
        );
        if self.waiting.len() >= limit && !is_exempt {
            return Err(Error::Busy("too many events wait for this instance"));
        }
        self.waiting.push_back(turn);
        Ok(!std::mem::replace(&mut self.is_running, true))
    }

    /// Takes the next turn. If there is none, the task that runs the queue must end.
    pub(in crate::registry) fn pop(&mut self) -> Option<Turn<S>> {
        let turn = self.waiting.pop_front();
        self.is_running = turn.is_some();
        turn
    }

    /// Records that the task that runs the queue was dropped. The next turn starts another one.
    pub(in crate::registry) const fn abandon(&mut self) {
        self.is_running = false;
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.is_running && self.waiting.is_empty()
    }
}

impl<S> Default for Queue<S> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), is_running: false }
    }
}

impl<S> Command<S> {
    /// Returns a command that loads the record, unless another command loads it between now and the turn.
    pub(in crate::registry) fn refresh() -> Self {
        Self::Refresh(Instant::now())
    }
}

impl<S> Turn<S> {
    /// Returns a turn, and the ticket for its outcome.
    pub(super) fn new(command: Command<S>, deadline: Instant) -> (Self, Ticket) {
        let (reply, outcome) = oneshot::channel();
        let claimed = Arc::new(AtomicBool::new(false));
        let ticket = Ticket { claimed: Arc::clone(&claimed), outcome };
        (Self { command, deadline: deadline - REPLY_GRACE, claimed, reply }, ticket)
    }
}

impl Ticket {
    /// Waits for the turn's outcome or the deadline.
    pub(in crate::registry) async fn result(mut self, deadline: Instant) -> Result<Outcome, Error> {
        if let Ok(outcome) = self.outcome.try_recv() {
            return outcome;
        }
        match tokio::time::timeout_at(deadline, &mut self.outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => {
                Err(Error::internal("a turn ended without an answer", &"see the log before this".into()))
            }
            // The turn has begun. It may have ended between the timeout and this line.
            Err(_) if self.claimed.swap(true, Ordering::AcqRel) => {
                self.outcome.try_recv().unwrap_or(Err(Error::OutcomeUnknown))
            }
            Err(_) => Err(Error::TimedOut),
        }
    }
}
