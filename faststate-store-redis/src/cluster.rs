//! The broadcaster's transport over the sharded channels of a cluster.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    BoxError,
    broadcast::{Channel, Receiver, RelayConnection, Transport},
};
use futures::future::try_join_all;
use redis::{
    ConnectionInfo, ProtocolVersion, PushInfo, cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection, cmd,
};

use crate::{
    keys::Prefix,
    push::{CALL_TIMEOUT, MAX_PAYLOAD_BYTES, receive},
};

/// Number of slots in a cluster.
const SLOTS: u16 = 16_384;

/// Connects to a cluster through some of its nodes.
pub(crate) struct ClusterTransport {
    nodes: Vec<ConnectionInfo>,
    prefix: Arc<Prefix>,
}

impl ClusterTransport {
    pub(crate) fn new(nodes: Vec<ConnectionInfo>, prefix: Prefix) -> Self {
        Self { nodes, prefix: Arc::new(prefix) }
    }
}

#[async_trait]
impl Transport for ClusterTransport {
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError> {
        let client = ClusterClientBuilder::new(self.nodes.iter().cloned())
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(CALL_TIMEOUT / 2)
            .response_timeout(CALL_TIMEOUT)
            .retries(1)
            .push_sender(move |push: PushInfo| {
                receive(&receiver, push);
                Ok::<(), ()>(())
            })
            .build()?;
        let mut redis = client.get_async_connection().await?;
        let slots: Vec<(u16, u16, Vec<redis::Value>)> = {
            let rows: Vec<Vec<redis::Value>> = cmd("CLUSTER").arg("SLOTS").query_async(&mut redis).await?;
            rows.into_iter().filter_map(range).collect()
        };
        // Ranges of one master share a probe.
        let mut shards = BTreeMap::<String, Vec<(u16, u16)>>::new();
        for (first, last, master) in slots {
            shards.entry(format!("{master:?}")).or_default().push((first, last));
        }
        let shards = shards.into_values().collect();
        Ok(Box::new(ClusterSubscriber { redis, prefix: Arc::clone(&self.prefix), shards }))
    }

    fn max_payload_bytes(&self) -> usize {
        MAX_PAYLOAD_BYTES
    }
}

/// Decodes a range of slots and its master from a row of `CLUSTER SLOTS`.
fn range(row: Vec<redis::Value>) -> Option<(u16, u16, Vec<redis::Value>)> {
    let mut row = row.into_iter();
    let mut slot = || redis::from_redis_value(row.next()?).ok();
    let (first, last) = (slot()?, slot()?);
    let redis::Value::Array(master) = row.next()? else { return None };
    Some((first, last, master.into_iter().take(3).collect()))
}

/// Connections to all shards.
struct ClusterSubscriber {
    redis: ClusterConnection,
    prefix: Arc<Prefix>,
    /// The slot ranges of each shard.
    shards: Vec<Vec<(u16, u16)>>,
}

impl ClusterSubscriber {
    /// The names of the channels, grouped by slot.
    fn by_slot(&self, channels: &[Channel]) -> Vec<Vec<String>> {
        let mut slots = BTreeMap::<u16, Vec<String>>::new();
        for channel in channels {
            let name = self.prefix.channel(channel);
            slots.entry(slot(&name)).or_default().push(name);
        }
        slots.into_values().collect()
    }
}

#[async_trait]
impl RelayConnection for ClusterSubscriber {
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        let opening = self.by_slot(channels).into_iter().map(|names| {
            let mut redis = self.redis.clone();
            async move { redis.ssubscribe(names).await }
        });
        try_join_all(opening).await?;
        Ok(())
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        let closing = self.by_slot(channels).into_iter().map(|names| {
            let mut redis = self.redis.clone();
            async move { redis.sunsubscribe(names).await }
        });
        try_join_all(closing).await?;
        Ok(())
    }

    async fn send(&self, messages: &[(Channel, Bytes)]) -> Result<(), BoxError> {
        let sending = messages.iter().map(|(channel, payload)| {
            let mut publish = cmd("SPUBLISH");
            publish.arg(self.prefix.channel(channel)).arg(&**payload);
            let mut redis = self.redis.clone();
            async move { publish.query_async::<()>(&mut redis).await }
        });
        try_join_all(sending).await?;
        Ok(())
    }

    fn probes(&self, node: u64) -> Vec<u32> {
        let first_of = |shard: &Vec<(u16, u16)>| {
            (0..u32::from(SLOTS)).find(|probe| {
                let slot = slot(&self.prefix.channel(&Channel::Node(node, *probe)));
                shard.iter().any(|(first, last)| (*first..=*last).contains(&slot))
            })
        };
        self.shards.iter().filter_map(first_of).collect()
    }
}

/// The slot of a name: the CRC16 (XMODEM) of the text in its first braces, or of the whole name if that is empty.
fn slot(name: &str) -> u16 {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(name);
    let crc =
        hashed.bytes().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            })
        });
    crc % SLOTS
}

impl fmt::Debug for ClusterTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.nodes.iter().map(|info| info.addr().to_string()).collect();
        f.debug_struct("ClusterTransport").field("nodes", &nodes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_match_cluster_keyslot() {
        // From `CLUSTER KEYSLOT`.
        for (name, expected) in
            [("123456789", 12_739), ("somekey", 11_058), ("foo{hash_tag}", 2_515), ("foo{}", 5_542)]
        {
            assert_eq!(slot(name), expected, "{name}");
        }
    }
}
