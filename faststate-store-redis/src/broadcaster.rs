//! The broadcaster.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bb8_redis::redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, Pipeline, PushInfo, PushKind,
    RedisResult, Value, aio::MultiplexedConnection,
};
use bytes::Bytes;
use faststate_core::{
    BoxError, Broadcaster, Key,
    broadcast::{
        BroadcastError, Change, Channel, Inbox, Interest, Receiver, Relay, RelayConnection, Transport,
    },
    store::StoreError,
};

use crate::{connection::tuned, error::Problem, keys::Prefix};

/// How long Redis may take for a call.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// The longest payload: the data of a record that is larger is read from the store by who follows it.
pub(crate) const LONGEST: usize = 256 * 1024;

/// Carries changes between nodes over one Redis' publish and subscribe.
///
/// A node subscribes to a key's channel while somebody there follows the key. A change is published once,
/// with its key, its versions and what is stored (up to 256 KiB; a follower's node reads more from the
/// store). Publications that come while others are on their way leave together.
///
/// Redis keeps nothing for who is away: a node that was cut off reads again what is followed there. See
/// [`Relay`] for how it notices within 4 s, and connects again.
///
/// It needs the tokio runtime that it was connected in, and one connection. An ACL needs `&prefix:*` and
/// `+publish +subscribe +unsubscribe +hello +client`.
pub struct RedisBroadcaster {
    relay: Relay,
    address: String,
}

/// Where a [`RedisBroadcaster`] connects to.
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

    /// How to connect: the prefix.
    pub fn builder(info: impl IntoConnectionInfo) -> RedisBroadcasterBuilder {
        RedisBroadcasterBuilder { info: info.into_connection_info(), prefix: "faststate".to_owned() }
    }

    /// Connects to a cluster of Redis 7 or later, through any of its nodes, with sharded channels: a key's
    /// changes pass through the one shard that holds the key's slot. The prefix is as in
    /// [`RedisStoreBuilder::prefix`](crate::RedisStoreBuilder::prefix).
    ///
    /// Each shard is probed. While slots move from one shard to another, changes can be lost until the
    /// engine's slow look at the store, a minute later at most. An ACL needs `+spublish +ssubscribe
    /// +sunsubscribe +cluster|slots` in the place of their plain likes.
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
        let infos = infos.map_err(Problem::Redis)?;
        let address = infos.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>().join(", ");
        let transport = crate::cluster::Cluster::new(infos, Prefix::new(prefix)?);
        Self::over(transport, address).await
    }

    async fn over(transport: impl Transport, address: String) -> Result<Self, StoreError> {
        match Relay::start(transport).await {
            Ok(relay) => Ok(Self { relay, address }),
            Err(error) => Err(match error.downcast() {
                Ok(error) => Problem::Redis(*error).into(),
                Err(error) => StoreError::Unavailable(error),
            }),
        }
    }

    /// Whether there is a connection at the moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.relay.is_connected()
    }
}

impl RedisBroadcasterBuilder {
    /// The application's own part of the server (`faststate`): every channel begins with it. As
    /// [`RedisStoreBuilder::prefix`](crate::RedisStoreBuilder::prefix). Redis' databases share their
    /// channels, so two applications need two prefixes even where each has a database of its own.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the address, the password or the prefix is wrong,
    /// [`StoreError::Unavailable`] if there is no answer in time.
    pub async fn connect(self) -> Result<RedisBroadcaster, StoreError> {
        let prefix = Prefix::new(&self.prefix)?;
        let info = tuned(&self.info.map_err(Problem::Redis)?, PATIENCE);
        let address = info.addr().to_string();
        let client = Client::open(info).map_err(Problem::Redis)?;
        let transport = Server { client, prefix: Arc::new(prefix), address: address.clone() };
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

/// One Redis.
struct Server {
    client: Client,
    prefix: Arc<Prefix>,
    address: String,
}

#[async_trait]
impl Transport for Server {
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_push_sender(move |push: PushInfo| {
                receive(&receiver, push);
                Ok::<(), ()>(())
            });
        let redis = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Box::new(Subscriber { redis, prefix: Arc::clone(&self.prefix) }))
    }

    fn max_payload_bytes(&self) -> usize {
        LONGEST
    }
}

/// Takes what Redis says of its own accord.
pub(crate) fn receive(receiver: &Receiver, mut push: PushInfo) {
    match push.kind {
        PushKind::Message | PushKind::SMessage => {
            if let Some(Value::BulkString(payload)) = push.data.pop() {
                receiver.receive(payload.into());
            }
        }
        PushKind::Disconnection => receiver.disconnected(),
        _ => {}
    }
}

/// A connection that publishes and subscribes: Redis' third protocol can do both on one.
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

    async fn send(&self, letters: &[(Channel, Bytes)]) -> Result<(), BoxError> {
        let mut pipeline = Pipeline::with_capacity(letters.len());
        for (channel, payload) in letters {
            pipeline.cmd("PUBLISH").arg(self.prefix.channel(channel)).arg(&**payload).ignore();
        }
        Ok(pipeline.query_async(&mut self.redis.clone()).await?)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
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
