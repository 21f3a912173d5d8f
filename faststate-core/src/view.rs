//! Views: HTML that follows a state.

use crate::{Elements, ReactiveState};

/// A server-rendered HTML fragment that follows a state, as a topic of its own: `state.view`.
///
/// A page shows a view by placing the HTML of [`render`](Self::render) and following the topic. A follower that joins
/// late or has fallen behind receives `render` of the present state, which replaces the fragment.
///
/// # Contract
/// - All methods are pure: equal states produce equal elements. Each node renders for its own followers.
/// - Patching `update(a, b)` into `render(a)` produces `render(b)` (law 4).
/// - A method that panics fails the event that caused the call, and the event changes nothing (law 7).
///
/// # For implementers
/// - Render one element with an id, and give each element of a list an id. The provided [`update`](Self::update)
///   renders the whole fragment, which needs nothing else.
/// - Override `update` only if the fragment is large. It may send only the elements that differ.
/// - Escape all text that users have entered.
/// - Every follower receives the same elements, so render nothing that one of them must not see.
///
/// ```
/// # use faststate_core::{Elements, ReactiveState, View};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)]
/// # struct Counter { count: i64 }
/// # impl ReactiveState for Counter { const NAME: &'static str = "counter"; }
/// struct Digits;
///
/// impl View for Digits {
///     type State = Counter;
///     const NAME: &'static str = "digits";
///
///     fn render(&self, counter: &Counter) -> Elements {
///         Elements::outer(format!("<output id=\"digits\">{}</output>", counter.count))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a FastState view",
    label = "this type does not implement `View`",
    note = "implement `View` with `type State`, `const NAME` and `fn render(&self, state: &Self::State) -> Elements`"
)]
pub trait View: Send + Sync + 'static {
    /// The state that is shown.
    type State: ReactiveState;

    /// The name, unique among the views of the state: `[a-z][a-z0-9_]*` without `__`.
    const NAME: &'static str;

    /// Renders the whole fragment: one element with an id, as [`Elements::outer`] or [`Elements::replace`].
    fn render(&self, state: &Self::State) -> Elements;

    /// Renders the elements that change on the page from `before` to `after`; by default, the whole fragment.
    ///
    /// An empty list means that nothing visible changed. A fragment equal to the one that the page shows is not sent.
    fn update(&self, before: &Self::State, after: &Self::State) -> Vec<Elements> {
        let _ = before;
        vec![self.render(after)]
    }

    /// Renders the fragment that a page shows after the record or component was deleted, from its last state.
    ///
    /// By default nothing is sent: the page keeps the fragment, and the signal `_gone` of the instance becomes true.
    fn gone(&self, last: &Self::State) -> Option<Elements> {
        let _ = last;
        None
    }
}
