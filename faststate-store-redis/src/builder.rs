//! How a store connects.

use std::{fmt, time::Duration};

use bb8_redis::{
    bb8::Pool,
    redis::{ConnectionInfo, IntoConnectionInfo, RedisResult},
};
use faststate_core::store::StoreError;

use crate::{
    connection::Connector,
    durability::{self, Durability},
    error::Problem,
    keys::Prefix,
    order::Order,
    queue::{Line, Queue},
    store::RedisStore,
};

/// Where a [`RedisStore`] connects to, and how.
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

    /// The application's own part of the server (`faststate`): every Redis key begins with it. 1 to 64
    /// letters, digits, `_`, `-` and `.`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a call may take (2 s); then it fails, and the outcome of a save is unknown. A connection
    /// has half of it to come about.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many connections there are at most (2), each with one pipeline on its way. Redis works on one
    /// at a time, so that more make smaller pipelines, and cost more, rather than more speed.
    pub const fn connections(mut self, connections: u32) -> Self {
        self.connections = if connections == 0 { 1 } else { connections };
        self
    }

    /// Connects, and warns in the log unless the server's settings keep law 1.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the address, the password or the prefix is wrong,
    /// [`StoreError::Unavailable`] if there is no answer in time.
    pub async fn connect(self) -> Result<RedisStore, StoreError> {
        let prefix = Prefix::new(&self.prefix)?;
        let timeout = self.timeout.max(Duration::from_millis(1));
        let (info, connector) = self
            .info
            .and_then(|info| Connector::new(&info, timeout / 2, timeout).map(|connector| (info, connector)))
            .map_err(Problem::Redis)?;
        let (address, failure) = (info.addr().to_string(), connector.failure());
        let pool = Pool::builder()
            .max_size(self.connections)
            .connection_timeout(timeout / 2)
            // Costs nothing: see `Connector::is_valid`.
            .test_on_check_out(true)
            .build_unchecked(connector);
        let line = Line { pool: pool.clone(), failure: failure.clone(), address: address.clone() };
        let queue = Queue::start(line, self.connections, timeout);
        queue.ask(Order::ping(&prefix)).await?;
        let durability = match pool.get().await {
            Ok(mut connection) => {
                Durability::judge(connection.exchange(durability::question()).await.map_err(Problem::Redis)?)
            }
            Err(_) => return Err(Problem::Connection { address, source: failure.get() }.into()),
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
