//! The public store type.

use std::{fmt, future::Future, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Key, Store, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome, StoreError},
};

use crate::{backend::Backend, error::BackendError};

/// A store in a database. Cheap to clone; the connections are shared.
///
/// Created by [`sqlite`](Self::sqlite), or by `postgres` or `mysql` with the feature of that name.
#[derive(Clone)]
pub struct DieselStore {
    backend: Arc<dyn Backend>,
    timeout: Duration,
}

impl DieselStore {
    pub(crate) fn new(backend: impl Backend, timeout: Duration) -> Self {
        Self { backend: Arc::new(backend), timeout }
    }

    /// Writes a copy of the SQLite database into `file` while the application runs. The copy contains every save that was
    /// acknowledged before the call; a concurrent save is in it completely or not at all. It has the permissions of the
    /// original and needs no other file. A plain copy of the database file would lack the contents of its write-ahead
    /// log.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for PostgreSQL and MySQL, which have their own tools. [`StoreError::Unavailable`] if `file`
    /// exists or cannot be written; [`StoreError::Full`] if the disk is full. An incomplete file is removed.
    ///
    /// # Cancellation
    /// A dropped call continues in the background.
    pub async fn backup(&self, file: impl AsRef<Path>) -> Result<(), StoreError> {
        Ok(self.backend.backup(file.as_ref().to_owned()).await?)
    }

    /// Runs a call within the deadline.
    async fn with_deadline<T>(
        &self,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        tokio::time::timeout(self.timeout, call).await.unwrap_or(Err(BackendError::Late(self.timeout)))
    }
}

#[async_trait]
impl Store for DieselStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.with_deadline(self.backend.load(key, receipt)).await.map_err(|error| error.about(key))
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        Ok(self.with_deadline(self.backend.save(key, record, expect, receipt)).await?)
    }

    async fn refuse(&self, _: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        Ok(self.with_deadline(self.backend.refuse(receipt, answer)).await?)
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        let receipts = receipts.iter().map(|(_, receipt)| *receipt).collect();
        Ok(self.with_deadline(self.backend.release(receipts)).await?)
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        Ok(self.with_deadline(self.backend.due(limit)).await?)
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        Ok(self.with_deadline(self.backend.pending(limit)).await?)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        Ok(self.with_deadline(self.backend.delete(key, version)).await?)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        Ok(self.with_deadline(self.backend.touch(key, ttl)).await?)
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        Ok(self.with_deadline(self.backend.sweep(limit)).await?)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.with_deadline(self.backend.ping()).await?)
    }

    /// A sent statement arrives within the timeout (`TCP_USER_TIMEOUT`) or not at all. It then runs for at most another
    /// timeout, and so does the COMMIT after it: PostgreSQL has a statement timeout, and all three databases wait for a
    /// lock for at most half of the timeout or one second.
    fn settles_within(&self) -> Duration {
        self.timeout * 3
    }

    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        Ok(self.with_deadline(self.backend.is_written_elsewhere()).await?)
    }

    async fn flush(&self) -> Result<(), StoreError> {
        Ok(self.with_deadline(self.backend.flush()).await?)
    }
}

impl fmt::Debug for DieselStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DieselStore").field("backend", &self.backend).field("timeout", &self.timeout).finish()
    }
}
