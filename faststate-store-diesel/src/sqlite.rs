//! SQLite: one thread that writes, some that read.

mod connection;
mod tables;
mod worker;

use std::{fmt, path::PathBuf, sync::atomic::AtomicUsize, sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use diesel::sqlite::SqliteConnection;
use faststate_core::{
    Key, Version,
    store::{Expect, Loaded, Receipt, Record, Saving},
};

use self::{connection::Opener, worker::Worker};
use crate::{backend::Backend, builder::Settings, error::Error};

/// Records in one SQLite file.
pub(crate) struct Sqlite {
    path: PathBuf,
    /// Alone writes, many calls in one transaction.
    writer: Worker,
    readers: Vec<Worker>,
    next: AtomicUsize,
}

impl Sqlite {
    pub(crate) async fn open(path: PathBuf, settings: Settings) -> Result<Self, Error> {
        let opener = Opener::new(&path, settings.timeout)?;
        let writer = Worker::spawn("faststate-sqlite-write", opener.clone(), worker::Mode::Write)?;
        writer.run(connection::migrate).await?;
        let readers = (0..settings.connections)
            .map(|_| Worker::spawn("faststate-sqlite-read", opener.clone(), worker::Mode::Read))
            .collect::<Result<_, _>>()?;
        Ok(Self { path, writer, readers, next: AtomicUsize::new(0) })
    }

    fn reader(&self) -> &Worker {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.readers.get(next % self.readers.len().max(1)).unwrap_or(&self.writer)
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, Error> {
        let (asked, receipt) = (key.clone(), receipt.copied());
        let look = move |sqlite: &mut SqliteConnection, now| {
            let loaded = tables::load(sqlite, now, &asked, receipt.as_ref())?;
            let has_expired = loaded.record.is_none() && tables::has_row(sqlite, &asked)?;
            Ok((loaded, has_expired))
        };
        let (loaded, has_expired) = self.reader().run(look).await?;
        if !has_expired {
            return Ok(loaded);
        }
        // A writer may be about to commit what it did while the record still lived: after it, it is known.
        let asked = key.clone();
        self.writer.run(move |sqlite, now| tables::load(sqlite, now, &asked, receipt.as_ref())).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Expect,
        receipt: Option<&Receipt>,
    ) -> Result<Saving, Error> {
        let (key, record, receipt) = (key.clone(), record.clone(), receipt.copied());
        self.writer
            .run(move |sqlite, now| tables::save(sqlite, now, &key, &record, expect, receipt.as_ref()))
            .await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, Error> {
        let key = key.clone();
        self.writer.run(move |sqlite, now| tables::delete(sqlite, now, &key, version)).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, Error> {
        let key = key.clone();
        self.writer.run(move |sqlite, now| tables::touch(sqlite, now, &key, ttl)).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        self.writer.run(move |sqlite, now| tables::sweep(sqlite, now, limit)).await
    }

    async fn ping(&self) -> Result<(), Error> {
        // An empty transaction takes the lock that a save needs and writes nothing.
        self.writer.run(|_, _| Ok(())).await
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path).finish_non_exhaustive()
    }
}
