//! Several demo processes over one server, each behind its own relay.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use faststate_core::{Key, Scope, Store, Version, store::Record};
use faststate_store_diesel::DieselStore;
use faststate_store_redis::RedisStore;
use faststate_tests::{Cable, Demo, Postgres, RedisServer};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The server that the nodes share.
#[derive(Debug)]
pub(crate) enum Server {
    Redis(RedisServer),
    Postgres(Postgres),
    /// A primary that waits for its standby before it acknowledges a commit.
    PostgresPair {
        primary: Postgres,
        standby: Postgres,
    },
}

impl Server {
    pub(crate) fn redis() -> Self {
        Self::Redis(RedisServer::start())
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(Postgres::start())
    }

    pub(crate) fn postgres_pair() -> Self {
        let primary = Postgres::start();
        let standby = Postgres::standby_of(&primary);
        primary.wait_for_standby();
        Self::PostgresPair { primary, standby }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Redis(server) => server.address(),
            Self::Postgres(server) | Self::PostgresPair { primary: server, .. } => server.address(),
        }
    }

    /// The URL for an address. That of a pair also names the standby.
    fn at(&self, address: SocketAddr) -> String {
        match self {
            Self::Redis(_) => format!("redis://{address}"),
            Self::Postgres(_) => format!("postgres://faststate:secret@{address}/postgres"),
            Self::PostgresPair { standby, .. } => {
                format!("postgres://faststate:secret@{address},{}/postgres", standby.address())
            }
        }
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Redis(server) => server.kill(),
            Self::Postgres(server) | Self::PostgresPair { primary: server, .. } => server.crash(),
        }
    }

    pub(crate) fn restart(&mut self) {
        match self {
            Self::Redis(server) => server.restart(),
            Self::Postgres(server) | Self::PostgresPair { primary: server, .. } => server.restart(),
        }
    }

    /// Stops the primary of a pair, which then `hangs` or is dead, and promotes its standby.
    pub(crate) fn fail_over(&mut self, hangs: bool) {
        let Self::PostgresPair { primary, standby } = self else { panic!("the server has no standby") };
        if hangs {
            primary.pause();
        } else {
            primary.crash();
        }
        standby.promote();
        std::mem::swap(primary, standby);
    }
}

/// One demo process and its relay to the server.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) demo: Demo,
    pub(crate) store: Cable,
    pub(crate) broadcast: Cable,
}

/// Demo processes over one server. The nodes are the first field, so that they end first.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) server: Server,
}

impl Cluster {
    pub(crate) fn start(server: Server) -> Self {
        let nodes = ["a", "b", "c"].map(|name| {
            let (store, broadcast) = (Cable::to(server.address()), Cable::to(server.address()));
            let (at_store, at_broadcast) = (server.at(store.address()), server.at(broadcast.address()));
            let options = [
                ["--store", &at_store],
                ["--broadcast", &at_broadcast],
                ["--node", name],
                ["--max-streams-per-address", "0"],
            ];
            Node { demo: Demo::with(options.as_flattened()), store, broadcast }
        });
        Self { nodes: nodes.into(), server }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.demo.address()).collect()
    }

    /// The URL of the shared server, without a relay.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        let url = self.server.at(self.server.address());
        match &self.server {
            Server::Redis(_) => Arc::new(RedisStore::connect(url).await.unwrap()),
            Server::Postgres(_) | Server::PostgresPair { .. } => {
                Arc::new(DieselStore::postgres(url).await.unwrap())
            }
        }
    }

    /// The counter's signals as the store has them: without its history, which is a view, and without what only
    /// the demo's next version knows.
    pub(crate) async fn counter(&self) -> (Version, Value) {
        let (record, mut counter) = stored(&*self.store().await).await;
        let fields = counter.as_object_mut().unwrap();
        fields.retain(|field, _| !["history", "by_next"].contains(&&**field));
        (record.version, counter)
    }

    /// The conflicts that all nodes have counted.
    pub(crate) fn conflicts(&self) -> u64 {
        self.nodes.iter().filter_map(|node| node.demo.health()["conflicts"].as_u64()).sum()
    }
}

/// The stored counter.
pub(crate) async fn stored(store: &dyn Store) -> (Record, Value) {
    let record = store.load(&counter_key(), None).await.unwrap().record.expect("the counter is stored");
    let counter = serde_json::from_slice(&record.data).unwrap();
    (record, counter)
}

pub(crate) fn counter_key() -> Key {
    Key::new("counter", Scope::Global, None, None).unwrap()
}

/// Waits for the condition, and returns the duration.
pub(crate) async fn until(what: &str, within: Duration, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let asked = Instant::now();
    while !is_so().await {
        assert!(asked.elapsed() < within, "{what}: not within {within:?}");
        sleep(Duration::from_millis(10)).await;
    }
    asked.elapsed()
}
