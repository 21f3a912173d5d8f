//! The broadcaster over Redis' publish and subscribe.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Broadcaster, Key,
    broadcast::{BroadcastError, Change, Inbox, Interest, Relay, Transport},
    store::StoreError,
};

use crate::{
    address::{AddressError, Deployment, RedisAddress},
    cluster_transport::ClusterTransport,
    dialer::{ConnectError, Dialer},
    error::RedisStoreError,
    keys::Prefix,
    primary::Primary,
    push::TIMEOUTS,
    topology::Topology,
    transport::PrimaryTransport,
};

/// Carries changes between nodes over Redis' publish and subscribe.
///
/// A node subscribes to the channel of every key that is followed there. A change is published once, with its
/// key, its versions and the stored data. Data of more than 256 KiB is not published: each node with
/// followers loads it from the store. Queued changes share a pipeline.
///
/// Redis keeps no changes for disconnected nodes, so a node that was disconnected reloads the keys that are
/// followed there. A node notices a lost connection within 4 s and reconnects, as [`Relay`] describes. It
/// leaves a server that has become a replica within 2 s. With sentinels, it leaves a primary as soon as one of
/// them announces that another server is about to be promoted.
///
/// A broadcaster needs the tokio runtime in which it was connected, and one connection to Redis. With
/// sentinels, it also has one connection to each of them. An ACL needs `&prefix:*` and
/// `+publish +subscribe +unsubscribe +hello +client`, and `+select` if the address contains a database other
/// than 0. To notice that a server has become a replica, the broadcaster also needs `~prefix:* +del`.
///
/// # Cluster
/// A cluster needs Redis 7 or later, because the broadcaster uses sharded channels: the changes of a key pass
/// only through the master that holds the slot of the key's channel. There is one connection to each master,
/// and each connection is probed. When a slot moves or a master is replaced, the node connects again and
/// reloads the keys that are followed there. Instead of `+publish +subscribe +unsubscribe`, an ACL needs
/// `+spublish +ssubscribe +sunsubscribe +cluster|slots +cluster|info`.
///
/// While a master is dead and no replica has taken its place, the broadcaster is not connected, and publishing
/// fails for the keys of all masters. The node tries to connect about once a second, until the master or its
/// successor answers.
pub struct RedisBroadcaster {
    relay: Relay,
    address: String,
}

/// The address and the prefix of a [`RedisBroadcaster`].
#[must_use]
pub struct RedisBroadcasterBuilder {
    address: Result<RedisAddress, AddressError>,
    prefix: String,
}

impl RedisBroadcaster {
    /// Connects to an [address](crate#addresses) such as `rediss://user:password@host`, with the prefix `faststate`.
    ///
    /// # Errors
    /// As [`RedisBroadcasterBuilder::connect`].
    pub async fn connect(address: impl Into<String>) -> Result<Self, StoreError> {
        Self::builder(address).connect().await
    }

    /// Returns a builder for the prefix.
    pub fn builder(address: impl Into<String>) -> RedisBroadcasterBuilder {
        RedisBroadcasterBuilder {
            address: RedisAddress::parse(&address.into()),
            prefix: "faststate".to_owned(),
        }
    }

    async fn over(transport: impl Transport, address: String) -> Result<Self, StoreError> {
        match Relay::start(transport).await {
            Ok(relay) => Ok(Self { relay, address }),
            Err(error) => Err(match error.downcast::<ConnectError>() {
                Ok(error) => RedisStoreError::Connection { address, source: Some(*error) }.into(),
                Err(error) => match error.downcast() {
                    Ok(error) => RedisStoreError::Redis(*error).into(),
                    Err(error) => StoreError::Unavailable(error),
                },
            }),
        }
    }

    /// Returns whether there is a connection on which every followed key is subscribed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.relay.is_connected()
    }
}

impl RedisBroadcasterBuilder {
    /// Sets the prefix of all channels (default: `faststate`). Its syntax is that of
    /// [`RedisStoreBuilder::prefix`](crate::RedisStoreBuilder::prefix).
    ///
    /// All databases of a Redis server share the same channels, so two applications need different prefixes
    /// even if each has its own database.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Connects, and spawns the task that keeps the connection.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the address, a certificate, the password or the prefix is wrong,
    /// [`StoreError::Unavailable`] if the server does not respond in time.
    pub async fn connect(self) -> Result<RedisBroadcaster, StoreError> {
        let prefix = Prefix::new(&self.prefix)?;
        let parsed = self.address.map_err(RedisStoreError::Address)?;
        let dialer = Dialer::new(&parsed, TIMEOUTS).map_err(RedisStoreError::Tls)?;
        let address = parsed.to_string();
        if parsed.deployment == Deployment::Cluster {
            let topology = Topology::new(&parsed, &dialer);
            let transport = ClusterTransport::new(topology, dialer, prefix, address.clone());
            return RedisBroadcaster::over(transport, address).await;
        }
        let primary = Primary::new(&parsed, dialer, prefix.nothing());
        let transport = PrimaryTransport::new(primary, prefix, address.clone());
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
            .field("address", &self.address)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
