//! One thing at a time per instance, in order of arrival.

use std::{
    collections::VecDeque,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use tokio::{sync::oneshot, time::Instant};
use tracing::Span;

use super::{
    Error, Mutation, Outcome, instance::Instance, reload::Found, shared::panic_text, states::InstanceTable,
};
use crate::{EventId, ReactiveState, Version, Viewer, store::Receipt};

/// How much sooner than its caller a turn gives up, so that the caller hears what happened.
pub(super) const GRACE: Duration = Duration::from_millis(50);

/// What waits for an instance's turn.
pub(super) struct Queue<S> {
    waiting: VecDeque<Turn<S>>,
    /// Whether somebody takes the turns.
    running: bool,
}

/// One turn.
struct Turn<S> {
    work: Command<S>,
    deadline: Instant,
    /// Set by whoever comes first: the turn that begins, or the caller that gives up.
    claimed: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Outcome, Error>>,
}

/// A turn's place in the queue, for whoever waits for its end.
pub(super) struct Place {
    claimed: Arc<AtomicBool>,
    answer: oneshot::Receiver<Result<Outcome, Error>>,
}

/// What is done in a turn.
pub(super) enum Command<S> {
    /// Apply an event.
    Mutation(Box<QueuedEvent<S>>),
    /// Look whether the store has something newer, unless that was done since then.
    Refresh(Instant),
    /// Somebody has seen this version. If the store has not come so far, it went back in time.
    Compare(Version),
    /// Take over what a reload found.
    Found(Box<Found>),
    /// Adopt what has arrived from other nodes.
    Arrived,
    /// Start over.
    Delete,
}

/// An event on its way.
pub(super) struct QueuedEvent<S> {
    pub(super) attempt: Box<dyn Mutation<S>>,
    pub(super) viewer: Viewer,
    pub(super) id: EventId,
    pub(super) receipt: Receipt,
    pub(super) now: SystemTime,
    pub(super) wants_view: bool,
    pub(super) fields: &'static [&'static str],
    /// What the turn's log entries belong to, whoever takes the turn.
    pub(super) span: Span,
    /// The state before and after it, once it is saved: what watchers are told.
    #[cfg(feature = "inspector")]
    pub(super) step: std::sync::OnceLock<Stepped<S>>,
}

/// A state before a change and after it.
#[cfg(feature = "inspector")]
pub(super) type Stepped<S> = (Arc<super::instance::Current<S>>, Arc<super::instance::Current<S>>);

impl<S> Default for Queue<S> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: false }
    }
}

impl<S> Command<S> {
    /// A look at the store, unless somebody looks between now and the turn.
    pub(super) fn refresh() -> Self {
        Self::Refresh(Instant::now())
    }
}

impl<S> Queue<S> {
    pub(super) fn is_idle(&self) -> bool {
        !self.running && self.waiting.is_empty()
    }
}

impl<S: ReactiveState> InstanceTable<S> {
    /// Takes a place in the instance's queue now; what it gives waits for the turn's end or the deadline.
    pub(super) fn take_turn(
        self: &Arc<Self>,
        instance: &Arc<Instance<S>>,
        work: Command<S>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + use<S> {
        let place = self.enqueue(instance, work, deadline);
        async move { place?.end(deadline).await }
    }

    /// Takes a place in the instance's queue.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        instance: &Arc<Instance<S>>,
        work: Command<S>,
        deadline: Instant,
    ) -> Result<Place, Error> {
        let (reply, answer) = oneshot::channel();
        let claimed = Arc::new(AtomicBool::new(false));
        let place = Place { claimed: Arc::clone(&claimed), answer };
        let turn = Turn { work, deadline: deadline - GRACE, claimed, reply };
        {
            let mut queue = instance.queue.lock();
            // A look costs no more than whoever waits for it, and one look at the store serves them all; what
            // has arrived has one turn at a time.
            let is_look = matches!(
                turn.work,
                Command::Refresh(_) | Command::Compare(_) | Command::Found(_) | Command::Arrived
            );
            if queue.waiting.len() >= self.config.queue && !is_look {
                return Err(Error::Busy("too many events wait for this instance"));
            }
            queue.waiting.push_back(turn);
            if std::mem::replace(&mut queue.running, true) {
                return Ok(place);
            }
        }
        self.shared.detach(Arc::clone(self).take_turns(Arc::clone(instance)));
        Ok(place)
    }

    /// Takes turns until none is left, and tells other nodes what there is to tell.
    async fn take_turns(self: Arc<Self>, instance: Arc<Instance<S>>) {
        // Whatever ends this, a runtime that shuts down included, the next event finds the queue open.
        let mut running = Running { instance: &instance, ended: false };
        let (mut taken, mut failed) = (0_u64, false);
        let publishing = loop {
            let turn = {
                let mut queue = instance.queue.lock();
                let Some(turn) = queue.waiting.pop_front() else {
                    queue.running = false;
                    running.ended = true;
                    break self.shared.publishing();
                };
                turn
            };
            // The next turn does not wait for it.
            if let Some(publishing) = self.shared.publishing() {
                self.shared.detach(publishing);
            }
            match taken {
                0 => {}
                // The first turn runs inside its caller; what came meanwhile is not that caller's.
                1 => tokio::task::yield_now().await,
                _ => tokio::task::coop::consume_budget().await,
            }
            taken += 1;
            let Turn { work, deadline, claimed, reply } = turn;
            let work = async {
                if claimed.swap(true, Ordering::AcqRel) {
                    // Nobody waits for it any more. What is dropped is the application's, and may panic.
                    drop(work);
                    return Err(Error::TimedOut);
                }
                self.work(&instance, work, deadline).await
            };
            let answer = AssertUnwindSafe(work)
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| Err(Error::internal("the engine panicked", &panic_text(&*panic))));
            failed = answer.is_err();
            // Nobody listens any more if the caller hung up.
            let _ = reply.send(answer);
            self.clear_up(&instance);
        };
        drop(running);
        if failed {
            self.forget(instance);
        }
        // In this very task: another one would have to be woken first.
        if let Some(publishing) = publishing {
            publishing.await;
        }
    }
}

impl Place {
    /// Waits for the turn's end or the deadline.
    pub(super) async fn end(mut self, deadline: Instant) -> Result<Outcome, Error> {
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

/// Says that somebody takes an instance's turns, until it is dropped.
struct Running<'a, S> {
    instance: &'a Instance<S>,
    ended: bool,
}

impl<S> Drop for Running<'_, S> {
    fn drop(&mut self) {
        if !self.ended {
            self.instance.queue.lock().running = false;
        }
    }
}
