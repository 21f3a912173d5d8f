//! The admission of an event: `prepare`, and a place in the queue of its instance.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, task::Poll};

use futures::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use tokio::time::Instant;

use crate::{
    Context, EventId, Key, PrepareContext, ReactiveState, Rejection, Viewer, clock,
    event::{Cause, Mutation, Prepared},
    registry::{
        Error, Outcome,
        instance::{
            Instance,
            queue::{Command, QueuedEvent, Ticket},
            table::InstanceTable,
        },
        panics::{panic_text, poll_once},
    },
    store::Receipt,
};

/// An event that has arrived.
pub(in crate::registry) struct EventRequest<S> {
    pub(in crate::registry) mutation: Box<dyn Mutation<S>>,
    pub(in crate::registry) fields: &'static [&'static str],
    pub(in crate::registry) viewer: Viewer,
    pub(in crate::registry) id: Option<EventId>,
    pub(in crate::registry) wants_view: bool,
    /// The message that carries the event.
    pub(in crate::registry) message: Option<MessageOrigin>,
}

impl<S> EventRequest<S> {
    /// Creates a request of the application, under an id that the engine generates.
    pub(in crate::registry) fn by_application(mutation: Box<dyn Mutation<S>>) -> Self {
        let viewer = Viewer::application();
        Self { mutation, fields: &[], viewer, id: None, wants_view: false, message: None }
    }
}

/// The origin of a message, at its target.
pub(in crate::registry) struct MessageOrigin {
    pub(in crate::registry) receipt: Receipt,
    pub(in crate::registry) cause: Arc<Cause>,
}

/// The result of admitting an event.
enum Admission {
    /// The event is in the queue.
    Queued(Ticket),
    /// `prepare` waits. The future prepares, queues and awaits the event.
    Preparing(BoxFuture<'static, Result<Outcome, Error>>),
}

/// Prepares and queues an event, and waits for its outcome.
///
/// An event without an asynchronous `prepare` is queued before this function returns. The rest runs detached from the
/// caller: dropping the future cancels nothing.
pub(in crate::registry) fn send_event<'a, S: ReactiveState>(
    table: &'a Arc<InstanceTable<S>>,
    key: &Key,
    request: EventRequest<S>,
) -> impl Future<Output = Result<Outcome, Error>> + Send + use<'a, S> {
    let deadline = table.deadline();
    let admitted =
        table.instance(key).and_then(|instance| match admit_event(table, &instance, request, deadline) {
            Ok(admission) => Ok((instance, admission)),
            Err(error) => {
                table.forget(instance);
                Err(error)
            }
        });
    async move {
        let (instance, admission) = admitted?;
        let outcome = match admission {
            Admission::Queued(ticket) => ticket.result(deadline).await,
            Admission::Preparing(rest) => table.shared.detached(rest).await?,
        };
        if outcome.is_err() {
            table.forget(instance);
        }
        outcome
    }
}

/// Polls `prepare` once, and queues the event if it is ready.
fn admit_event<S: ReactiveState>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
    request: EventRequest<S>,
    deadline: Instant,
) -> Result<Admission, Error> {
    let key = &instance.key;
    let EventRequest { mutation, fields, viewer, id, wants_view, message } = request;
    let name = mutation.name();
    let scene = PrepareContext {
        key: key.clone(),
        viewer: viewer.clone(),
        environment: Arc::clone(&table.shared.environment),
    };
    // A disabled span costs one atomic load.
    let span = tracing::debug_span!("turn", ?key, event = name, id = tracing::field::Empty);
    let receipt = match (&message, &id) {
        (Some(message), _) => message.receipt,
        (None, Some(id)) => Receipt::from_viewer(key, name, id, &viewer),
        (None, None) => Receipt::internal(),
    };
    let preparing = AssertUnwindSafe(mutation.prepare(scene)).catch_unwind();
    let mut preparing = preparing.map(move |prepared| match prepared {
        Ok((mutation, Ok(()))) => Ok(mutation),
        Ok((_, Err(rejection))) if receipt.is_internal() => Err(Error::Rejected(rejection)),
        Ok((_, Err(rejection))) => Ok(Box::new(Refused { name, rejection }) as Box<dyn Mutation<S>>),
        Err(panic) => Err(Error::internal("`prepare` panicked", &panic_text(&*panic))),
    });
    let prepared = poll_once(Pin::new(&mut preparing));
    let apply = move |mutation| {
        let id = id.unwrap_or_else(EventId::random);
        span.record("id", tracing::field::display(&id));
        Command::Apply(Box::new(QueuedEvent {
            mutation,
            viewer,
            id,
            receipt,
            now: clock::now(),
            wants_view,
            fields,
            cause: message.map(|message| message.cause),
            span,
            #[cfg(feature = "inspector")]
            step: std::sync::OnceLock::new(),
        }))
    };
    match prepared {
        Poll::Ready(mutation) => {
            Ok(Admission::Queued(table.enqueue(instance, apply(mutation?), deadline)?))
        }
        Poll::Pending => {
            let (table, instance) = (Arc::clone(table), Arc::clone(instance));
            Ok(Admission::Preparing(Box::pin(async move {
                let prepared = tokio::time::timeout_at(deadline, preparing).await;
                let mutation = prepared.map_err(|_| Error::TimedOut)??;
                table.take_turn(&instance, apply(mutation), deadline).await
            })))
        }
    }
}

/// An event that its `prepare` refused. It still takes its turn, because it may be the repeat of an event that was
/// applied before.
struct Refused {
    name: &'static str,
    rejection: Rejection,
}

impl<S: ReactiveState> Mutation<S> for Refused {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(self: Box<Self>, _: PrepareContext) -> BoxFuture<'static, Prepared<S>> {
        Box::pin(ready((self as Box<dyn Mutation<S>>, Ok(()))))
    }

    fn authorize(&self, _: &S, _: &Viewer) -> Result<(), Rejection> {
        Err(self.rejection.clone())
    }

    fn apply(&self, _: &mut S, _: &mut Context<S>) -> Result<(), Rejection> {
        Err(self.rejection.clone())
    }
}
