//! HTML that follows a state.

use crate::{Elements, ReactiveState};

/// A server-rendered fragment that follows a state: a topic of its own, `state.view`.
///
/// A page shows a view by placing [`render`](Self::render)'s HTML and following the topic. A
/// follower that joins late or lags gets `render` of the present state, which replaces the fragment.
///
/// # Contract
/// - Pure: the same states give the same elements, and each node renders for its own followers.
/// - Merging `update(a, b)` into `render(a)` gives `render(b)` (law 4); the provided `update`, which
///   renders `b`, does so as long as `render` gives one element with an id.
/// - Escape what people wrote. A panic fails the event that led to it and changes nothing (law 7).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a FastState view",
    label = "this type does not implement `View`",
    note = "implement `View` with `type State`, `const NAME` and `fn render(&self, state: &Self::State) -> Elements`"
)]
pub trait View: Send + Sync + 'static {
    /// The state that is shown.
    type State: ReactiveState;

    /// The name within the state's: `[a-z][a-z0-9_]*` without `__`.
    const NAME: &'static str;

    /// The whole fragment: one element with an id, as [`Elements::outer`] or [`Elements::replace`].
    fn render(&self, state: &Self::State) -> Elements;

    /// What changes on the page from `before` to `after`; by default the whole fragment.
    ///
    /// An empty list states that nothing visible changed. A fragment equal to the one that the page shows is
    /// not sent.
    fn update(&self, before: &Self::State, after: &Self::State) -> Vec<Elements> {
        let _ = before;
        vec![self.render(after)]
    }

    /// What a page shows after the record or component was deleted, given its last state.
    ///
    /// By default nothing is sent: the page keeps what it shows, and the signal `_gone` of the instance becomes true.
    fn gone(&self, last: &Self::State) -> Option<Elements> {
        let _ = last;
        None
    }
}
