//! How a state is kept.

use std::time::Duration;

use super::Access;
use crate::Scope;

/// How a state is kept: its scope, who may see it, where it is saved, for how long.
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
}

/// Where a state is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// In the registry's own memory: gone with the process.
    Memory,
    /// In the store with this name; the default store is `""`.
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

    /// One instance for all. Shared: declare its [`access`](Self::access).
    #[must_use]
    pub fn global() -> Self {
        Self::new(Scope::Global)
    }

    /// One instance per id, shared: declare its [`access`](Self::access).
    #[must_use]
    pub fn record() -> Self {
        Self::new(Scope::Record)
    }

    /// One instance per id within a session, kept 24 hours after its last use.
    #[must_use]
    pub fn component() -> Self {
        Self::new(Scope::Component).ttl(Duration::from_hours(24))
    }

    /// Who may see and change it. Required for the shared scopes, global and record; the others
    /// belong to their viewer, and a policy restricts them further.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// Saves each change in the registry's default store before it is acknowledged (law 1).
    ///
    /// Without it a state lives in the process's memory.
    #[must_use]
    pub fn persist(self) -> Self {
        self.persist_in("")
    }

    /// Like [`persist`](Self::persist), in the store of this name.
    #[must_use]
    pub fn persist_in(mut self, store: impl Into<String>) -> Self {
        self.store = Saved::Store(store.into());
        self
    }

    /// Acknowledges from memory and saves every `interval`, when the registry settles, and before an unused
    /// record leaves memory: faster, and after a crash at most an interval of acknowledged events is lost.
    /// On one node only, with [`persist`](Self::persist) or [`persist_in`](Self::persist_in) for where.
    #[must_use]
    pub const fn persist_every(mut self, interval: Duration) -> Self {
        self.every = Some(interval);
        self
    }

    /// Lets each of several nodes have its own, which the others know nothing of: figures of a node, say. Who
    /// follows it sees that of the node that serves the stream. For a state that is not persisted.
    #[must_use]
    pub const fn node_local(mut self) -> Self {
        self.each_node = true;
        self
    }

    /// How long an instance is kept after its last use or follower, by the store's clock; a
    /// resolution of a millisecond, from 50 ms to a hundred years.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl.clamp(Duration::from_millis(50), Duration::from_hours(24 * 365 * 100)));
        self
    }

    /// How many events may wait for one instance's turn (1,024, at least one); one more is refused.
    #[must_use]
    pub const fn max_queued_events(mut self, events: usize) -> Self {
        self.queue = if events == 0 { 1 } else { events };
        self
    }

    /// How many bytes of frames a topic keeps for followers that lag (64 KiB); beyond it they get a
    /// snapshot. The newest frame stays, however large; and what several followers missed is put together
    /// once for all of them, at most eight times.
    #[must_use]
    pub const fn replay_buffer_bytes(mut self, bytes: usize) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// How long after followers were told of a change they are told of the next, at the least (not at all; at
    /// most a second).
    ///
    /// For a state that changes faster than anybody can look, a few milliseconds: the first change goes out at
    /// once, and what comes within that time goes out together at its end, as one. Events are answered as
    /// quickly as without it, and the last change always goes out.
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
        }
    }
}
