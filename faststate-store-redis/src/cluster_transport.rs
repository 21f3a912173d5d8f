//! The broadcaster's transport over the sharded channels of a cluster.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use bb8_redis::redis::{Pipeline, PushInfo, PushKind, RedisError, Value, from_redis_value};
use bytes::Bytes;
use faststate_core::{
    BoxError,
    broadcast::{Channel, Receiver, RelayConnection, Transport},
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{
    address::ServerAddress,
    dialer::{Dialer, RedisLink},
    error::RedisStoreError,
    keys::Prefix,
    push::{MAX_PAYLOAD_BYTES, receive},
    slots::{SLOTS, SlotMap, slot},
    topology::Topology,
};

/// Connects to all masters of a cluster.
pub(crate) struct ClusterTransport {
    topology: Topology,
    dialer: Dialer,
    prefix: Arc<Prefix>,
    address: String,
}

impl ClusterTransport {
    pub(crate) fn new(topology: Topology, dialer: Dialer, prefix: Prefix, address: String) -> Self {
        Self { topology, dialer, prefix: Arc::new(prefix), address }
    }
}

#[async_trait]
impl Transport for ClusterTransport {
    /// Connects to the present masters. If a slot moves or a master is replaced, this connection ends, and the relay
    /// connects again.
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError> {
        let map = self.topology.refresh(&self.topology.map()).await?;
        let subscribed = Arc::<Mutex<HashSet<String>>>::default();
        let mut connecting = JoinSet::new();
        for master in map.masters() {
            let (dialer, master) = (self.dialer.clone(), master.clone());
            let (receiver, subscribed) = (receiver.clone(), Arc::clone(&subscribed));
            connecting.spawn(async move {
                let on_push = move |push: PushInfo| {
                    if has_lost_channel(&push, &subscribed) {
                        receiver.disconnected();
                    }
                    receive(&receiver, push);
                };
                dialer.dial(&master, on_push).await.map(|link| (master, link))
            });
        }
        let mut links = HashMap::new();
        while let Some(connected) = connecting.join_next().await {
            let (master, link) = connected??;
            links.insert(master, link);
        }
        Ok(Box::new(ClusterSubscriber { links, map, prefix: Arc::clone(&self.prefix), subscribed }))
    }

    fn max_payload_bytes(&self) -> usize {
        MAX_PAYLOAD_BYTES
    }
}

/// Whether a server has ended a subscription of its own accord, because the channel's slot has moved.
fn has_lost_channel(push: &PushInfo, subscribed: &Mutex<HashSet<String>>) -> bool {
    push.kind == PushKind::SUnsubscribe
        && push.data.first().is_some_and(|channel| {
            from_redis_value::<String>(channel.clone()).is_ok_and(|name| subscribed.lock().contains(&name))
        })
}

/// Connections to all masters.
///
/// # Locking
/// `subscribed` protects the names of the subscribed channels. It is not held across an await.
struct ClusterSubscriber {
    links: HashMap<ServerAddress, RedisLink>,
    map: Arc<SlotMap>,
    prefix: Arc<Prefix>,
    subscribed: Arc<Mutex<HashSet<String>>>,
}

impl ClusterSubscriber {
    /// Sends one command for each channel to the master of its slot.
    async fn exchange(
        &self,
        command: &'static str,
        names: impl Iterator<Item = (String, Option<&Bytes>)>,
    ) -> Result<(), BoxError> {
        let mut pipelines = BTreeMap::<&ServerAddress, Pipeline>::new();
        for (name, payload) in names {
            let slot = slot(&name);
            let master = self.map.master(slot).ok_or(RedisStoreError::NoMaster(slot))?;
            let pipeline = pipelines.entry(master).or_default();
            // One channel for each command, so that every command has one answer.
            pipeline.cmd(command).arg(name).arg(payload.map(|payload| &**payload));
        }
        let mut sending = JoinSet::new();
        for (master, pipeline) in pipelines {
            let Some(link) = self.links.get(master) else { continue };
            sending.spawn(answered(pipeline, link.clone()));
        }
        while let Some(sent) = sending.join_next().await {
            sent??;
        }
        Ok(())
    }

    fn names(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| self.prefix.channel(channel)).collect()
    }
}

async fn answered(pipeline: Pipeline, mut link: RedisLink) -> Result<(), RedisError> {
    let _: Vec<Value> = pipeline.query_async(&mut link.redis).await?;
    Ok(())
}

#[async_trait]
impl RelayConnection for ClusterSubscriber {
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        let names = self.names(channels);
        self.subscribed.lock().extend(names.iter().cloned());
        self.exchange("SSUBSCRIBE", names.into_iter().map(|name| (name, None))).await
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        let names = self.names(channels);
        {
            let mut subscribed = self.subscribed.lock();
            names.iter().for_each(|name| _ = subscribed.remove(name));
        }
        self.exchange("SUNSUBSCRIBE", names.into_iter().map(|name| (name, None))).await
    }

    async fn send(&self, messages: &[(Channel, Bytes)]) -> Result<(), BoxError> {
        let messages =
            messages.iter().map(|(channel, payload)| (self.prefix.channel(channel), Some(payload)));
        self.exchange("SPUBLISH", messages).await
    }

    /// One channel on each master. A master that was demoted refuses its probe.
    fn probes(&self, node: u64) -> Vec<u32> {
        let first_of = |master: &ServerAddress| {
            (0..u32::from(SLOTS)).find(|probe| {
                self.map.master(slot(&self.prefix.channel(&Channel::Node(node, *probe)))) == Some(master)
            })
        };
        self.map.masters().iter().filter_map(first_of).collect()
    }
}

impl fmt::Debug for ClusterTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterTransport").field("address", &self.address).finish_non_exhaustive()
    }
}
