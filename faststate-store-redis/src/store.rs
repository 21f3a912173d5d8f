//! The store.

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
    order::{self, Order},
    queue::Queue,
};

/// A store in Redis or Valkey: see the [crate](crate) for what it promises with which settings.
///
/// It needs the tokio runtime that it was connected in. Cheap to clone; the connections are shared.
#[derive(Clone)]
pub struct RedisStore {
    pub(crate) queue: Queue,
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

    /// How to connect: prefix, time-out, number of connections.
    pub fn builder(info: impl IntoConnectionInfo) -> RedisStoreBuilder {
        RedisStoreBuilder::new(info)
    }

    /// What the server's settings promised for law 1 when the store connected.
    #[must_use]
    pub const fn durability(&self) -> &Durability {
        &self.durability
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        order::loaded(key, self.queue.ask(Order::load(&self.prefix, key, receipt)).await?)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        order::saving(self.queue.ask(Order::save(&self.prefix, key, record, expect, receipt)).await?)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        order::whether(self.queue.ask(Order::delete(&self.prefix, key, version)).await?)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        order::whether(self.queue.ask(Order::touch(&self.prefix, key, ttl)).await?)
    }

    /// Nothing to do: Redis removes what has expired by itself.
    async fn sweep(&self, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.queue.ask(Order::ping(&self.prefix)).await?;
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
