//! The interface of the databases, below the call deadline.

use std::{fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use faststate_core::{
    Key, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome},
};

use crate::error::Error;

/// A [`Store`](faststate_core::Store) without deadlines and size limits. A call may be dropped at any point: the
/// database then executes it completely or not at all.
#[async_trait]
pub(crate) trait Backend: fmt::Debug + Send + Sync + 'static {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, Error>;

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, Error>;

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, Error>;

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, Error>;

    async fn sweep(&self, limit: usize) -> Result<usize, Error>;

    async fn ping(&self) -> Result<(), Error>;

    /// Returns whether another process has written since the last call. For databases that one process serves.
    async fn is_written_elsewhere(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Moves the contents of a write-ahead log into the database.
    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Writes a copy of the database into a new file.
    async fn backup(&self, file: PathBuf) -> Result<(), Error>;
}
