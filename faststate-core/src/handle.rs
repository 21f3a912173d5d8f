//! Typed access to an instance.

use std::{any::TypeId, fmt, marker::PhantomData, ops::Deref, sync::Arc};

use crate::{
    Error, Event, EventId, Key, ReactiveState, Registry, Rejection, Version, Viewer,
    registry::{Mutation, Outcome, Update, mistakes::Part, request::Job},
};

/// Typed access to one instance, for application code, background work and tests.
///
/// Cheap to clone. No access checks: the application is trusted.
pub struct Handle<S> {
    registry: Arc<dyn Registry>,
    key: Key,
    state: PhantomData<fn() -> S>,
}

/// A state as it was at one version. Cheap to clone.
#[derive(Debug)]
pub struct Snapshot<S> {
    state: Arc<S>,
    version: Version,
    stale: bool,
}

impl<S: ReactiveState> Handle<S> {
    /// The handle of `viewer`'s instance of `S`; `id` for records and components.
    ///
    /// # Errors
    /// As [`Registry::key`].
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

    /// The instance's key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The registry, for work that concerns other instances too.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// The resource of type `T` that the builder was given (a mail client, say).
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.registry.engine().resource(TypeId::of::<T>())?.downcast().ok()
    }

    /// The present state; where the store does not answer, [what this node remembers of
    /// it](Snapshot::is_stale).
    ///
    /// # Errors
    /// As [`Registry::read`].
    pub async fn read(&self) -> Result<Snapshot<S>, Error> {
        let reading = self.registry.read(&self.key).await?;
        let state = reading.state.downcast().map_err(|_| Error::Unknown)?;
        Ok(Snapshot { state, version: reading.version, stale: reading.stale })
    }

    /// Changes the state in its turn, by a closure that may run again after a conflict.
    ///
    /// # Errors
    /// The closure's rejection, or as [`Registry::dispatch`]. Nothing has changed.
    pub async fn update(
        &self,
        change: impl Fn(&mut S) -> Result<(), Rejection> + Send + Sync + 'static,
    ) -> Result<Outcome, Error> {
        self.run(Box::new(Update::new(change)), Viewer::application(), None).await
    }

    /// Sends an event as the application.
    ///
    /// # Errors
    /// The event's rejection, or as [`Registry::dispatch`].
    pub async fn send(&self, event: impl Event<State = S>) -> Result<Outcome, Error> {
        self.run(Box::new(event), Viewer::application(), None).await
    }

    /// Sends an event as `viewer`, once per `id` however often it is sent (law 3).
    ///
    /// # Errors
    /// The event's rejection, or as [`Registry::dispatch`].
    pub async fn send_as(
        &self,
        event: impl Event<State = S>,
        viewer: Viewer,
        id: EventId,
    ) -> Result<Outcome, Error> {
        self.run(Box::new(event), viewer, Some(id)).await
    }

    /// How many streams follow the instance on this node.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.registry.engine().followers(&self.key)
    }

    /// Deletes the instance: what follows it sees the default under a new epoch.
    ///
    /// # Errors
    /// As [`Registry::dispatch`].
    pub async fn delete(&self) -> Result<(), Error> {
        self.registry.engine().delete(&self.key).await
    }

    async fn run(
        &self,
        mutation: Box<dyn Mutation<S>>,
        viewer: Viewer,
        id: Option<EventId>,
    ) -> Result<Outcome, Error> {
        self.registry.engine().run(&self.key, Job { mutation: Box::new(mutation), viewer, id }).await
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

impl<S> Clone for Snapshot<S> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), ..*self }
    }
}

impl<S> Snapshot<S> {
    /// The version at which the state was this.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Whether the store did not answer when it was asked, so that this is from memory and there may be
    /// something newer.
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
