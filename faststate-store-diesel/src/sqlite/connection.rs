//! Opens connections and migrates the file.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use diesel::{
    Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _,
    sql_query, sql_types,
};

use super::file::DatabaseFile;
use crate::{
    error::Error,
    migrations,
    statement::{Bind, Statement},
};

/// The schema migrations.
const STEPS: &[&str] = &["
CREATE TABLE faststate_records (
    record_key BLOB NOT NULL PRIMARY KEY,
    state_schema INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    nonce INTEGER NOT NULL,
    data BLOB NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE INDEX faststate_records_expire ON faststate_records (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE faststate_receipts (
    digest BLOB NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX faststate_receipts_expire ON faststate_receipts (expires_at);
"];

/// Opens connections to one file.
#[derive(Clone, Debug)]
pub(super) struct SqliteOpener {
    url: Arc<str>,
    pub(super) file: DatabaseFile,
    /// How long a call waits for another program's lock.
    patience: Duration,
}

impl SqliteOpener {
    pub(super) fn new(path: &Path, timeout: Duration) -> Result<Self, Error> {
        let text = path.to_str().ok_or_else(|| Error::Unfit("its path is not UTF-8".to_owned()))?;
        if text.is_empty() || text.contains(":memory:") || text.contains("mode=memory") {
            let hint = "a database in memory keeps nothing: use faststate_core::MemoryStore";
            return Err(Error::Unfit(hint.to_owned()));
        }
        // SQLite would parse a name that begins with `file:` as a URI.
        let path = if path.is_absolute() { PathBuf::from(path) } else { Path::new(".").join(path) };
        create_private(&path);
        // Half of the deadline, so that a call that waits behind a failing one still returns in time.
        let url = path.to_string_lossy().into();
        Ok(Self { url, file: DatabaseFile::new(path), patience: timeout / 2 })
    }

    /// Opens a connection with the settings that the store's promises need.
    pub(super) fn open(&self) -> Result<SqliteConnection, Error> {
        // SQLite would create a new file in the place of a deleted one.
        self.file.check()?;
        let mut sqlite = SqliteConnection::establish(&self.url)?;
        sqlite.batch_execute(&format!("PRAGMA busy_timeout = {}", self.patience.as_millis()))?;
        let mode: JournalMode = sql_query("PRAGMA journal_mode = WAL").get_result(&mut sqlite)?;
        if mode.journal_mode != "wal" {
            return Err(Error::Unfit("its disk has no shared memory, as SQLite's WAL needs it".to_owned()));
        }
        // On macOS fsync alone leaves the disk's cache unwritten; elsewhere `fullfsync` means nothing.
        // Receipts come in no order, so that a large transaction touches as many pages: the more of them a
        // checkpoint (every 32 MB) and the cache (16 MB) hold, the less often each is written.
        sqlite.batch_execute(
            "PRAGMA synchronous = FULL;
             PRAGMA fullfsync = ON;
             PRAGMA checkpoint_fullfsync = ON;
             PRAGMA wal_autocheckpoint = 8192;
             PRAGMA cache_size = -16384;
             PRAGMA journal_size_limit = 67108864;",
        )?;
        self.file.was_opened()?;
        Ok(sqlite)
    }
}

/// Creates a missing file for this user alone: SQLite would create one that others can read. Its journal gets the
/// same mode.
fn create_private(path: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // A file that exists keeps its mode; SQLite reports what else is wrong.
    let _ = options.open(path);
}

#[derive(QueryableByName)]
struct JournalMode {
    #[diesel(sql_type = sql_types::Text)]
    journal_mode: String,
}

/// Creates or upgrades the tables. Runs in a transaction.
pub(super) fn migrate(sqlite: &mut SqliteConnection, _now: i64) -> Result<(), Error> {
    sqlite.batch_execute(
        "CREATE TABLE IF NOT EXISTS faststate_schema (version INTEGER NOT NULL PRIMARY KEY)",
    )?;
    let found = Statement::<sql_types::Nullable<sql_types::BigInt>>::returning(
        "SELECT max(version) FROM faststate_schema",
        &[],
    )
    .get_result::<Option<i64>>(sqlite)?;
    for (number, step) in migrations::missing(found, STEPS)? {
        sqlite.batch_execute(step)?;
        Statement::new("INSERT INTO faststate_schema VALUES (?)", &[Bind::Number(number)]).execute(sqlite)?;
    }
    Ok(())
}
