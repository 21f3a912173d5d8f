//! A store that forwards to another one, except for the calls that a test overrides.

use std::{fmt, ops::Deref, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Key, Store, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome, StoreError},
};

/// The calls of a store that a test replaces. Every provided method forwards to [`inner`](Self::inner).
///
/// [`Overridden`] makes a [`Store`] of it.
#[async_trait]
pub trait StoreOverride: fmt::Debug + Send + Sync + 'static {
    /// Returns the store that receives all calls that are not overridden.
    fn inner(&self) -> &dyn Store;

    /// Replaces [`Store::load`].
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.inner().load(key, receipt).await
    }

    /// Replaces [`Store::save`].
    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        self.inner().save(key, record, expect, receipt).await
    }

    /// Replaces [`Store::refuse`].
    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.inner().refuse(key, receipt, answer).await
    }

    /// Replaces [`Store::release`].
    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.inner().release(receipts).await
    }

    /// Replaces [`Store::due`].
    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.inner().due(limit).await
    }

    /// Replaces [`Store::pending`].
    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        self.inner().pending(limit).await
    }

    /// Replaces [`Store::delete`].
    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.inner().delete(key, version).await
    }

    /// Replaces [`Store::touch`].
    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.inner().touch(key, ttl).await
    }

    /// Replaces [`Store::sweep`].
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner().sweep(limit).await
    }

    /// Replaces [`Store::ping`].
    async fn ping(&self) -> Result<(), StoreError> {
        self.inner().ping().await
    }
}

/// A [`Store`] with the calls of a [`StoreOverride`], whose fields are reached through `Deref`. All other calls go to
/// [`inner`](StoreOverride::inner).
#[derive(Debug)]
pub struct Overridden<T>(pub T);

impl<T> Deref for Overridden<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[async_trait]
impl<T: StoreOverride> Store for Overridden<T> {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.0.load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        self.0.save(key, record, expect, receipt).await
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.0.refuse(key, receipt, answer).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.0.release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.0.due(limit).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        self.0.pending(limit).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.0.delete(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.0.touch(key, ttl).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.0.sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.0.ping().await
    }

    fn settles_within(&self) -> Duration {
        self.0.inner().settles_within()
    }

    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        self.0.inner().is_written_elsewhere().await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.0.inner().flush().await
    }
}
