//! One try at changing a state: an event, or a closure of the application.

use futures::future::BoxFuture;

use crate::{Context, Event, ReactiveState, Rejection, Scene, Viewer};

/// One try at changing an `S`. The event is erased, the state is not, so that nothing is downcast on
/// an event's way.
pub(crate) trait Attempt<S>: Send + Sync {
    /// What the receipt and the log call it.
    fn name(&self) -> &'static str;
    fn prepare<'a>(&'a mut self, scene: &'a Scene) -> BoxFuture<'a, Result<(), Rejection>>;
    fn authorize(&self, state: &S, viewer: &Viewer) -> Result<(), Rejection>;
    fn apply(&self, state: &mut S, context: &mut Context<S>) -> Result<(), Rejection>;
}

impl<E: Event> Attempt<E::State> for E {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn prepare<'a>(&'a mut self, scene: &'a Scene) -> BoxFuture<'a, Result<(), Rejection>> {
        Box::pin(Event::prepare(self, scene))
    }

    fn authorize(&self, state: &E::State, viewer: &Viewer) -> Result<(), Rejection> {
        Event::authorize(self, state, viewer)
    }

    fn apply(&self, state: &mut E::State, context: &mut Context<E::State>) -> Result<(), Rejection> {
        Event::apply(self, state, context)
    }
}

/// An event that its `prepare` refused: it may be the repeat of one that was applied before, so it takes
/// its turn all the same.
pub(super) struct Refused {
    pub(super) name: &'static str,
    pub(super) rejection: Rejection,
}

impl<S: ReactiveState> Attempt<S> for Refused {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare<'a>(&'a mut self, _: &'a Scene) -> BoxFuture<'a, Result<(), Rejection>> {
        Box::pin(async { Ok(()) })
    }

    fn authorize(&self, _: &S, _: &Viewer) -> Result<(), Rejection> {
        Err(self.rejection.clone())
    }

    fn apply(&self, _: &mut S, _: &mut Context<S>) -> Result<(), Rejection> {
        Err(self.rejection.clone())
    }
}

/// A closure that changes a state.
pub(crate) struct Update<F>(F);

impl<F> Update<F> {
    pub(crate) const fn new(change: F) -> Self {
        Self(change)
    }
}

impl<S, F> Attempt<S> for Update<F>
where
    S: ReactiveState,
    F: Fn(&mut S) -> Result<(), Rejection> + Send + Sync,
{
    fn name(&self) -> &'static str {
        "update"
    }

    fn prepare<'a>(&'a mut self, _: &'a Scene) -> BoxFuture<'a, Result<(), Rejection>> {
        Box::pin(async { Ok(()) })
    }

    fn authorize(&self, _: &S, _: &Viewer) -> Result<(), Rejection> {
        Ok(())
    }

    fn apply(&self, state: &mut S, _: &mut Context<S>) -> Result<(), Rejection> {
        (self.0)(state)
    }
}
