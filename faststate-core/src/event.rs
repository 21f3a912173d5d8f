//! The trait [`Event`], the context in which an event is applied, and the handles that send events.

mod address;
mod context;
mod environment;
mod handle;
mod id;
mod message;
mod prepare_context;
mod reply;

use std::future::Future;

use futures::future::{BoxFuture, ready};
use http::Method;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::context::{Aftermath, Effects};
pub(crate) use self::environment::{Environment, Resources};
pub(crate) use self::message::{DraftedEdit, EncodedEvent, OutboxDraft, OutboxEdit};
pub use self::{
    address::Address,
    context::Context,
    handle::{Handle, Snapshot},
    id::{EventId, EventIdError},
    message::{Cause, SentMessage},
    prepare_context::PrepareContext,
    reply::{Reply, ReplyClosed},
};
use crate::{Action, ReactiveState, Rejection, Viewer};

/// An event: a plain type whose fields are its validated input.
///
/// ```
/// # use faststate_core::{Context, Event, ReactiveState, Rejection};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)]
/// # struct Counter { count: i64 }
/// # impl ReactiveState for Counter { const NAME: &'static str = "counter"; }
/// #[derive(Serialize, Deserialize)]
/// struct Increment { amount: i64 }
///
/// impl Event for Increment {
///     type State = Counter;
///     const NAME: &'static str = "increment";
///
///     fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
///         counter.count = counter.count.checked_add(self.amount)
///             .ok_or_else(|| Rejection::invalid("the count would overflow").field("amount"))?;
///         Ok(())
///     }
/// }
/// ```
///
/// ```text
/// request -> input by type -> prepare -> the key's turn -> authorize -> apply on a copy -> save
///         -> commit -> followers, work after the commit -> reply
/// ```
///
/// # Input
/// Fields come from the query, the JSON or form body, and Datastar's signals, converted to the type
/// of the field: `"5"` is a number, `"on"`, `"true"` and `"1"` are true, `""` is an absent
/// number or `None`. A name that occurs twice is refused. `#[serde(flatten)]` and tagged enums buffer their
/// input before its types are known, so values inside them are not converted: send JSON of the exact
/// types. `Option` and `#[serde(default)]` fields may be absent.
///
/// # For implementers
/// - Only `NAME`, `State` and [`apply`](Self::apply) are required.
/// - Validate the fields in `apply`, and check permissions in [`authorize`](Self::authorize). Both run in the key's
///   turn, so they see the state to which the event applies.
/// - Do I/O in [`prepare`](Self::prepare), before the turn, or in [`Context::after`], after the commit. `apply` must
///   be pure, because it runs again after a conflict.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a FastState event",
    label = "this type does not implement `Event`",
    note = "derive `serde::Serialize` and `serde::Deserialize`, then implement `Event` with `type State`, `const NAME` and `fn apply`"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The state that this event changes.
    type State: ReactiveState;

    /// The name, unique among the events of the state: `[a-z][a-z0-9_]*` without `__`, at most 64 bytes.
    const NAME: &'static str;

    /// The HTTP method. An event accepts GET only if it sets it here.
    const METHOD: Method = Method::POST;

    /// A path that replaces `/faststate/{state}[/{id}]/{event}`. Its `{id}` stands for the percent-encoded id of the
    /// record or component.
    const PATH: Option<&'static str> = None;

    /// Checks that this viewer may apply this event to the current state.
    ///
    /// It runs inside the turn, and again after a conflict. It must be pure and quick.
    ///
    /// # Errors
    /// Return a rejection, usually [`Rejection::forbidden`], to refuse the event. The state does not change.
    fn authorize(&self, state: &Self::State, viewer: &Viewer) -> Result<(), Rejection> {
        let _ = (state, viewer);
        Ok(())
    }

    /// Loads data that `apply` needs before the key's turn, such as a price or a user's name.
    ///
    /// It may only read, and the event may still be rejected. Store the results in fields marked `#[serde(skip)]`, which
    /// no request can set. Its time counts towards the event's deadline of 2 s.
    ///
    /// # Errors
    /// Return a rejection to refuse the event. The state does not change.
    fn prepare(&mut self, scene: &PrepareContext) -> impl Future<Output = Result<(), Rejection>> + Send {
        let _ = scene;
        async { Ok(()) }
    }

    /// Changes a copy of the state; the copy is committed once it is saved.
    ///
    /// # Contract
    /// It is pure, synchronous and quick: no I/O, no clock (use [`Context::now`]), no randomness on which the result
    /// depends. After a conflict the engine runs it again on a newer state, and drops what the earlier run put into the
    /// context. The tests of laws 2 and 7 check this.
    ///
    /// # Errors
    /// Return a rejection if a domain rule refuses the event. After it, or after a panic, the state is byte for byte
    /// the same as before.
    fn apply(&self, state: &mut Self::State, context: &mut Context<Self::State>) -> Result<(), Rejection>;

    /// Returns the Datastar action that sends this event, for attributes such as `data-on:click`.
    ///
    /// ```
    /// # use faststate_core::{Context, Event, ReactiveState, Rejection};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Counter { count: i64 }
    /// # impl ReactiveState for Counter { const NAME: &'static str = "counter"; }
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Increment { amount: i64 }
    /// # impl Event for Increment {
    /// #     type State = Counter;
    /// #     const NAME: &'static str = "increment";
    /// #     fn apply(&self, _: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> { Ok(()) }
    /// # }
    /// let click = Increment { amount: 1 }.action().to_string();
    /// assert!(click.starts_with("@post('/faststate/counter/increment',{payload:{'amount':1}"));
    /// ```
    fn action(&self) -> Action {
        let input = serde_json::to_value(self);
        Action::new(&Self::METHOD, Self::State::NAME, Self::NAME, Self::PATH, input)
    }
}

