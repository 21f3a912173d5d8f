//! The figures of one node, for status pages and probes.

use std::time::Duration;

use serde::Serialize;

/// The figures of one node.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// This node's name, as set in the registry's builder; random by default.
    pub node: String,
    /// The names of the other nodes from which a message arrived within the last 4 s.
    pub nodes: Vec<String>,
    /// Seconds since the registry was built.
    pub uptime: u64,
    /// Topics with followers.
    pub topics: usize,
    /// Followers of all topics.
    pub followers: usize,
    /// Instances in memory.
    pub instances: usize,
    /// Events accepted since the start.
    pub events: u64,
    /// Conflicts with another node since the start.
    pub conflicts: u64,
    /// The health of each store.
    pub stores: Vec<StoreHealth>,
    /// The unfinished messages and jobs of all nodes, if a state sends messages and its store answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageHealth>,
}

/// The unfinished messages and jobs in the stores of the states that send messages. Timers do not count before they are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MessageHealth {
    /// Messages and jobs that are not finished.
    pub pending: u64,
    /// Messages, timers and jobs that wait for an operator.
    pub parked: u64,
    /// Milliseconds since the oldest of them was requested.
    pub oldest_ms: u64,
}

/// The present health of one store.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StoreHealth {
    /// The store's name; `default` for the default store, `memory` for the registry's own memory.
    pub name: String,
    /// Whether the store answers.
    pub healthy: bool,
    /// The time to the answer in milliseconds, or the time that has passed without an answer.
    pub latency_ms: f64,
}

impl Health {
    /// Returns whether every store answers.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.stores.iter().all(|store| store.healthy)
    }
}

impl StoreHealth {
    pub(crate) fn new(name: impl Into<String>, healthy: bool, latency: Duration) -> Self {
        Self { name: name.into(), healthy, latency_ms: latency.as_secs_f64() * 1000.0 }
    }
}
