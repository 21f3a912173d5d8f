//! One thing at a time per instance, in order of arrival.

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
    registry::{Error, Mutation, Outcome},
    store::{Loaded, Receipt},
};

/// How much sooner than its caller a turn gives up, so that the caller hears what happened.
pub(in crate::registry) const GRACE: Duration = Duration::from_millis(50);

/// What waits for an instance's turn.
pub(in crate::registry) struct Queue<S> {
    waiting: VecDeque<Turn<S>>,
    /// Whether a task runs the queue.
    running: bool,
}

/// One turn.
pub(in crate::registry) struct Turn<S> {
    pub(in crate::registry) work: Command<S>,
    pub(in crate::registry) deadline: Instant,
    /// Set by the first of the two: the turn when it begins, or the caller when it gives up.
    pub(in crate::registry) claimed: Arc<AtomicBool>,
    pub(in crate::registry) reply: oneshot::Sender<Result<Outcome, Error>>,
}

/// A place in the queue, with which a caller awaits the end of its turn.
pub(in crate::registry) struct Ticket {
    claimed: Arc<AtomicBool>,
    answer: oneshot::Receiver<Result<Outcome, Error>>,
}

/// The work of one turn.
pub(in crate::registry) enum Command<S> {
    /// Apply an event.
    Mutation(Box<QueuedEvent<S>>),
    /// Loads the record, unless it was loaded since this moment.
    Refresh(Instant),
    /// Compares the store with a version that a client has seen. A store behind it has lost changes.
    Compare(Version),
    /// Take over what a reload found.
    Found(Box<Found>),
    /// Adopt what has arrived from other nodes.
    Arrived,
    /// Start over.
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

/// An event on its way.
pub(in crate::registry) struct QueuedEvent<S> {
    pub(in crate::registry) attempt: Box<dyn Mutation<S>>,
    pub(in crate::registry) viewer: Viewer,
    pub(in crate::registry) id: EventId,
    pub(in crate::registry) receipt: Receipt,
    pub(in crate::registry) now: SystemTime,
    pub(in crate::registry) wants_view: bool,
    pub(in crate::registry) fields: &'static [&'static str],
    /// The span of the turn's log entries, whichever task runs the turn.
    pub(in crate::registry) span: Span,
    /// The state before and after the change, once it is saved, for observers.
    #[cfg(feature = "inspector")]
    pub(in crate::registry) step: std::sync::OnceLock<Stepped<S>>,
}

/// A state before a change and after it.
#[cfg(feature = "inspector")]
pub(in crate::registry) type Stepped<S> = (
    Arc<crate::registry::instance::revision::Current<S>>,
    Arc<crate::registry::instance::revision::Current<S>>,
);

impl<S> Default for Queue<S> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: false }
    }
}

impl<S> Command<S> {
    /// A load, unless another one happens between now and the turn.
    pub(in crate::registry) fn refresh() -> Self {
        Self::Refresh(Instant::now())
    }
}

impl<S> Turn<S> {
    /// A turn, and the ticket for its result.
    pub(in crate::registry) fn new(work: Command<S>, deadline: Instant) -> (Self, Ticket) {
        let (reply, answer) = oneshot::channel();
        let claimed = Arc::new(AtomicBool::new(false));
        let ticket = Ticket { claimed: Arc::clone(&claimed), answer };
        (Self { work, deadline: deadline - GRACE, claimed, reply }, ticket)
    }
}

impl<S> Queue<S> {
    /// Adds a turn, unless `limit` are waiting. Returns whether the caller must start a task that runs the queue.
    ///
    /// Loads and changes of other nodes are exempt from the limit: one load serves all of its callers, and changes that
    /// have arrived have one turn at a time.
    pub(in crate::registry) fn push(&mut self, turn: Turn<S>, limit: usize) -> Result<bool, Error> {
        let is_exempt = matches!(
            turn.work,
            Command::Refresh(_) | Command::Compare(_) | Command::Found(_) | Command::Arrived
        );
        if self.waiting.len() >= limit && !is_exempt {
            return Err(Error::Busy("too many events wait for this instance"));
        }
        self.waiting.push_back(turn);
        Ok(!std::mem::replace(&mut self.running, true))
    }

    /// The next turn. Without one, the task that runs the queue must end.
    pub(in crate::registry) fn pop(&mut self) -> Option<Turn<S>> {
        let turn = self.waiting.pop_front();
        self.running = turn.is_some();
        turn
    }

    /// The task that runs the queue has been dropped: the next turn starts another one.
    pub(in crate::registry) fn abandon(&mut self) {
        self.running = false;
    }

    pub(in crate::registry) fn is_idle(&self) -> bool {
        !self.running && self.waiting.is_empty()
    }
}

impl Ticket {
    /// Waits for the turn's end or the deadline.
    pub(in crate::registry) async fn result(mut self, deadline: Instant) -> Result<Outcome, Error> {
        if let Ok(answer) = self.answer.try_recv() {
            return answer;
        }
        match tokio::time::timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                Err(Error::internal("a turn ended without an answer", &"see the log before this".into()))
            }
            Err(_) if self.claimed.swap(true, Ordering::AcqRel) => {
                self.answer.try_recv().unwrap_or(Err(Error::OutcomeUnknown))
            }
            Err(_) => Err(Error::TimedOut),
        }
    }
}
