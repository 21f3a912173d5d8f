//! What the status page and the probes read.

use std::time::Duration;

use serde::Serialize;

/// Figures of one node.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// This node's name, as the registry's builder was told; random otherwise.
    pub node: String,
    /// The names of the other nodes that were heard of within the last 4 seconds.
    pub nodes: Vec<String>,
    /// Seconds since the registry was built.
    pub uptime: u64,
    /// Topics that somebody follows.
    pub topics: usize,
    /// Followers of all topics.
    pub followers: usize,
    /// Instances in memory.
    pub instances: usize,
    /// Events accepted since the start.
    pub events: u64,
    /// Conflicts with another node since the start.
    pub conflicts: u64,
    /// Each store.
    pub stores: Vec<StoreHealth>,
}

/// One store, as it answers now.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Its name; the default store is `default`, the registry's own memory is `memory`.
    pub name: String,
    /// Whether it answers.
    pub healthy: bool,
    /// How long the answer took, in milliseconds; or how long there was none.
    pub latency_ms: f64,
}

impl Health {
    /// Whether every store answers.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.stores.iter().all(|store| store.healthy)
    }
}

impl StoreHealth {
    /// A store of this name, and whether and how soon it answered.
    #[must_use]
    pub fn new(name: impl Into<String>, healthy: bool, latency: Duration) -> Self {
        Self { name: name.into(), healthy, latency_ms: latency.as_secs_f64() * 1000.0 }
    }
}
