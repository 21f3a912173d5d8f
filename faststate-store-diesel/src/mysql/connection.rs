//! Connects to the server and creates the tables.

use std::{fmt, sync::Arc, time::Duration};

use diesel::sql_types::{BigInt, Nullable};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use mysql_async::{Conn, DriverError, Opts};
use tokio::time::timeout;

use super::{
    address::{MysqlAddress, TLS},
    tls_options::tls_options,
};
use crate::{
    error::BackendError,
    migrations,
    statement::{Bind, Statement, only},
    tls::TlsFailure,
};

/// Runs a statement unless `information_schema` has a row of this description. Only MariaDB knows `IF NOT EXISTS` here.
macro_rules! unless_exists {
    ($row:literal, $statement:literal) => {
        concat!(
            "SET @faststate_step = IF(EXISTS (SELECT 1 FROM information_schema.",
            $row,
            "), 'DO 0', '",
            $statement,
            "');
            PREPARE faststate_step FROM @faststate_step;
            EXECUTE faststate_step;"
        )
    };
}

/// The schema migrations. MySQL commits each statement by itself, so every statement can be repeated after an
/// interrupted step. Nodes of the previous version use the tables meanwhile.
const STEPS: &[&str] = &[
    "
CREATE TABLE IF NOT EXISTS faststate_records (
    record_key VARBINARY(2048) NOT NULL PRIMARY KEY,
    state_schema BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    nonce BIGINT NOT NULL,
    data LONGBLOB NOT NULL,
    expires_at BIGINT,
    KEY faststate_records_expire (expires_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
CREATE TABLE IF NOT EXISTS faststate_receipts (
    digest VARBINARY(16) NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    KEY faststate_receipts_expire (expires_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
",
    // Messages. All of these columns are NULL in a record without messages. The indexes have a statement of their own,
    // because the server adds columns without a copy of the table only if the statement does nothing else.
    concat!(
        unless_exists!(
            "columns WHERE table_schema = DATABASE() AND table_name = 'faststate_records' AND column_name = 'due'",
            "ALTER TABLE faststate_records ADD COLUMN pending LONGBLOB, ADD COLUMN waiting BIGINT,
                ADD COLUMN parked BIGINT, ADD COLUMN oldest BIGINT, ADD COLUMN due BIGINT"
        ),
        unless_exists!(
            "statistics WHERE table_schema = DATABASE() AND index_name = 'faststate_records_due'",
            "ALTER TABLE faststate_records ADD KEY faststate_records_oldest (oldest, waiting, parked),
                ADD KEY faststate_records_due (due)"
        ),
        unless_exists!(
            "columns WHERE table_schema = DATABASE() AND table_name = 'faststate_receipts' AND column_name = 'answer'",
            "ALTER TABLE faststate_receipts ADD COLUMN answer BLOB"
        ),
        "DEALLOCATE PREPARE faststate_step"
    ),
];

/// Bytes that a save sends in one packet in addition to its data: the key of up to 2 KiB, and numbers.
const PACKET_OVERHEAD_BYTES: usize = 4096;

/// Opens connections to one database.
pub(super) struct MysqlConnector {
    opts: Opts,
    /// The options for a server that offers no TLS, if the address allows it.
    plain: Option<Opts>,
    timeout: Duration,
}

impl MysqlConnector {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, BackendError> {
        let MysqlAddress { options, tls, may_be_plain } = MysqlAddress::parse(url)?;
        // The server also gives up, so that no statement runs long after its caller, and early enough that each save of
        // a batch that was rolled back can be retried alone.
        let wait = (timeout / 2).as_secs().max(1);
        let setup = [
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
            format!("SET SESSION innodb_lock_wait_timeout = {wait}"),
            // The statements convert local time into a number, so daylight saving time must not affect it.
            "SET SESSION time_zone = '+00:00'".to_owned(),
            // Errors are recognised by their English text.
            "SET SESSION lc_messages = 'en_US'".to_owned(),
            "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')".to_owned(),
        ];
        let options = options
            .init(setup.to_vec())
            // Diesel has its own cache.
            .stmt_cache_size(0)
            // Counts the rows that a touch finds, even if their values do not change.
            .client_found_rows(true)
            .prefer_socket(false);
        let plain = may_be_plain.then(|| options.clone().into());
        let tls = tls.as_ref().map(tls_options).transpose()?;
        Ok(Self { opts: options.ssl_opts(tls).into(), plain, timeout })
    }

    /// Opens a connection with the settings that the store's promises need. It has a deadline, because a server that
    /// hangs also accepts connections.
    pub(super) async fn open(&self) -> Result<AsyncMysqlConnection, BackendError> {
        let connect = async {
            let connection = match (Conn::new(self.opts.clone()).await, &self.plain) {
                (Err(error), Some(plain)) if offers_no_tls(&error) => Conn::new(plain.clone()).await,
                (connected, _) => connected,
            };
            let connection = connection.map_err(|error| connect_error(error, &self.opts))?;
            Ok(AsyncMysqlConnection::try_from(connection).await?)
        };
        timeout(self.timeout, connect).await.unwrap_or(Err(BackendError::Late(self.timeout)))
    }

    /// Creates or upgrades the tables, and logs a warning if a crash of the server loses acknowledged saves. Returns the
    /// maximum size of a record's data in bytes.
    pub(super) async fn prepare_database(&self) -> Result<usize, BackendError> {
        let mut connection = self.open().await?;
        // A user without the right to create tables can use existing ones.
        let table = "SELECT count(*) FROM information_schema.tables
            WHERE table_schema = DATABASE() AND table_name = 'faststate_schema'";
        let exists = number(&mut connection, table).await?.unwrap_or_default() > 0;
        let found = if exists { version(&mut connection).await? } else { 0 };
        if migrations::missing(found, STEPS)?.next().is_some() {
            migrate(&mut connection).await?;
        }
        let flush = "SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED)";
        if number(&mut connection, flush).await? != Some(1) {
            tracing::warn!("innodb_flush_log_at_trx_commit is not 1 on this server: a crash loses data");
        }
        let packet = number(&mut connection, "SELECT CAST(@@max_allowed_packet AS SIGNED)").await?;
        let packet = packet.and_then(|packet| usize::try_from(packet).ok()).unwrap_or(usize::MAX);
        Ok(packet.saturating_sub(PACKET_OVERHEAD_BYTES))
    }
}

/// Runs the missing steps, one node at a time. The lock ends with the connection.
///
/// While a statement waits for a table, all calls of other nodes wait behind it. So it does not wait for long, and opening
/// the store fails if, for example, a dump is in progress.
async fn migrate(connection: &mut AsyncMysqlConnection) -> Result<(), BackendError> {
    if number(connection, "SELECT GET_LOCK('faststate_schema', 10)").await? != Some(1) {
        return Err(BackendError::Unfit("another node is busy upgrading its tables".to_owned()));
    }
    connection
        .batch_execute(
            "SET SESSION lock_wait_timeout = 2;
            CREATE TABLE IF NOT EXISTS faststate_schema (version BIGINT NOT NULL PRIMARY KEY) ENGINE = InnoDB",
        )
        .await?;
    let found = version(connection).await?;
    for (number, step) in migrations::missing(found, STEPS)? {
        connection.batch_execute(step).await?;
        let binds = [Bind::Number(number)];
        Statement::new("INSERT INTO faststate_schema VALUES (?)", &binds).execute(connection).await?;
    }
    Ok(())
}

/// The number of the last completed step; 0 if there is none.
async fn version(connection: &mut AsyncMysqlConnection) -> Result<i64, BackendError> {
    Ok(number(connection, "SELECT max(version) FROM faststate_schema").await?.unwrap_or(0))
}

async fn number(
    connection: &mut AsyncMysqlConnection,
    text: &'static str,
) -> Result<Option<i64>, BackendError> {
    Ok(Statement::<Nullable<BigInt>>::returning(text, &[]).load(connection).await.and_then(only)?)
}

fn offers_no_tls(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer))
}

/// Classifies an error during the connection or the log-in.
fn connect_error(error: mysql_async::Error, opts: &Opts) -> BackendError {
    let failure = match &error {
        error if offers_no_tls(error) => Some(TlsFailure::NotOffered),
        // `require_secure_transport`.
        mysql_async::Error::Server(answer) if answer.code == 3159 => Some(TlsFailure::Demanded),
        mysql_async::Error::Server(answer) if matches!(answer.code, 1044 | 1045 | 1049) => {
            // Access denied, to the server or to the database, and an unknown database. MariaDB also answers so to an
            // unencrypted connection if it requires encryption, and to a missing client certificate.
            let hint = match opts.ssl_opts() {
                None => ", or it requires an encrypted connection: use `ssl-mode=VERIFY_IDENTITY`",
                Some(tls) if tls.client_identity().is_none() => {
                    ", or it requires a client certificate: set `ssl-cert` and `ssl-key`"
                }
                Some(_) => "",
            };
            return BackendError::Denied { hint, source: Arc::new(error) };
        }
        error => TlsFailure::of(error),
    };
    match failure {
        Some(failure) => BackendError::Tls { explanation: failure.explain(&TLS), source: Arc::new(error) },
        None => BackendError::Connect(Arc::new(error)),
    }
}

impl fmt::Debug for MysqlConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.opts.ip_or_hostname())
            .field("port", &self.opts.tcp_port())
            .field("database", &self.opts.db_name())
            .finish_non_exhaustive()
    }
}
