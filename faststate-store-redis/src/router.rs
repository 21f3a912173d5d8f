//! Sends each call of the store to the server that holds its key.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bb8_redis::redis::RedisError;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::{
    address::ServerAddress,
    command::StoreCommand,
    dialer::Dialer,
    durability::Durability,
    error::{RedisStoreError, has_code, is_demoted},
    keys::Prefix,
    primary::Primary,
    queue::{CallLimits, CallResult, CommandQueue},
    slots::{SlotMap, redirection},
    topology::Topology,
};

/// Maximum number of servers that one call is sent to. Each has refused it before the next one gets it.
const MAX_ATTEMPTS: u32 = 6;
/// The first pause after a refusal that passes by itself. Each later pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// The way to the servers of a store.
#[derive(Clone)]
pub(crate) enum CallRouter {
    /// One server at a time.
    Single(CommandQueue),
    /// The masters of a cluster.
    Cluster(Arc<ClusterRouter>),
}

impl CallRouter {
    pub(crate) async fn run(&self, command: StoreCommand) -> CallResult {
        match self {
            Self::Single(queue) => queue.run(Arc::new(command), false).await,
            Self::Cluster(cluster) => cluster.run(command).await,
        }
    }

    /// Checks that every server that holds keys accepts writes.
    pub(crate) async fn ping(&self, prefix: &Prefix) -> Result<(), RedisStoreError> {
        match self {
            Self::Single(queue) => {
                queue.run(Arc::new(StoreCommand::ping(prefix.nothing())), false).await?;
                Ok(())
            }
            Self::Cluster(cluster) => cluster.ping(prefix).await,
        }
    }

    /// The weakest durability of all servers.
    pub(crate) async fn durability(&self) -> Result<Durability, RedisStoreError> {
        match self {
            Self::Single(queue) => queue.durability().await,
            Self::Cluster(cluster) => cluster.durability().await,
        }
    }
}

/// One queue for each master of a cluster.
///
/// # Locking
/// `queues` is not held across an await.
pub(crate) struct ClusterRouter {
    topology: Arc<Topology>,
    dialer: Dialer,
    limits: CallLimits,
    queues: Mutex<HashMap<ServerAddress, CommandQueue>>,
}

/// What to do after an answer.
enum NextStep {
    Done,
    /// Send it to the master of the map, once the cluster has been asked again.
    Refresh,
    /// Send it to this server, which is taking over the slot.
    Ask(ServerAddress),
    /// Send it again after a pause.
    Pause,
}

impl ClusterRouter {
    pub(crate) fn new(topology: Topology, dialer: Dialer, limits: CallLimits) -> Self {
        Self { topology: Arc::new(topology), dialer, limits, queues: Mutex::default() }
    }

    /// Asks the cluster for its masters.
    pub(crate) async fn start(&self) -> Result<(), RedisStoreError> {
        self.refresh(&self.topology.map()).await?;
        Ok(())
    }

    async fn run(&self, command: StoreCommand) -> CallResult {
        let map = self.topology.map();
        let routed = timeout(self.limits.timeout, self.route(Arc::new(command))).await;
        routed.unwrap_or_else(|_| {
            self.refresh_later(map);
            Err(RedisStoreError::Late(self.limits.timeout))
        })
    }

    async fn route(&self, command: Arc<StoreCommand>) -> CallResult {
        let slot = command.slot();
        let mut asked: Option<ServerAddress> = None;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let map = self.topology.map();
            let asking = asked.is_some();
            let Some(server) = asked.take().or_else(|| map.master(slot).cloned()) else {
                if attempt >= MAX_ATTEMPTS {
                    break;
                }
                self.refresh(&map).await?;
                sleep(pause).await;
                pause *= 2;
                continue;
            };
            let answer = self.queue(&server).run(Arc::clone(&command), asking).await;
            match next(&answer, &server) {
                _ if attempt >= MAX_ATTEMPTS => return answer,
                NextStep::Done => {
                    if answer.as_ref().is_err_and(is_connection_error) {
                        self.refresh_later(map);
                    }
                    return answer;
                }
                NextStep::Ask(server) => asked = Some(server),
                NextStep::Refresh => {
                    self.refresh(&map).await?;
                    // Another server may not know yet.
                    if self.topology.map().master(slot) == Some(&server) {
                        sleep(pause).await;
                        pause *= 2;
                    }
                }
                NextStep::Pause => {
                    sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        Err(RedisStoreError::NoMaster(slot))
    }

    async fn ping(&self, prefix: &Prefix) -> Result<(), RedisStoreError> {
        let map = self.topology.map();
        let mut pending: Vec<_> = map.masters().to_vec();
        for nothing in prefix.nothings() {
            let ping = StoreCommand::ping(nothing);
            let slot = ping.slot();
            match map.master(slot) {
                None => {
                    self.refresh(&map).await?;
                    return Err(RedisStoreError::NoMaster(slot));
                }
                Some(master) => {
                    // One bucket of each master.
                    let Some(at) = pending.iter().position(|server| server == master) else { continue };
                    pending.swap_remove(at);
                    self.run(ping).await?;
                }
            }
        }
        Ok(())
    }

    async fn durability(&self) -> Result<Durability, RedisStoreError> {
        let mut weakest = Durability::Synced;
        for server in self.topology.map().masters() {
            weakest = weakest.weaker(self.queue(server).durability().await?);
        }
        Ok(weakest)
    }

    fn queue(&self, server: &ServerAddress) -> CommandQueue {
        let mut queues = self.queues.lock();
        let start = || {
            let primary = Primary::fixed(server.clone(), self.dialer.clone());
            CommandQueue::start(primary, server.to_string(), self.limits)
        };
        queues.entry(server.clone()).or_insert_with(start).clone()
    }

    /// Asks the cluster for its masters, and drops the queues of the servers that are none.
    async fn refresh(&self, stale: &Arc<SlotMap>) -> Result<(), RedisStoreError> {
        let map = self.topology.refresh(stale).await.map_err(|error| RedisStoreError::Connection {
            address: "the cluster".to_owned(),
            source: Some(error),
        })?;
        self.queues.lock().retain(|server, _| map.masters().contains(server));
        Ok(())
    }

    fn refresh_later(&self, stale: Arc<SlotMap>) {
        let topology = Arc::clone(&self.topology);
        tokio::spawn(async move {
            // The next call that fails tries again.
            let _ = topology.refresh(&stale).await;
        });
    }
}

fn next(answer: &CallResult, from: &ServerAddress) -> NextStep {
    let Err(RedisStoreError::Redis(error)) = answer else { return NextStep::Done };
    if has_code(error, "MOVED") || is_demoted(error) {
        return NextStep::Refresh;
    }
    if has_code(error, "ASK") {
        let target = error.redirect_node().and_then(|(target, _)| redirection(target, from));
        return target.map_or(NextStep::Refresh, NextStep::Ask);
    }
    if has_code(error, "TRYAGAIN") { NextStep::Pause } else { NextStep::Done }
}

/// Whether another server may have taken the place of this one.
fn is_connection_error(error: &RedisStoreError) -> bool {
    match error {
        RedisStoreError::Connection { .. } | RedisStoreError::Late(_) => true,
        RedisStoreError::Redis(error) => RedisError::is_io_error(error),
        _ => false,
    }
}
