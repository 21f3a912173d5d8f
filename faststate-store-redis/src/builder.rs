//! The builder of a store.

use std::{fmt, time::Duration};

use bb8_redis::{
    bb8::Pool,
    redis::{ConnectionInfo, IntoConnectionInfo, RedisResult},
};
use faststate_core::store::StoreError;

use crate::{
    connection::Connector,
    durability::{self, Durability},
    error::RedisStoreError,
    keys::Prefix,
    order::StoreCommand,
    queue::{CommandQueue, PipelineSender},
    store::RedisStore,
};

/// The address and the settings of a [`RedisStore`].
#[must_use]
pub struct RedisStoreBuilder {
    info: RedisResult<ConnectionInfo>,
    prefix: String,
    timeout: Duration,
    connections: u32,
}

impl RedisStoreBuilder {
    pub(crate) fn new(info: impl IntoConnectionInfo) -> Self {
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
