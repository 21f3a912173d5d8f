//! The configuration of a state.

use std::time::Duration;

use super::Access;
use crate::Scope;

/// Name of the registry's own memory, which holds the states that are not persisted.
pub(super) const MEMORY: &str = "memory";
/// Name of the store that `persist()` uses.
pub(super) const DEFAULT: &str = "default";

/// The configuration of a state: its scope, its access policy, where it is saved, and for how long.
#[derive(Clone, Debug)]
pub struct StateConfig {
    pub(crate) scope: Scope,
    pub(crate) access: Option<Access>,
    pub(crate) store: Saved,
    pub(crate) every: Option<Duration>,
    pub(crate) each_node: bool,
    pub(crate) ttl: Option<Duration>,
    pub(crate) queue: usize,
    pub(crate) log_bytes: usize,
    pub(crate) pace: Duration,
    pub(crate) sends_messages: bool,
}

/// The place where a state is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// The registry's own memory, which is lost with the process.
    Memory,
    /// The store with this name; the default store is `""`.
    Store(String),
}

impl StateConfig {
    /// One instance per browser session, kept 24 hours after its last use.
    #[must_use]
    pub fn session() -> Self {
        Self::new(Scope::Session).ttl(Duration::from_hours(24))
    }

    /// One instance per signed-in user.
    #[must_use]
    pub fn user() -> Self {
        Self::new(Scope::User)
    }

    /// One instance, shared by all viewers. Requires an [`access`](Self::access) policy.
    #[must_use]
    pub fn global() -> Self {
        Self::new(Scope::Global)
    }

    /// One instance per id, shared by all viewers. Requires an [`access`](Self::access) policy.
    #[must_use]
    pub fn record() -> Self {
        Self::new(Scope::Record)
    }

    /// One instance per id within a session, kept 24 hours after its last use.
    #[must_use]
    pub fn component() -> Self {
        Self::new(Scope::Component).ttl(Duration::from_hours(24))
    }

    /// Sets the access policy. It is required for the shared scopes, global and record. Instances of the other scopes
    /// belong to one viewer, and a policy restricts them further.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// Saves each change in the registry's default store before it is acknowledged (law 1).
    ///
    /// Without this setting, the state is kept in the process's memory.
    #[must_use]
    pub fn persist(self) -> Self {
        self.persist_in("")
    }

    /// Like [`persist`](Self::persist), in the store with this name.
    #[must_use]
    pub fn persist_in(mut self, store: impl Into<String>) -> Self {
        self.store = Saved::Store(store.into());
        self
    }

    /// Acknowledges events from memory, and saves every `interval`, when the registry settles, and before an unused
    /// instance is evicted.
    ///
    /// This is faster, but a crash loses the events that were acknowledged during at most one interval. It works on one
    /// node only, together with [`persist`](Self::persist) or [`persist_in`](Self::persist_in).
    #[must_use]
    pub const fn persist_every(mut self, interval: Duration) -> Self {
        self.every = Some(interval);
        self
    }

    /// Gives each node its own instances, which other nodes do not see; for example, figures of a node.
    ///
    /// A follower sees the instance of the node that serves its stream. The state must not be persisted.
    #[must_use]
    pub const fn node_local(mut self) -> Self {
        self.each_node = true;
        self
    }

    /// Sets how long an instance is kept after its last use or follower, by the store's clock. The resolution is one
    /// millisecond, and the value is clamped to between 50 ms and 100 years.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl.clamp(Duration::from_millis(50), Duration::from_hours(24 * 365 * 100)));
        self
    }

    /// Permits the state's events to request messages, timers and jobs ([`Context::send`](crate::Context::send)).
    ///
    /// Each node then asks the state's store about once per second for messages and timers that are due. Without the
    /// setting, there is no such call. It excludes [`persist_every`](Self::persist_every), which may lose a message that
    /// was acknowledged.
    #[must_use]
    pub const fn sends_messages(mut self) -> Self {
        self.sends_messages = true;
        self
    }

    /// Sets how many events may be queued for one instance (default: 1,024; minimum: 1). Further events are refused with
    /// [`Error::Busy`](super::Error::Busy).
    #[must_use]
    pub const fn max_queued_events(mut self, events: usize) -> Self {
        self.queue = if events == 0 { 1 } else { events };
        self
    }

    /// Sets how many bytes of frames a topic keeps for followers that lag (default: 64 KiB). A follower that lags further
    /// receives a snapshot.
    ///
    /// The newest frame is kept whatever its size. In addition, a topic caches up to eight concatenations of frames, each
    /// shared by all followers that missed the same frames.
    #[must_use]
    pub const fn replay_buffer_bytes(mut self, bytes: usize) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Sets the minimum interval between frames for one topic (default: none; maximum: 1 s).
    ///
    /// Use a few milliseconds for a state that changes faster than a person can see. The first change is sent at once,
    /// and the changes within the interval are sent together at its end. Events are answered as quickly as without it,
    /// and the last change is always sent.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use faststate_core::{Access, StateConfig};
    /// StateConfig::global().access(Access::public()).min_frame_interval(Duration::from_millis(16));
    /// ```
    #[must_use]
    pub fn min_frame_interval(mut self, least: Duration) -> Self {
        self.pace = least.min(Duration::from_secs(1));
        self
    }

    /// The name of the store that the state is saved in.
    pub(super) fn store_name(&self) -> &str {
        match &self.store {
            Saved::Memory => MEMORY,
            Saved::Store(name) if name.is_empty() => DEFAULT,
            Saved::Store(name) => name,
        }
    }

    const fn new(scope: Scope) -> Self {
        Self {
            scope,
            access: None,
            store: Saved::Memory,
            every: None,
            each_node: false,
            ttl: None,
            queue: 1024,
            log_bytes: 64 * 1024,
            pace: Duration::ZERO,
            sends_messages: false,
        }
    }
}
