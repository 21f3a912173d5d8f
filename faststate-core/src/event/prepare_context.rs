//! What `prepare` can look at.

use std::sync::Arc;

use super::Environment;
use crate::{Error, Handle, Key, ReactiveState, Snapshot, Viewer};

/// The context of an event's `prepare`: the viewer, the instance, other states, and the application's resources.
#[derive(Debug)]
pub struct PrepareContext {
    pub(crate) key: Key,
    pub(crate) viewer: Viewer,
    pub(crate) environment: Arc<Environment>,
}

impl PrepareContext {
    /// The instance that the event is about.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The viewer that sent the event.
    #[must_use]
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The resource of type `T` that the builder was given (a database pool, say).
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.environment.resources().get()
    }

    /// The present state of the viewer's instance of `S`, with an id for records and components.
    ///
    /// # Contract
    /// Read-only, and not one transaction with the event: the other state may have changed before the event is
    /// applied. Use it for what may be a moment old (a price, a name, whether an account is open), and not for
    /// an amount that must not be spent twice.
    ///
    /// No access checks, as for a [`Handle`]: `prepare` is the application's own code. So check an id that came
    /// with the input before an answer depends on a record that the viewer may not see.
    ///
    /// # Errors
    /// As [`Registry::key`](crate::Registry::key) and [`Registry::read`](crate::Registry::read). Where the store does not answer, the
    /// state is [what this node remembers](Snapshot::is_stale).
    pub async fn read<S: ReactiveState>(&self, id: Option<&str>) -> Result<Snapshot<S>, Error> {
        self.read_as(&self.viewer, id).await
    }

    /// Like [`read`](Self::read), for another viewer's instance: of another user, say.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_as<S: ReactiveState>(
        &self,
        viewer: &Viewer,
        id: Option<&str>,
    ) -> Result<Snapshot<S>, Error> {
        Handle::of(self.environment.registry()?, viewer, id)?.read().await
    }
}
