//! The interface of the databases, below the call deadline.

use std::{fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Key, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome},
};

use crate::error::BackendError;

/// A [`Store`](faststate_core::Store) without deadlines and size limits. A call may be dropped at any point: the
/// database then executes it completely or not at all.
#[async_trait]
pub(crate) trait Backend: fmt::Debug + Send + Sync + 'static {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, BackendError>;

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, BackendError>;

    /// Saves the receipt with its answer; returns false if it exists.
    async fn refuse(&self, receipt: &Receipt, answer: &Bytes) -> Result<bool, BackendError>;

    /// Shortens the lifetimes of receipts.
    async fn release(&self, receipts: Vec<Receipt>) -> Result<(), BackendError>;

    async fn due(&self, limit: usize) -> Result<DueKeys, BackendError>;

    async fn pending(&self, limit: usize) -> Result<PendingSummary, BackendError>;

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, BackendError>;

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, BackendError>;

    async fn sweep(&self, limit: usize) -> Result<usize, BackendError>;

    async fn ping(&self) -> Result<(), BackendError>;

    /// Returns whether another process has written since the last call. For databases that one process serves.
    async fn is_written_elsewhere(&self) -> Result<bool, BackendError> {
        Ok(false)
    }

    /// Moves the contents of a write-ahead log into the database.
    async fn flush(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Writes a copy of the database into a new file.
    async fn backup(&self, file: PathBuf) -> Result<(), BackendError>;
}