/// A mutation, and the result of its `prepare`.
pub(crate) type Prepared<S> = (Box<dyn Mutation<S>>, Result<(), Rejection>);

/// A mutation of an `S`: an [`Event`] or a closure of the application, without its type.
///
/// The type of the event is erased, that of the state is not, so no downcast happens while an event is processed.
pub(crate) trait Mutation<S>: Send + Sync + 'static {
    /// The name in receipts and in the log.
    fn name(&self) -> &'static str;
    /// Prepares the mutation, and returns it with the result.
    fn prepare(self: Box<Self>, scene: PrepareContext) -> BoxFuture<'static, Prepared<S>>;
    fn authorize(&self, state: &S, viewer: &Viewer) -> Result<(), Rejection>;
    fn apply(&self, state: &mut S, context: &mut Context<S>) -> Result<(), Rejection>;
}

impl<E: Event> Mutation<E::State> for E {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn prepare(mut self: Box<Self>, scene: PrepareContext) -> BoxFuture<'static, Prepared<E::State>> {
        Box::pin(async move {
            let prepared = Event::prepare(&mut *self, &scene).await;
            (self as Box<dyn Mutation<E::State>>, prepared)
        })
    }

    fn authorize(&self, state: &E::State, viewer: &Viewer) -> Result<(), Rejection> {
        Event::authorize(self, state, viewer)
    }

    fn apply(&self, state: &mut E::State, context: &mut Context<E::State>) -> Result<(), Rejection> {
        Event::apply(self, state, context)
    }
}

/// A closure that changes a state.
pub(crate) struct Update<F>(pub(crate) F);

impl<S, F> Mutation<S> for Update<F>
where
    S: ReactiveState,
    F: Fn(&mut S) -> Result<(), Rejection> + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "update"
    }

    fn prepare(self: Box<Self>, _: PrepareContext) -> BoxFuture<'static, Prepared<S>> {
        Box::pin(ready((self as Box<dyn Mutation<S>>, Ok(()))))
    }

    fn authorize(&self, _: &S, _: &Viewer) -> Result<(), Rejection> {
        Ok(())
    }

    fn apply(&self, state: &mut S, _: &mut Context<S>) -> Result<(), Rejection> {
        (self.0)(state)
    }
}

/// A mutation that only changes the messages, timers and jobs of an instance.
pub(crate) struct EditOutbox(pub(crate) OutboxEdit);

impl<S: ReactiveState> Mutation<S> for EditOutbox {
    fn name(&self) -> &'static str {
        "(messages)"
    }

    fn prepare(self: Box<Self>, _: PrepareContext) -> BoxFuture<'static, Prepared<S>> {
        Box::pin(ready((self as Box<dyn Mutation<S>>, Ok(()))))
    }

    fn authorize(&self, _: &S, _: &Viewer) -> Result<(), Rejection> {
        Ok(())
    }

    fn apply(&self, _: &mut S, context: &mut Context<S>) -> Result<(), Rejection> {
        context.edit_outbox(self.0.clone());
        Ok(())
    }
}
