//! The public store type.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bb8_redis::redis::IntoConnectionInfo;
use faststate_core::{
    Key, Store, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};

use crate::{
    builder::RedisStoreBuilder,
    durability::Durability,
    keys::Prefix,
    order::{self, StoreCommand},
    queue::CommandQueue,
};

/// A store in Redis or Valkey. The [crate documentation](crate) states its promises for each setting of the server.
///
/// It needs the tokio runtime in which it was connected. Cloning is cheap; the connections are shared.
#[derive(Clone)]
pub struct RedisStore {
    pub(crate) queue: CommandQueue,
    pub(crate) prefix: Prefix,
    pub(crate) address: String,
    pub(crate) durability: Durability,
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

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        order::loaded(key, self.queue.run(StoreCommand::load(&self.prefix, key, receipt)).await?)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        order::saved(self.queue.run(StoreCommand::save(&self.prefix, key, record, expect, receipt)).await?)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        order::changed(self.queue.run(StoreCommand::delete(&self.prefix, key, version)).await?)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        order::changed(self.queue.run(StoreCommand::touch(&self.prefix, key, ttl)).await?)
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
