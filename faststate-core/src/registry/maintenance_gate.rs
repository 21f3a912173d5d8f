//! A registry wrapper that refuses events during maintenance.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;

use super::{Call, Error, Outcome, Registry, StateSnapshot, interface::Engine};
use crate::{Handle, Health, Key, ReactiveState, Rejection, Revocation, Viewer};

/// Wraps a registry, and refuses events from outside during maintenance. Pages, streams and the application's own
/// mutations continue to work.
pub struct MaintenanceGate {
    registry: Arc<dyn Registry>,
    closed: AtomicBool,
    rule: Option<Box<dyn Rule>>,
    message: Cow<'static, str>,
}

/// A condition under which calls are refused.
#[async_trait]
trait Rule: Send + Sync {
    async fn refuses(&self, call: &Call) -> Result<bool, Error>;
}

/// A rule that depends on a state.
struct ByState<S, F> {
    state: Handle<S>,
    refuses: F,
}

#[async_trait]
impl<S: ReactiveState, F: Fn(&S, &Call) -> bool + Send + Sync> Rule for ByState<S, F> {
    async fn refuses(&self, call: &Call) -> Result<bool, Error> {
        Ok((self.refuses)(&*self.state.read().await?, call))
    }
}

impl MaintenanceGate {
    /// Wraps `registry` without refusing events yet. Refused callers receive `message`.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { registry, closed: AtomicBool::new(false), rule: None, message: message.into() }
    }

    /// Also refuses the calls for which `refuses` returns true, given the current value of a state.
    ///
    /// With a switch in a state of settings, for example, maintenance applies on every node and survives restarts.
    /// `refuses` must admit the event that ends the maintenance.
    #[must_use]
    pub fn when<S: ReactiveState>(
        mut self,
        state: Handle<S>,
        refuses: impl Fn(&S, &Call) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.rule = Some(Box::new(ByState { state, refuses }));
        self
    }

    /// Refuses events from now on.
    pub fn enable(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Accepts events again.
    pub fn disable(&self) {
        self.closed.store(false, Ordering::Release);
    }
}

#[async_trait]
impl Registry for MaintenanceGate {
    fn key(&self, state: &str, viewer: &Viewer, id: Option<&str>) -> Result<Key, Error> {
        self.registry.key(state, viewer, id)
    }

    fn allows(&self, key: &Key, viewer: &Viewer) -> bool {
        self.registry.allows(key, viewer)
    }

    async fn dispatch(&self, call: Call) -> Result<Outcome, Error> {
        let by_rule = match &self.rule {
            Some(rule) => rule.refuses(&call).await?,
            None => false,
        };
        if by_rule || self.closed.load(Ordering::Acquire) {
            return Err(Rejection::conflict(self.message.clone()).into());
        }
        self.registry.dispatch(call).await
    }

    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error> {
        self.registry.read(key).await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.registry.revoke(revocation).await
    }

    async fn health(&self) -> Health {
        self.registry.health().await
    }

    async fn settle(&self) {
        self.registry.settle().await;
    }

    async fn leave(&self) {
        self.registry.leave().await;
    }

    fn engine(&self) -> &dyn Engine {
        self.registry.engine()
    }
}

impl fmt::Debug for MaintenanceGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaintenanceGate").field("closed", &self.closed).finish_non_exhaustive()
    }
}
