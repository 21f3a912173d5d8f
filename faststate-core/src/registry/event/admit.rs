//! An event on its way to its turn.

use std::{future::Future, pin::Pin, sync::Arc, task::Poll};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use crate::{
    EventId, Key, PrepareContext, ReactiveState, Viewer, clock,
    registry::{
        Error, Mutation, Outcome,
        event::mutation::Refused,
        instance::{
            Instance,
            queue::{Command, QueuedEvent, Ticket},
            table::InstanceTable,
        },
        panics::{panic_text, poll_once},
    },
    store::Receipt,
};

/// An event that has arrived and waits for its turn.
pub(in crate::registry) struct EventRequest<S> {
    pub(in crate::registry) attempt: Box<dyn Mutation<S>>,
    pub(in crate::registry) fields: &'static [&'static str],
    pub(in crate::registry) viewer: Viewer,
    pub(in crate::registry) id: Option<EventId>,
    pub(in crate::registry) wants_view: bool,
}

/// How far an event is on its way.
enum Admission {
    /// It has its place in the queue.
    Queued(Ticket),
    /// It waits to be prepared.
    Preparing(BoxFuture<'static, Result<Outcome, Error>>),
}

/// Prepares an event and takes its turn. An event without an asynchronous `prepare` is queued immediately. The rest
/// runs detached from the caller, which only awaits the outcome.
pub(in crate::registry) fn send_event<'a, S: ReactiveState>(
    table: &'a InstanceTable<S>,
    key: &Key,
    arriving: EventRequest<S>,
) -> impl Future<Output = Result<Outcome, Error>> + Send + use<'a, S> {
    let deadline = table.deadline();
    let begun =
        table.instance(key).and_then(|instance| match begin_event(table, &instance, arriving, deadline) {
            Ok(way) => Ok((instance, way)),
            Err(error) => {
                table.forget(instance);
                Err(error)
            }
        });
    async move {
        let (instance, way) = begun?;
        let outcome = match way {
            Admission::Queued(ticket) => ticket.result(deadline).await,
            Admission::Preparing(rest) => table.shared.detached(rest).await?,
        };
        if outcome.is_err() {
            table.forget(instance);
        }
        outcome
    }
}

/// Lets an event begin as far as it goes without waiting.
fn begin_event<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    arriving: EventRequest<S>,
    deadline: Instant,
) -> Result<Admission, Error> {
    let (me, key) = (table.me()?, &instance.key);
    let EventRequest { attempt, fields, viewer, id, wants_view } = arriving;
    let name = attempt.name();
    let scene = PrepareContext {
        key: key.clone(),
        viewer: viewer.clone(),
        environment: Arc::clone(&table.shared.environment),
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
        Poll::Ready(attempt) => Ok(Admission::Queued(me.enqueue(instance, work(attempt?), deadline)?)),
        Poll::Pending => {
            let instance = Arc::clone(instance);
            Ok(Admission::Preparing(Box::pin(async move {
                let prepared = tokio::time::timeout_at(deadline, preparing).await;
                let attempt = prepared.map_err(|_| Error::TimedOut)??;
                me.take_turn(&instance, work(attempt), deadline).await
            })))
        }
    }
}
