//! SQLite: one thread writes, and a few threads read.

mod address;
mod backup;
mod connection;
mod file;
mod tables;
mod worker;

use std::{
    fmt,
    path::PathBuf,
    sync::atomic::{AtomicI64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use diesel::sqlite::SqliteConnection;
use faststate_core::{
    Key, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome},
};

use self::{address::SqliteAddress, connection::SqliteOpener, worker::Worker};
use crate::{backend::Backend, builder::StoreSettings, error::BackendError};

/// Target duration of one step of a sweep. The commit takes about as long again, and saves wait for both.
const SWEEP_STEP: Duration = Duration::from_millis(10);
/// Minimum and maximum number of rows that a step deletes.
const STEP_ROWS: (usize, usize) = (50, 10_000);

/// Records in one SQLite file.
pub(crate) struct Sqlite {
    opener: SqliteOpener,
    /// The only thread that writes; it runs several calls in one transaction.
    writer: Worker,
    readers: Vec<Worker>,
    next: AtomicUsize,
    /// Number of rows that a sweep deletes in about [`SWEEP_STEP`]. A stale value is harmless, so `Relaxed` is enough.
    step: AtomicUsize,
    /// SQLite's `data_version` at the last check.
    data_version: AtomicI64,
}

impl Sqlite {
    pub(crate) async fn open(address: PathBuf, settings: StoreSettings) -> Result<Self, BackendError> {
        let opener = SqliteOpener::new(&SqliteAddress::parse(&address)?, settings.timeout)?;
        let writer = Worker::spawn("faststate-sqlite-write", opener.clone(), worker::WorkerMode::Write)?;
        writer.run(connection::migrate).await?;
        let data_version = writer.run(|sqlite, _| tables::data_version(sqlite)).await?;
        let readers = (0..settings.connections)
            .map(|_| Worker::spawn("faststate-sqlite-read", opener.clone(), worker::WorkerMode::Read))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            opener,
            writer,
            readers,
            next: AtomicUsize::new(0),
            step: AtomicUsize::new(500),
            data_version: AtomicI64::new(data_version),
        })
    }

    fn reader(&self) -> &Worker {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.readers.get(next % self.readers.len().max(1)).unwrap_or(&self.writer)
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, BackendError> {
        let (asked, receipt) = (key.clone(), receipt.copied());
        let read = move |sqlite: &mut SqliteConnection, now| {
            let loaded = tables::load(sqlite, now, &asked, receipt.as_ref())?;
            let has_expired = loaded.record.is_none() && tables::has_row(sqlite, &asked)?;
            Ok((loaded, has_expired))
        };
        let (loaded, has_expired) = self.reader().run(read).await?;
        if !has_expired {
            return Ok(loaded);
        }
        // The writer may be about to commit a save that it began while the record was alive, so load again after it.
        let asked = key.clone();
        self.writer.run(move |sqlite, now| tables::load(sqlite, now, &asked, receipt.as_ref())).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, BackendError> {
        let (key, record, receipt) = (key.clone(), record.clone(), receipt.copied());
        self.writer
            .run(move |sqlite, now| tables::save(sqlite, now, &key, &record, expect, receipt.as_ref()))
            .await
    }

    async fn refuse(&self, receipt: &Receipt, answer: &Bytes) -> Result<bool, BackendError> {
        let (receipt, answer) = (*receipt, answer.clone());
        self.writer.run(move |sqlite, now| tables::refuse(sqlite, now, &receipt, &answer)).await
    }

    async fn release(&self, receipts: Vec<Receipt>) -> Result<(), BackendError> {
        self.writer.run(move |sqlite, now| tables::release(sqlite, now, &receipts)).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, BackendError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.reader().run(move |sqlite, now| tables::due(sqlite, now, limit)).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, BackendError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.reader().run(move |sqlite, now| tables::pending(sqlite, now, limit)).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, BackendError> {
        let key = key.clone();
        self.writer.run(move |sqlite, now| tables::delete(sqlite, now, &key, version)).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, BackendError> {
        let key = key.clone();
        self.writer.run(move |sqlite, now| tables::touch(sqlite, now, &key, ttl)).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, BackendError> {
        let (mut records, mut receipts) = (0, 0);
        loop {
            let step = self.step.load(Ordering::Relaxed);
            let rows = step.min(limit - records.max(receipts));
            let delete = move |sqlite: &mut SqliteConnection, now| {
                let began = Instant::now();
                let removed = tables::sweep(sqlite, now, rows)?;
                Ok((removed, began.elapsed()))
            };
            // Each step is a call of its own, so that waiting saves run in between.
            let ((more_records, more_receipts), took) = self.writer.run(delete).await?;
            (records, receipts) = (records + more_records, receipts + more_receipts);
            let is_last = more_records.max(more_receipts) < rows;
            if !is_last && rows == step {
                self.step.store(next_step(rows, took), Ordering::Relaxed);
            }
            if is_last || records.max(receipts) >= limit {
                return Ok(records + receipts);
            }
        }
    }

    async fn ping(&self) -> Result<(), BackendError> {
        // An empty transaction takes the lock that a save needs and writes nothing.
        self.writer.run(|_, _| Ok(())).await
    }

    /// A checkpoint of this store counts as well.
    async fn is_written_elsewhere(&self) -> Result<bool, BackendError> {
        let version = self.writer.run(|sqlite, _| tables::data_version(sqlite)).await?;
        Ok(self.data_version.swap(version, Ordering::Relaxed) != version)
    }

    /// Without this, a copy of the file alone would lack the contents of the log.
    async fn flush(&self) -> Result<(), BackendError> {
        self.reader().run(|sqlite, _| tables::checkpoint(sqlite)).await
    }

    async fn backup(&self, file: PathBuf) -> Result<(), BackendError> {
        backup::write(&self.opener, file).await
    }
}

/// The number of rows of the next step after a full one: as many as fit into [`SWEEP_STEP`], and at most twice as many
/// as before.
fn next_step(rows: usize, took: Duration) -> usize {
    let fitting = rows as f64 * SWEEP_STEP.as_secs_f64() / took.as_secs_f64().max(1e-9);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is at most twice as many rows"
    )]
    let fitting = fitting.min(2.0 * rows as f64) as usize;
    fitting.clamp(STEP_ROWS.0, STEP_ROWS.1)
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.opener.file.path()).finish_non_exhaustive()
    }
}
