//! The store and its builder.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bb8_redis::{
    bb8::Pool,
    redis::{ConnectionInfo, IntoConnectionInfo, RedisResult},
};
use faststate_core::{
    Key, Store, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};

use crate::{
    command::{self, StoreCommand},
    connection::Connector,
    durability::{self, Durability},
    error::RedisStoreError,
    keys::Prefix,
    queue::{CommandQueue, PipelineSender},
};

/// A store in Redis or Valkey. The [crate documentation](crate) states its promises for each setting of the server.
///
/// It needs the tokio runtime in which it was connected. Cloning is cheap; the connections are shared.
#[derive(Clone)]
pub struct RedisStore {
    queue: CommandQueue,
    prefix: Prefix,
    address: String,
    durability: Durability,
}

impl RedisStore {
    /// Connects to `redis://[user:password@]host[:port][/database]`, with the prefix `faststate`.
    ///
    /// # Errors
    /// As [`RedisStoreBuilder::connect`].
    pub async fn connect(info: impl IntoConnectionInfo) -> Result<Self, StoreError> {
        Self::builder(info).connect().await
    }

    /// Returns a builder for the prefix, the timeout and the number of connections.
    pub fn builder(info: impl IntoConnectionInfo) -> RedisStoreBuilder {
        RedisStoreBuilder::new(info)
    }

    /// The durability (law 1) that the server's settings gave when the store connected.
    #[must_use]
    pub const fn durability(&self) -> &Durability {
        &self.durability
    }
}

/// The address and the settings of a [`RedisStore`].
#[must_use]
pub struct RedisStoreBuilder {
    info: RedisResult<ConnectionInfo>,
    prefix: String,
    timeout: Duration,
    connections: u32,
}

impl RedisStoreBuilder {
    fn new(info: impl IntoConnectionInfo) -> Self {
        Self {
            info: info.into_connection_info(),
            prefix: "faststate".to_owned(),
            timeout: Duration::from_secs(2),
            connections: 2,
        }
    }

    /// The prefix of all Redis keys of this application (default: `faststate`). It has 1 to 64 letters, digits, `_`, `-`
    /// and `.`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Deadline of a call (default: 2 s). After it, the call fails and the outcome of a save is unknown. Connecting may
    /// take half of it.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Maximum number of connections (default: 2), each with one pipeline in progress. Redis executes one pipeline at a
    /// time, so more connections make the pipelines smaller and cost more, but are not faster.
    pub const fn connections(mut self, connections: u32) -> Self {
        self.connections = if connections == 0 { 1 } else { connections };
        self
    }

    /// Connects, and logs a warning if the server's settings do not keep law 1.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the address, the password or the prefix is wrong,
    /// [`StoreError::Unavailable`] if the server does not respond in time.
    pub async fn connect(self) -> Result<RedisStore, StoreError> {
        let prefix = Prefix::new(&self.prefix)?;
        let timeout = self.timeout.max(Duration::from_millis(1));
        let (info, connector) = self
            .info
            .and_then(|info| Connector::new(&info, timeout / 2, timeout).map(|connector| (info, connector)))
            .map_err(RedisStoreError::Redis)?;
        let (address, failure) = (info.addr().to_string(), connector.failure());
        let pool = Pool::builder()
            .max_size(self.connections)
            .connection_timeout(timeout / 2)
            // Free of cost, because `Connector::is_valid` sends nothing.
            .test_on_check_out(true)
            .build_unchecked(connector);
        let sender =
            PipelineSender { pool: pool.clone(), failure: failure.clone(), address: address.clone() };
        let queue = CommandQueue::start(sender, self.connections, timeout);
        queue.run(StoreCommand::ping(&prefix)).await?;
        let durability = match pool.get().await {
            Ok(mut connection) => Durability::judge(
                connection.exchange(durability::settings_query()).await.map_err(RedisStoreError::Redis)?,
            ),
            Err(_) => return Err(RedisStoreError::Connection { address, source: failure.get() }.into()),
        };
        durability.warn(&address);
        Ok(RedisStore { queue, prefix, address, durability })
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        command::loaded(key, self.queue.run(StoreCommand::load(&self.prefix, key, receipt)).await?)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        command::saved(self.queue.run(StoreCommand::save(&self.prefix, key, record, expect, receipt)).await?)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        command::changed(self.queue.run(StoreCommand::delete(&self.prefix, key, version)).await?)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        command::changed(self.queue.run(StoreCommand::touch(&self.prefix, key, ttl)).await?)
    }

    /// Does nothing, because Redis removes expired keys itself.
    async fn sweep(&self, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.queue.run(StoreCommand::ping(&self.prefix)).await?;
        Ok(())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.address)
            .field("prefix", &self.prefix)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("address", &self.info.as_ref().map(|info| info.addr().to_string()).ok())
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
