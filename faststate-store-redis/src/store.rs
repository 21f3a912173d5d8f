//! The store and its builder.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Key, Store, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use futures::future::try_join_all;

use crate::{
    address::{AddressError, Deployment, RedisAddress},
    command::{self, StoreCommand},
    dialer::{Dialer, Timeouts},
    durability::Durability,
    error::RedisStoreError,
    keys::Prefix,
    primary::Primary,
    queue::{CallLimits, CommandQueue},
    router::{CallRouter, ClusterRouter},
    schedule,
    topology::Topology,
};

/// Maximum number of receipts that one script releases.
const RELEASES_PER_CALL: usize = 500;
/// Maximum number of entries of an index that one script checks.
const MAX_SWEPT: usize = 100;

/// A store in Redis or Valkey. The [crate documentation](crate) states its promises for each setting of the server.
///
/// It needs the tokio runtime in which it was connected. Cloning is cheap; the connections are shared.
#[derive(Clone)]
pub struct RedisStore {
    router: CallRouter,
    prefix: Prefix,
    address: String,
    durability: Durability,
    /// The number of sweeps, which take turns at the buckets. Relaxed, because it only counts.
    sweeps: Arc<AtomicUsize>,
}

impl RedisStore {
    /// Connects to an [address](crate#addresses) such as `rediss://user:password@host/0`, with the prefix `faststate`.
    ///
    /// # Errors
    /// As [`RedisStoreBuilder::connect`].
    pub async fn connect(address: impl Into<String>) -> Result<Self, StoreError> {
        Self::builder(address).connect().await
    }

    /// Returns a builder for the prefix, the timeout and the number of connections.
    pub fn builder(address: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder {
            address: RedisAddress::parse(&address.into()),
            prefix: "faststate".to_owned(),
            timeout: Duration::from_secs(2),
            connections: 2,
        }
    }

    /// The durability (law 1) that the server's settings gave when the store connected. In a cluster, that of the
    /// server with the weakest settings.
    #[must_use]
    pub const fn durability(&self) -> &Durability {
        &self.durability
    }
}

/// The address and the settings of a [`RedisStore`].
#[must_use]
pub struct RedisStoreBuilder {
    address: Result<RedisAddress, AddressError>,
    prefix: String,
    timeout: Duration,
    connections: u32,
}

impl RedisStoreBuilder {
    /// The prefix of all Redis keys of this application (default: `faststate`). It has 1 to 64 letters, digits, `_`,
    /// `-` and `.`.
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

    /// Maximum number of connections to a server (default: 2), each with one pipeline in progress. Redis executes one
    /// pipeline at a time, so more connections make the pipelines smaller and cost more, but are not faster.
    pub const fn connections(mut self, connections: u32) -> Self {
        self.connections = if connections == 0 { 1 } else { connections };
        self
    }

    /// Connects, and logs a warning if the settings of a server do not keep law 1.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the address, a certificate, the password or the prefix is wrong,
    /// [`StoreError::Unavailable`] if the server does not respond in time.
    pub async fn connect(self) -> Result<RedisStore, StoreError> {
        let mut prefix = Prefix::new(&self.prefix)?;
        let parsed = self.address.map_err(RedisStoreError::Address)?;
        let timeout = self.timeout.max(Duration::from_millis(1));
        // Less than the pool waits for a connection, so that the pool's caller gets the reason.
        let timeouts = Timeouts { connect: timeout * 2 / 5, answer: timeout };
        let limits = CallLimits { timeout, connections: self.connections };
        let dialer = Dialer::new(&parsed, timeouts).map_err(RedisStoreError::Tls)?;
        let address = parsed.to_string();
        let router = if parsed.deployment == Deployment::Cluster {
            prefix = prefix.with_buckets();
            let cluster = ClusterRouter::new(Topology::new(&parsed, &dialer), dialer, limits);
            cluster.start().await?;
            CallRouter::Cluster(cluster.into())
        } else {
            let primary = Primary::new(&parsed, dialer, prefix.nothing());
            CallRouter::Single(CommandQueue::start(primary, address.clone(), limits))
        };
        router.ping(&prefix).await?;
        let durability = router.durability().await?;
        durability.warn(&address);
        Ok(RedisStore { router, prefix, address, durability, sweeps: Arc::default() })
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        command::loaded(key, self.router.run(StoreCommand::load(&self.prefix, key, receipt)).await?)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        command::saved(self.router.run(StoreCommand::save(&self.prefix, key, record, expect, receipt)).await?)
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        let refuse = StoreCommand::refuse(&self.prefix, key, receipt, answer);
        command::refused(self.router.run(refuse).await?)
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        let mut buckets: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for (key, receipt) in receipts {
            buckets.entry(self.prefix.bucket(key)).or_default().push(self.prefix.receipt(key, receipt));
        }
        let chunks = buckets.values().flat_map(|receipts| receipts.chunks(RELEASES_PER_CALL));
        let calls = chunks.map(|chunk| self.router.run(StoreCommand::Release { receipts: chunk.to_vec() }));
        try_join_all(calls).await?;
        Ok(())
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        schedule::due(&self.router, &self.prefix, limit).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        schedule::pending(&self.router, &self.prefix, limit).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        command::changed(self.router.run(StoreCommand::delete(&self.prefix, key, version)).await?)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        command::changed(self.router.run(StoreCommand::touch(&self.prefix, key, ttl)).await?)
    }

    /// Removes expired records from the indexes of one bucket. Redis removes expired keys itself.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let call = self.sweeps.fetch_add(1, Ordering::Relaxed);
        let indexes = self.prefix.all_indexes();
        let indexes = indexes[call % indexes.len()].clone();
        let limit = limit.min(MAX_SWEPT);
        command::swept(self.router.run(StoreCommand::Sweep { indexes, limit }).await?)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.router.ping(&self.prefix).await?)
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
            .field("address", &self.address)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
