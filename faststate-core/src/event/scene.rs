//! What `prepare` can look at.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
};

use crate::{Key, Viewer};

/// What an event's `prepare` can look at: who asks, about which instance, and the application's
/// resources.
#[derive(Debug)]
pub struct Scene {
    pub(crate) key: Key,
    pub(crate) viewer: Viewer,
    pub(crate) resources: Arc<Resources>,
}

impl Scene {
    /// The instance that the event is about.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Who asks.
    #[must_use]
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The resource of type `T` that the builder was given (a database pool, say).
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.resources.get()
    }
}

/// One value per type.
#[derive(Default)]
pub(crate) struct Resources(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl Resources {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(value));
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resources({})", self.0.len())
    }
}
