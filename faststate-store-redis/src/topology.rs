//! The present masters of a cluster.

use std::{fmt, sync::Arc, time::Duration};

use bb8_redis::redis::{RedisResult, Value, cmd, from_redis_value};
use parking_lot::RwLock;
use rand::seq::SliceRandom as _;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    address::{RedisAddress, ServerAddress},
    dialer::{ConnectError, Dialer},
    slots::SlotMap,
};

/// Number of servers that are asked at the same time.
const SERVERS_ASKED: usize = 3;
/// Time after which the next servers are asked.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// Minimum time between two refreshes.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);

/// Knows which master holds which slot, and asks the cluster again when that has changed.
///
/// # Locking
/// `map` protects the pointer to the present map; it is not held across an await. `refreshed` is held while one task
/// asks the cluster, so that the others wait for its result; `map` is locked inside it.
pub(crate) struct Topology {
    dialer: Dialer,
    seeds: Vec<ServerAddress>,
    map: RwLock<Arc<SlotMap>>,
    /// The end of the last refresh.
    refreshed: Mutex<Option<Instant>>,
}

impl Topology {
    pub(crate) fn new(address: &RedisAddress, dialer: &Dialer) -> Self {
        let dialer = dialer.with_connect_timeout(ASK_TIMEOUT);
        Self { dialer, seeds: address.hosts.clone(), map: RwLock::default(), refreshed: Mutex::default() }
    }

    /// The present map; empty before the first refresh.
    pub(crate) fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.map.read())
    }

    /// Asks the cluster, unless another task has replaced `stale` in the meantime.
    pub(crate) async fn refresh(&self, stale: &Arc<SlotMap>) -> Result<Arc<SlotMap>, ConnectError> {
        let mut refreshed = self.refreshed.lock().await;
        let present = self.map();
        let is_recent = refreshed.is_some_and(|at| at.elapsed() < MIN_REFRESH_INTERVAL);
        if !Arc::ptr_eq(&present, stale) || is_recent {
            return Ok(present);
        }
        let map = Arc::new(self.load(&present).await?);
        *self.map.write() = Arc::clone(&map);
        *refreshed = Some(Instant::now());
        Ok(map)
    }

    /// Asks a few servers at a time, and takes the map of the latest epoch.
    async fn load(&self, present: &SlotMap) -> Result<SlotMap, ConnectError> {
        let mut servers: Vec<_> = present.servers().cloned().collect();
        servers.shuffle(&mut rand::rng());
        servers
            .extend(self.seeds.iter().filter(|seed| !present.servers().any(|known| known == *seed)).cloned());
        let mut failure = ConnectError::NoHost;
        for some in servers.chunks(SERVERS_ASKED) {
            let mut asked = JoinSet::new();
            for server in some {
                let (dialer, server) = (self.dialer.clone(), server.clone());
                asked.spawn(async move {
                    let late = |_| {
                        Err(ConnectError::Late { server: server.clone(), phase: "its answer", advice: "" })
                    };
                    timeout(2 * ASK_TIMEOUT, ask(&dialer, &server)).await.unwrap_or_else(late)
                });
            }
            let mut best: Option<(u64, SlotMap)> = None;
            while let Some(answer) = asked.join_next().await {
                match answer {
                    Ok(Ok((epoch, map))) if best.as_ref().is_none_or(|(known, _)| epoch > *known) => {
                        best = Some((epoch, map));
                    }
                    Ok(Err(error)) if !failure.is_permanent() || error.is_permanent() => failure = error,
                    _ => {}
                }
            }
            if let Some((_, map)) = best {
                return Ok(map);
            }
        }
        Err(failure)
    }
}

/// Asks one server for its epoch and its map.
async fn ask(dialer: &Dialer, server: &ServerAddress) -> Result<(u64, SlotMap), ConnectError> {
    let mut link = dialer.dial(server, |_| {}).await?;
    let failed = |source| ConnectError::Server { server: server.clone(), source };
    let slots: RedisResult<Value> = cmd("CLUSTER").arg("SLOTS").query_async(&mut link.redis).await;
    let slots = match slots {
        Err(error) if error.to_string().contains("cluster support disabled") => {
            return Err(ConnectError::NoCluster { server: server.clone() });
        }
        slots => slots.map_err(failed)?,
    };
    let info: RedisResult<Value> = cmd("CLUSTER").arg("INFO").query_async(&mut link.redis).await;
    let text: String = info.ok().and_then(|info| from_redis_value(info).ok()).unwrap_or_default();
    let epoch =
        text.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:")?.trim().parse().ok());
    match SlotMap::decode(slots, server) {
        Some(map) if !map.masters().is_empty() => Ok((epoch.unwrap_or(0), map)),
        _ => Err(ConnectError::NoCluster { server: server.clone() }),
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology").field("map", &self.map()).finish_non_exhaustive()
    }
}
