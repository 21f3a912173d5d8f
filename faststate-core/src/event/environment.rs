//! The environment of events: the application's resources, and the registry.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use crate::{Error, Registry};

/// The resources and the registry that the events of one registry can access.
pub(crate) struct Environment {
    resources: Resources,
    /// The registry, which is set once it is built.
    registry: OnceLock<Weak<dyn Registry>>,
}

/// Values of the application, at most one of each type.
#[derive(Default)]
pub(crate) struct Resources(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Environment {
    pub(crate) const fn new(resources: Resources) -> Self {
        Self { resources, registry: OnceLock::new() }
    }

    pub(crate) const fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Sets the registry. Later calls have no effect.
    pub(crate) fn attach(&self, registry: Weak<dyn Registry>) {
        let _ = self.registry.set(registry);
    }

    pub(crate) fn registry(&self) -> Result<Arc<dyn Registry>, Error> {
        let registry = self.registry.get().and_then(Weak::upgrade);
        registry.ok_or(Error::Busy("the registry is shutting down"))
    }
}

impl Resources {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }

    pub(crate) fn shared(&self, kind: TypeId) -> Option<Arc<dyn Any + Send + Sync>> {
        self.0.get(&kind).map(Arc::clone)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} resources)", self.resources.0.len())
    }
}
