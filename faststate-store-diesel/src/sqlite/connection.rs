//! Opens connections, and creates and upgrades the tables.

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

use super::{address::SqliteAddress, file::DatabaseFile};
use crate::{
    address::DatabaseAddressError,
    error::BackendError,
    migrations,
    statement::{Bind, Statement},
};

/// The schema migrations, in order.
const STEPS: &[&str] = &[
    "
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
",
    // Messages. All of these columns are NULL in a record without messages.
    "
ALTER TABLE faststate_records ADD COLUMN pending BLOB;
ALTER TABLE faststate_records ADD COLUMN waiting INTEGER;
ALTER TABLE faststate_records ADD COLUMN parked INTEGER;
ALTER TABLE faststate_records ADD COLUMN oldest INTEGER;
ALTER TABLE faststate_records ADD COLUMN due INTEGER;
CREATE INDEX faststate_records_oldest ON faststate_records (oldest, waiting, parked) WHERE oldest IS NOT NULL;
CREATE INDEX faststate_records_due ON faststate_records (due) WHERE due IS NOT NULL;
ALTER TABLE faststate_receipts ADD COLUMN answer BLOB;
",
];

/// Opens connections to one file.
#[derive(Clone, Debug)]
pub(super) struct SqliteOpener {
    url: Arc<str>,
    pub(super) file: DatabaseFile,
    /// Maximum wait for a lock that another connection holds, usually that of another program. It is half of
    /// a call's deadline, so that the next queued call still returns in time if this wait fails.
    lock_timeout: Duration,
}

impl SqliteOpener {
    pub(super) fn new(address: &SqliteAddress, timeout: Duration) -> Result<Self, BackendError> {
        let SqliteAddress { path, may_create } = address;
        let text = path.to_str().ok_or_else(|| BackendError::Unfit("its path is not UTF-8".to_owned()))?;
        if text.is_empty() || text.contains(":memory:") {
            let hint = "a database in memory keeps nothing: use faststate_core::MemoryStore";
            return Err(BackendError::Unfit(hint.to_owned()));
        }
        // Prefix a relative path, because SQLite would parse a name that begins with `file:` as a URI.
        let path = if path.is_absolute() { PathBuf::from(path) } else { Path::new(".").join(path) };
        if *may_create {
            create_private(&path);
        } else if !path.exists() {
            let problem = "is `rw`, but there is no file at this path: create it, or use `rwc`";
            return Err(DatabaseAddressError::parameter("mode", problem).into());
        }
        let url = path.to_string_lossy().into();
        Ok(Self { url, file: DatabaseFile::new(path), lock_timeout: timeout / 2 })
    }

    /// Opens a connection with the settings that the guarantees of the store require.
    pub(super) fn open(&self) -> Result<SqliteConnection, BackendError> {
        // Check first, because SQLite would create a new file in place of a deleted one.
        self.file.check()?;
        let mut sqlite = SqliteConnection::establish(&self.url)?;
        sqlite.batch_execute(&format!("PRAGMA busy_timeout = {}", self.lock_timeout.as_millis()))?;
        let mode: JournalMode = sql_query("PRAGMA journal_mode = WAL").get_result(&mut sqlite)?;
        if mode.journal_mode != "wal" {
            return Err(BackendError::Unfit(
                "its file system has no shared memory, which SQLite's WAL needs".to_owned(),
            ));
        }
        // `fullfsync` has an effect on macOS only, where fsync leaves data in the disk's cache.
        //
        // Receipts have random digests, so a large transaction changes almost one page per receipt. With a
        // large cache (16 MiB) and rare checkpoints (every 32 MiB), each of these pages is written less
        // often.
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

/// Creates the file if it is missing, so that only this user can read and write it. If SQLite created it,
/// other users could read it. SQLite gives its journal the same mode.
fn create_private(path: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // An existing file keeps its mode. Other errors recur when SQLite opens the file, and are reported then.
    let _ = options.open(path);
}

#[derive(QueryableByName)]
struct JournalMode {
    #[diesel(sql_type = sql_types::Text)]
    journal_mode: String,
}

/// Creates or upgrades the tables. The caller runs it in a transaction.
pub(super) fn migrate(sqlite: &mut SqliteConnection, _now: i64) -> Result<(), BackendError> {
    sqlite.batch_execute(
        "CREATE TABLE IF NOT EXISTS faststate_schema (version INTEGER NOT NULL PRIMARY KEY)",
    )?;
    let version = "SELECT coalesce(max(version), 0) FROM faststate_schema";
    let found = Statement::<sql_types::BigInt>::returning(version, &[]).get_result::<i64>(sqlite)?;
    for (number, step) in migrations::missing(found, STEPS)? {
        sqlite.batch_execute(step)?;
        Statement::new("INSERT INTO faststate_schema VALUES (?)", &[Bind::Number(number)]).execute(sqlite)?;
    }
    Ok(())
}
