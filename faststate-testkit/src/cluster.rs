//! Several nodes in one process.

use std::{fmt, ops::Index, sync::Arc};

use faststate_core::{
    LocalBroadcaster, MemoryStore, StateRegistry,
    registry::{BuildError, RegistryBuilder},
};
use faststate_http::endpoint::{Endpoint, Secret};

use super::{
    App,
    faults::{FaultyBroadcaster, FaultyStore},
};

/// Several nodes of an application in one process, with one shared store that fails on demand and one broadcaster per node
/// that loses and reorders changes on demand.
///
/// ```
/// # use faststate_core::{Access, ReactiveState, StateConfig};
/// # use faststate_testkit::{Browser, Cluster};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)]
/// # struct Counter { count: i64 }
/// # impl ReactiveState for Counter { const NAME: &'static str = "counter"; }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let nodes = Cluster::start(2, |node| {
///     let config = StateConfig::global().access(Access::public()).persist();
///     node.state::<Counter>(config, |state| state).build()
/// });
/// let mut alice = Browser::new(&nodes[0]);
/// alice.follow("counter").await;
/// alice.move_to(&nodes[1]).await;
/// # alice.settle().await;
/// # }
/// ```
pub struct Cluster {
    nodes: Vec<App>,
    store: Arc<FaultyStore>,
    broadcasters: Vec<Arc<FaultyBroadcaster>>,
}

impl Cluster {
    /// Starts `nodes` nodes. `build` receives a builder with the store, the broadcaster and the name of the node.
    ///
    /// # Panics
    /// Panics if a registry cannot be built.
    #[must_use]
    pub fn start(
        nodes: usize,
        build: impl Fn(RegistryBuilder) -> Result<Arc<StateRegistry>, BuildError>,
    ) -> Self {
        Self::with(nodes, |node| Ok(Endpoint::new(build(node)?)))
    }

    /// Starts `nodes` nodes with the application's endpoints. All nodes sign session cookies with one secret.
    ///
    /// # Panics
    /// Panics if a registry cannot be built.
    #[must_use]
    pub fn with(nodes: usize, build: impl Fn(RegistryBuilder) -> Result<Endpoint, BuildError>) -> Self {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        let (hub, secret) = (LocalBroadcaster::new(), Secret::random());
        let mut cluster = Self { nodes: Vec::new(), store, broadcasters: Vec::new() };
        for at in 0..nodes {
            let broadcaster = FaultyBroadcaster::new(Arc::new(hub.peer()));
            let builder = StateRegistry::builder().node(format!("node {at}"));
            let builder = builder.store(Arc::clone(&cluster.store)).broadcaster(Arc::clone(&broadcaster));
            let endpoint = build(builder).unwrap_or_else(|error| panic!("{error}"));
            cluster.nodes.push(App::of(endpoint.secret(secret.clone())));
            cluster.broadcasters.push(broadcaster);
        }
        let all: Vec<_> = cluster.nodes.iter().map(|node| node.endpoint().clone()).collect();
        cluster.nodes.iter_mut().for_each(|node| node.nodes.clone_from(&all));
        cluster
    }

    /// The store that all nodes share.
    #[must_use]
    pub const fn store(&self) -> &Arc<FaultyStore> {
        &self.store
    }

    /// The broadcaster of one node.
    ///
    /// # Panics
    /// Panics if there is no such node.
    #[must_use]
    pub fn broadcaster(&self, node: usize) -> &Arc<FaultyBroadcaster> {
        &self.broadcasters[node]
    }
}

impl Index<usize> for Cluster {
    type Output = App;

    fn index(&self, node: usize) -> &App {
        &self.nodes[node]
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("nodes", &self.nodes)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
