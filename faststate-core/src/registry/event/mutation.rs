//! One try at changing a state: an event, or a closure of the application.

use futures::future::{BoxFuture, ready};

use crate::{Context, Event, PrepareContext, ReactiveState, Rejection, Viewer};

/// An attempt, and what its `prepare` said.
pub(crate) type Prepared<S> = (Box<dyn Mutation<S>>, Result<(), Rejection>);

/// One try at changing an `S`. The event is erased, the state is not, so that nothing is downcast on
/// an event's way.
pub(crate) trait Mutation<S>: Send + Sync + 'static {
    /// What the receipt and the log call it.
    fn name(&self) -> &'static str;
    /// Prepares it, and gives it back.
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
pub(crate) struct Update<F>(F);

impl<F> Update<F> {
    pub(crate) const fn new(change: F) -> Self {
        Self(change)
    }
}

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
