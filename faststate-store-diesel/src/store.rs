//! The store that applications hold.

use std::{fmt, future::Future, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use faststate_core::{
    Key, Store, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};

use crate::{backend::Backend, error::Error};

/// A store in a database. Cheap to clone; the connections are shared.
///
/// Made by [`sqlite`](Self::sqlite), and, each with its feature, by `postgres` or `mysql`.
#[derive(Clone)]
pub struct DieselStore {
    backend: Arc<dyn Backend>,
    timeout: Duration,
}

impl DieselStore {
    pub(crate) fn new(backend: impl Backend, timeout: Duration) -> Self {
        Self { backend: Arc::new(backend), timeout }
    }

    /// Writes a copy of the SQLite database into `file`, while the application goes on: everything that was acknowledged
    /// before the call is in it, and whatever is saved meanwhile is in it as a whole or not at all. The copy has the
    /// permissions of the original and needs no other file. A copy of the file alone, made by other means, lacks what is
    /// in the log beside it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] over PostgreSQL and MySQL, which have tools for it. [`StoreError::Unavailable`] if `file`
    /// exists or cannot be written; [`StoreError::Full`] if there is no room for it. A file that was begun is removed.
    ///
    /// # Cancellation
    /// A dropped call goes on.
    pub async fn backup(&self, file: impl AsRef<Path>) -> Result<(), StoreError> {
        Ok(self.backend.backup(file.as_ref().to_owned()).await?)
    }

    /// What the call gives, unless that takes too long.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(self.timeout, call).await.unwrap_or(Err(Error::Late(self.timeout)))
    }
}

#[async_trait]
impl Store for DieselStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.in_time(self.backend.load(key, receipt)).await.map_err(|error| error.about(key))
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        Ok(self.in_time(self.backend.save(key, record, expect, receipt)).await?)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        Ok(self.in_time(self.backend.delete(key, version)).await?)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        Ok(self.in_time(self.backend.touch(key, ttl)).await?)
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        Ok(self.in_time(self.backend.sweep(limit)).await?)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.in_time(self.backend.ping()).await?)
    }

    /// What was sent arrives within the timeout (`TCP_USER_TIMEOUT`), or not at all. From then on a statement
    /// runs for as long again at most, as does the COMMIT after it: PostgreSQL has a statement timeout, and all
    /// three wait for a lock for half of the timeout, or for a second, at most.
    fn settles_within(&self) -> Duration {
        self.timeout * 3
    }

    async fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        Ok(self.in_time(self.backend.is_written_elsewhere()).await?)
    }

    async fn flush(&self) -> Result<(), StoreError> {
        Ok(self.in_time(self.backend.flush()).await?)
    }
}

impl fmt::Debug for DieselStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DieselStore").field("backend", &self.backend).field("timeout", &self.timeout).finish()
    }
}
