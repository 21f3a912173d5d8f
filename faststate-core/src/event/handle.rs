//! Typed access to an instance.

use std::{any::TypeId, fmt, marker::PhantomData, ops::Deref, sync::Arc, time::SystemTime};

use super::{EditOutbox, Event, EventId, Mutation, OutboxEdit, Update};
use crate::{
    Error, Key, ReactiveState, Registry, Rejection, Version, Viewer,
    registry::{Outcome, instances::Instances, mistakes::Part, request::HandleRequest},
};

/// Typed access to one instance, for application code, background work and tests.
///
/// A handle is cheap to clone. Its methods do not check access, because the application is trusted.
pub struct Handle<S> {
    registry: Arc<dyn Registry>,
    key: Key,
    state: PhantomData<fn() -> S>,
}

/// A state at one version. Cheap to clone.
#[derive(Debug)]
pub struct Snapshot<S> {
    state: Arc<S>,
    version: Version,
    stale: bool,
}

impl<S: ReactiveState> Handle<S> {
    /// Creates a handle for `viewer`'s instance of `S`. Records and components have an `id`.
    ///
    /// # Errors
    /// Those of [`Registry::key`].
    pub fn of(registry: Arc<dyn Registry>, viewer: &Viewer, id: Option<&str>) -> Result<Self, Error> {
        let key = registry.key(S::NAME, viewer, id).inspect_err(|error| {
            if matches!(error, Error::Unknown) {
                registry.engine().report_mistake(S::NAME, id.is_some(), Part::Signals);
            }
        })?;
        Ok(Self::new(registry, key))
    }

    pub(crate) const fn new(registry: Arc<dyn Registry>, key: Key) -> Self {
        Self { registry, key, state: PhantomData }
    }

    /// Returns the instance's key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the registry, for work that concerns other instances as well.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// Returns the resource of type `T` that was passed to the builder, for example a mail client.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.registry.engine().resource(TypeId::of::<T>())?.downcast().ok()
    }

    /// Reads the current state. If the store does not respond, the result is the state that this node has in memory
    /// ([`Snapshot::is_stale`]).
    ///
    /// # Errors
    /// Those of [`Registry::read`].
    pub async fn read(&self) -> Result<Snapshot<S>, Error> {
        let found = self.instances()?.read(&self.key).await?;
        let state = found.state.downcast().map_err(|_| Error::Unknown)?;
        Ok(Snapshot { state, version: found.version, stale: found.stale })
    }

    /// Changes the state in its turn, by a closure that may run again after a conflict.
    ///
    /// # Errors
    /// The closure's rejection, or an error of [`Registry::dispatch`].
    ///
    /// # Cancellation
    /// Dropping the future does not stop the change: once queued, it runs to its end.
    pub async fn update(
        &self,
        change: impl Fn(&mut S) -> Result<(), Rejection> + Send + Sync + 'static,
    ) -> Result<Outcome, Error> {
        self.run(Box::new(Update(change)), Viewer::application(), None).await
    }

    /// Sends an event as the application.
    ///
    /// # Errors
    /// The event's rejection, or an error of [`Registry::dispatch`].
    ///
    /// # Cancellation
    /// Dropping the future does not stop the event: once queued, it runs to its end.
    pub async fn send(&self, event: impl Event<State = S>) -> Result<Outcome, Error> {
        self.run(Box::new(event), Viewer::application(), None).await
    }

    /// Sends an event as `viewer`. Events with the same `id` are applied once (law 3).
    ///
    /// # Errors
    /// The event's rejection, or an error of [`Registry::dispatch`].
    ///
    /// # Cancellation
    /// Dropping the future does not stop the event: once queued, it runs to its end.
    pub async fn send_as(
        &self,
        event: impl Event<State = S>,
        viewer: Viewer,
        id: EventId,
    ) -> Result<Outcome, Error> {
        self.run(Box::new(event), viewer, Some(id)).await
    }

    /// Applies an event to this instance at a time of the store's clock (law 16). See [`Context::schedule`].
    ///
    /// When this returns, the timer is saved.
    ///
    /// # Errors
    /// Those of [`Registry::dispatch`], except a rejection. [`Error::Internal`] if the state does not declare
    /// [`sends_messages`](crate::StateConfig::sends_messages), or the event is not registered.
    ///
    /// # Cancellation
    /// Dropping the future does not stop the change: once queued, it runs to its end.
    ///
    /// [`Context::schedule`]: crate::Context::schedule
    pub async fn schedule(
        &self,
        name: impl Into<String> + Send,
        at: SystemTime,
        event: impl Event<State = S>,
    ) -> Result<(), Error> {
        let edit = OutboxEdit::schedule(name.into(), at, &event);
        let edit = edit.map_err(|error| Error::internal("the event of a timer cannot be encoded", &error))?;
        self.edit_outbox(edit).await
    }

    /// Cancels the timer with this name, if there is one.
    ///
    /// # Errors
    /// Those of [`schedule`](Self::schedule).
    ///
    /// # Cancellation
    /// Dropping the future does not stop the change: once queued, it runs to its end.
    pub async fn cancel(&self, name: impl Into<String> + Send) -> Result<(), Error> {
        self.edit_outbox(OutboxEdit::Cancel { name: name.into() }).await
    }

    /// Returns how many streams follow the instance on this node.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.registry.engine().followers(&self.key)
    }

    /// Deletes the instance. Its followers receive the initial state under a new epoch.
    ///
    /// # Errors
    /// Those of [`Registry::dispatch`], except a rejection.
    ///
    /// # Cancellation
    /// Dropping the future does not stop the deletion: once queued, it runs to its end.
    pub async fn delete(&self) -> Result<(), Error> {
        self.instances()?.delete(&self.key).await
    }

    /// Changes the messages, timers and jobs of the instance.
    pub(crate) async fn edit_outbox(&self, edit: OutboxEdit) -> Result<(), Error> {
        self.run(Box::new(EditOutbox(edit)), Viewer::application(), None).await.map(drop)
    }

    async fn run(
        &self,
        mutation: Box<dyn Mutation<S>>,
        viewer: Viewer,
        id: Option<EventId>,
    ) -> Result<Outcome, Error> {
        let job = HandleRequest { mutation: Box::new(mutation), viewer, id };
        self.instances()?.run(&self.key, job).await
    }

    fn instances(&self) -> Result<&dyn Instances, Error> {
        self.registry.engine().instances(self.key.state())
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { registry: Arc::clone(&self.registry), key: self.key.clone(), state: PhantomData }
    }
}

impl<S> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.key).finish()
    }
}

impl<S> Snapshot<S> {
    /// Returns the version of the state.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns whether the store did not respond to the last call, so that it may contain a newer version.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale
    }
}

impl<S> Deref for Snapshot<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.state
    }
}

impl<S> Clone for Snapshot<S> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), ..*self }
    }
}
