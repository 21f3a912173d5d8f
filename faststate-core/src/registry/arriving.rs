//! An event on its way to its turn.

use std::{future::Future, pin::Pin, sync::Arc, task::Poll};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use super::{
    Error, Mutation, Outcome,
    attempt::Refused,
    instance::Instance,
    shared::{panic_text, poll_once},
    states::InstanceTable,
    turn::{Command, Place, QueuedEvent},
};
use crate::{EventId, Key, PrepareContext, ReactiveState, Viewer, clock, store::Receipt};

/// An event that has arrived and waits for its turn.
pub(super) struct Arriving<S> {
    pub(super) attempt: Box<dyn Mutation<S>>,
    pub(super) fields: &'static [&'static str],
    pub(super) viewer: Viewer,
    pub(super) id: Option<EventId>,
    pub(super) wants_view: bool,
}

/// How far an event is on its way.
enum Way {
    /// It has its place in the queue.
    Queued(Place),
    /// It waits to be prepared.
    Preparing(BoxFuture<'static, Result<Outcome, Error>>),
}

impl<S: ReactiveState> InstanceTable<S> {
    /// Prepares an event and takes its turn. An event that need not wait to be prepared has its place
    /// in the queue now; the rest goes on without the caller, who waits for the outcome.
    pub(super) fn send(
        &self,
        key: &Key,
        arriving: Arriving<S>,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + use<'_, S> {
        let deadline = self.deadline();
        let begun = self.instance(key).and_then(|instance| match self.begin(&instance, arriving, deadline) {
            Ok(way) => Ok((instance, way)),
            Err(error) => {
                self.forget(instance);
                Err(error)
            }
        });
        async move {
            let (instance, way) = begun?;
            let outcome = match way {
                Way::Queued(place) => place.end(deadline).await,
                Way::Preparing(rest) => self.shared.detached(rest).await?,
            };
            if outcome.is_err() {
                self.forget(instance);
            }
            outcome
        }
    }

    /// Lets an event begin as far as it goes without waiting.
    fn begin(
        &self,
        instance: &Arc<Instance<S>>,
        arriving: Arriving<S>,
        deadline: Instant,
    ) -> Result<Way, Error> {
        let (me, key) = (self.me()?, &instance.key);
        let Arriving { attempt, fields, viewer, id, wants_view } = arriving;
        let name = attempt.name();
        let scene = PrepareContext {
            key: key.clone(),
            viewer: viewer.clone(),
            environment: Arc::clone(&self.shared.environment),
        };
        // What is disabled costs a look at a flag.
        let span = tracing::debug_span!("turn", ?key, event = name, id = tracing::field::Empty);
        let receipt =
            id.as_ref().map_or_else(Receipt::internal, |id| Receipt::from_viewer(key, name, id, &viewer));
        let preparing = std::panic::AssertUnwindSafe(attempt.prepare(scene)).catch_unwind();
        let mut preparing = preparing.map(move |prepared| match prepared {
            Ok((attempt, Ok(()))) => Ok(attempt),
            Ok((_, Err(rejection))) if receipt.is_internal() => Err(Error::Rejected(rejection)),
            Ok((_, Err(rejection))) => Ok(Box::new(Refused { name, rejection }) as Box<dyn Mutation<S>>),
            Err(panic) => Err(Error::internal("`prepare` panicked", &panic_text(&*panic))),
        });
        let prepared = poll_once(Pin::new(&mut preparing));
        let work = move |attempt| {
            let id = id.unwrap_or_else(EventId::random);
            span.record("id", tracing::field::display(&id));
            let now = clock::now();
            let attempting = QueuedEvent {
                attempt,
                viewer,
                id,
                receipt,
                now,
                wants_view,
                fields,
                span,
                #[cfg(feature = "inspector")]
                step: std::sync::OnceLock::new(),
            };
            Command::Mutation(Box::new(attempting))
        };
        match prepared {
            Poll::Ready(attempt) => Ok(Way::Queued(me.enqueue(instance, work(attempt?), deadline)?)),
            Poll::Pending => {
                let instance = Arc::clone(instance);
                Ok(Way::Preparing(Box::pin(async move {
                    let prepared = tokio::time::timeout_at(deadline, preparing).await;
                    let attempt = prepared.map_err(|_| Error::TimedOut)??;
                    me.take_turn(&instance, work(attempt), deadline).await
                })))
            }
        }
    }
}
