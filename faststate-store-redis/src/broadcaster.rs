//! The broadcaster over Redis' publish and subscribe.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bb8_redis::redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, Pipeline, PushInfo, RedisResult,
    aio::MultiplexedConnection,
};
use bytes::Bytes;
use faststate_core::{
    BoxError, Broadcaster, Key,
    broadcast::{
        BroadcastError, Change, Channel, Inbox, Interest, Receiver, Relay, RelayConnection, Transport,
    },
    store::StoreError,
};

use crate::{
    connection::tuned,
    error::RedisStoreError,
    keys::Prefix,
    push::{CALL_TIMEOUT, MAX_PAYLOAD_BYTES, receive},
};

/// Carries changes between nodes over one Redis' publish and subscribe.
///
/// A node subscribes to the channel of every key that is followed there. A change is published once, with its key, its
/// versions and the stored data (up to 256 KiB; a node with followers loads more from the store). Changes that are queued
/// while others are in progress share a pipeline.
///
/// Redis keeps no changes for disconnected nodes: a node that was disconnected reloads the keys that are followed there.
/// [`Relay`] describes how it notices within 4 s and reconnects.
///
/// It needs the tokio runtime in which it was connected, and one connection. An ACL needs `&prefix:*` and
/// `+publish +subscribe +unsubscribe +hello +client`.
pub struct RedisBroadcaster {
    relay: Relay,
    address: String,
}

/// The address and the prefix of a [`RedisBroadcaster`].
#[must_use]
pub struct RedisBroadcasterBuilder {
    info: RedisResult<ConnectionInfo>,
    prefix: String,
}

impl RedisBroadcaster {
    /// Connects to `redis://[user:password@]host[:port]`, with the prefix `faststate`.
    ///
    /// # Errors
    /// As [`RedisBroadcasterBuilder::connect`].
    pub async fn connect(info: impl IntoConnectionInfo) -> Result<Self, StoreError> {
        Self::builder(info).connect().await
    }

    /// Returns a builder for the prefix.
    pub fn builder(info: impl IntoConnectionInfo) -> RedisBroadcasterBuilder {
        RedisBroadcasterBuilder { info: info.into_connection_info(), prefix: "faststate".to_owned() }
    }

    /// Connects to a cluster of Redis 7 or later, through any of its nodes, with sharded channels: a key's
    /// changes pass through the one shard that holds the key's slot. The prefix is as in
    /// [`RedisStoreBuilder::prefix`](crate::RedisStoreBuilder::prefix).
    ///
    /// Each shard is probed. While slots move from one shard to another, changes can be lost until the engine's periodic
    /// reload, at most a minute later. An ACL needs `+spublish +ssubscribe +sunsubscribe +cluster|slots` instead of the
    /// commands without sharding.
    ///
    /// # Errors
    /// As [`RedisBroadcasterBuilder::connect`].
    #[cfg(feature = "cluster")]
    pub async fn cluster<T: IntoConnectionInfo>(
        nodes: impl IntoIterator<Item = T>,
        prefix: &str,
    ) -> Result<Self, StoreError> {
        let infos: RedisResult<Vec<_>> =
            nodes.into_iter().map(IntoConnectionInfo::into_connection_info).collect();
        let infos = infos.map_err(RedisStoreError::Redis)?;
        let address = infos.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>().join(", ");
        let transport = crate::cluster::ClusterTransport::new(infos, Prefix::new(prefix)?);
        Self::over(transport, address).await
    }

    async fn over(transport: impl Transport, address: String) -> Result<Self, StoreError> {
        match Relay::start(transport).await {
            Ok(relay) => Ok(Self { relay, address }),
            Err(error) => Err(match error.downcast() {
                Ok(error) => RedisStoreError::Redis(*error).into(),
                Err(error) => StoreError::Unavailable(error),
            }),
        }
    }

    /// Returns whether there is a connection at the moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.relay.is_connected()
    }
}

impl RedisBroadcasterBuilder {
    /// The prefix of all channels (default: `faststate`), with the syntax of
    /// [`RedisStoreBuilder::prefix`](crate::RedisStoreBuilder::prefix). The databases of a Redis server share their
    /// channels, so two applications need two prefixes even if each has its own database.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the address, the password or the prefix is wrong,
    /// [`StoreError::Unavailable`] if the server does not respond in time.
    pub async fn connect(self) -> Result<RedisBroadcaster, StoreError> {
        let prefix = Prefix::new(&self.prefix)?;
        let info = tuned(&self.info.map_err(RedisStoreError::Redis)?, CALL_TIMEOUT);
        let address = info.addr().to_string();
        let client = Client::open(info).map_err(RedisStoreError::Redis)?;
        let transport = RedisTransport { client, prefix: Arc::new(prefix), address: address.clone() };
        RedisBroadcaster::over(transport, address).await
    }
}

#[async_trait]
impl Broadcaster for RedisBroadcaster {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        self.relay.publish(change).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        self.relay.notify(key, message).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        self.relay.join(key).await
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.relay.attach(inbox);
    }
}

/// Connects to one server.
struct RedisTransport {
    client: Client,
    prefix: Arc<Prefix>,
    address: String,
}

#[async_trait]
impl Transport for RedisTransport {
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CALL_TIMEOUT))
            .set_response_timeout(Some(CALL_TIMEOUT))
            .set_push_sender(move |push: PushInfo| {
                receive(&receiver, push);
                Ok::<(), ()>(())
            });
        let redis = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Box::new(Subscriber { redis, prefix: Arc::clone(&self.prefix) }))
    }

    fn max_payload_bytes(&self) -> usize {
        MAX_PAYLOAD_BYTES
    }
}

/// A connection that publishes and subscribes; RESP3 allows both on one connection.
struct Subscriber {
    redis: MultiplexedConnection,
    prefix: Arc<Prefix>,
}

impl Subscriber {
    fn names(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| self.prefix.channel(channel)).collect()
    }
}

#[async_trait]
impl RelayConnection for Subscriber {
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        Ok(self.redis.clone().subscribe(self.names(channels)).await?)
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        Ok(self.redis.clone().unsubscribe(self.names(channels)).await?)
    }

    async fn send(&self, messages: &[(Channel, Bytes)]) -> Result<(), BoxError> {
        let mut pipeline = Pipeline::with_capacity(messages.len());
        for (channel, payload) in messages {
            pipeline.cmd("PUBLISH").arg(self.prefix.channel(channel)).arg(&**payload).ignore();
        }
        Ok(pipeline.query_async(&mut self.redis.clone()).await?)
    }
}

impl fmt::Debug for RedisTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTransport").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisBroadcaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroadcaster")
            .field("address", &self.address)
            .field("relay", &self.relay)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisBroadcasterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroadcasterBuilder")
            .field("address", &self.info.as_ref().map(|info| info.addr().to_string()).ok())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
