//! The context of an event's `prepare`.

use std::sync::Arc;

use super::{Environment, Handle, Snapshot};
use crate::{Error, Key, ReactiveState, Viewer};

/// The context of an event's `prepare`: the viewer, the instance, other states, and the application's resources.
#[derive(Debug)]
pub struct PrepareContext {
    pub(crate) key: Key,
    pub(crate) viewer: Viewer,
    pub(crate) environment: Arc<Environment>,
}

impl PrepareContext {
    /// Returns the key of the instance that the event will change.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the viewer that sent the event.
    #[must_use]
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// Returns the resource of type `T` that was passed to the builder, for example a database pool.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.environment.resources().get()
    }

    /// Reads the viewer's instance of `S`. Records and components have an id.
    ///
    /// # Contract
    /// The read and the event are not one transaction: the other state may change before the event is applied. Use the
    /// result for facts that may be a moment old (a price, a name, whether an account is open), not for an amount that
    /// must not be spent twice. If the store does not respond, the result is the state that this node has in memory
    /// ([`Snapshot::is_stale`]).
    ///
    /// There are no access checks, because `prepare` is the application's own code. Check an id that came with the input
    /// before the reply depends on a record that the viewer may not see.
    ///
    /// # Errors
    /// Those of [`Registry::key`](crate::Registry::key) and [`Registry::read`](crate::Registry::read).
    pub async fn read<S: ReactiveState>(&self, id: Option<&str>) -> Result<Snapshot<S>, Error> {
        self.read_as(&self.viewer, id).await
    }

    /// Reads another viewer's instance of `S`, for example that of another user. See [`read`](Self::read).
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub async fn read_as<S: ReactiveState>(
        &self,
        viewer: &Viewer,
        id: Option<&str>,
    ) -> Result<Snapshot<S>, Error> {
        Handle::of(self.environment.registry()?, viewer, id)?.read().await
    }
}
