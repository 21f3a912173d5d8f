//! What changes a state.

mod context;
mod environment;
mod id;
mod prepare_context;
mod reply;

use std::future::Future;

use http::Method;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::context::{Aftermath, Effects};
pub(crate) use self::environment::{Environment, Resources};
pub use self::{
    context::Context,
    id::{EventId, EventIdError},
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
/// that the field asks for: `"5"` is a number, `"on"`, `"true"` and `"1"` are true, `""` is an absent
/// number or `None`. A name given twice is refused. `#[serde(flatten)]` and tagged enums buffer their
/// input before they know its types, so inside them nothing is converted: give them JSON of the exact
/// types. `Option` and `#[serde(default)]` fields may be absent.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a FastState event",
    label = "this type does not implement `Event`",
    note = "derive `serde::Serialize` and `serde::Deserialize`, then implement `Event` with `type State`, `const NAME` and `fn apply`"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The state that this event changes.
    type State: ReactiveState;

    /// The name within the state's: `[a-z][a-z0-9_]*` without `__`, at most 64 bytes.
    const NAME: &'static str;

    /// The HTTP method. A GET that changes something is asked for here or does not exist.
    const METHOD: Method = Method::POST;

    /// A path of its own instead of `/faststate/{state}[/{id}]/{event}`; `{id}` in it stands for the
    /// record's or component's id, percent-encoded.
    const PATH: Option<&'static str> = None;

    /// Whether this viewer may do this, looking at the present state.
    ///
    /// Runs inside the turn, again after a conflict. Pure and quick.
    ///
    /// # Errors
    /// The refusal, usually [`Rejection::forbidden`]; nothing has changed.
    fn authorize(&self, state: &Self::State, viewer: &Viewer) -> Result<(), Rejection> {
        let _ = (state, viewer);
        Ok(())
    }

    /// Looks things up before the key's turn: a price, a user's name.
    ///
    /// Read-only, outside the turn, and perhaps without effect: what it finds goes into fields marked
    /// `#[serde(skip)]`, which no request can fill. Counts towards the event's deadline of 2 s.
    ///
    /// # Errors
    /// A refusal; nothing has changed.
    fn prepare(&mut self, scene: &PrepareContext) -> impl Future<Output = Result<(), Rejection>> + Send {
        let _ = scene;
        async { Ok(()) }
    }

    /// Changes a copy of the state; the copy is committed once it is saved.
    ///
    /// # Contract
    /// Pure, synchronous and quick: no I/O, no clock (use [`Context::now`]), no randomness that
    /// matters. The engine may run it again on a newer state after a conflict, and drops what an
    /// earlier run put into the context. Law 7's and law 2's suites check it.
    ///
    /// # Errors
    /// A refusal by a rule of the domain. After it, or after a panic, the state is byte for byte what
    /// it was.
    fn apply(&self, state: &mut Self::State, context: &mut Context<Self::State>) -> Result<(), Rejection>;

    /// The Datastar action that sends this event, for `data-on:click` and its like.
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
