//! Connects to the server and creates the tables.

use std::{fmt, sync::Arc, time::Duration};

use diesel::sql_types::{BigInt, Nullable};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, config::TargetSessionAttrs};

use crate::{
    error::BackendError,
    migrations,
    statement::{Bind, Statement, only},
};

/// The schema migrations.
const STEPS: &[&str] = &["
CREATE TABLE faststate_records (
    record_key bytea NOT NULL PRIMARY KEY,
    state_schema bigint NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    nonce bigint NOT NULL,
    data bytea NOT NULL,
    expires_at bigint
);
CREATE INDEX faststate_records_expire ON faststate_records (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE faststate_receipts (
    digest bytea NOT NULL PRIMARY KEY,
    expires_at bigint NOT NULL
);
CREATE INDEX faststate_receipts_expire ON faststate_receipts (expires_at);
"];

/// Opens connections to one database.
pub(super) struct PostgresConnector {
    config: Config,
    timeout: Duration,
    /// Begins a transaction of several saves. Its lock timeout is short enough that each save can still be retried
    /// alone.
    pub(super) begin: String,
}

impl PostgresConnector {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, BackendError> {
        let begin = format!("BEGIN; SET LOCAL lock_timeout = {}", (timeout / 4).as_millis().max(1));
        Ok(Self { config: config(url, timeout)?, timeout, begin })
    }

    /// Opens a connection with the settings that the store's promises need.
    pub(super) async fn open(&self) -> Result<AsyncPgConnection, BackendError> {
        let mut connection = self.connect().await?;
        // The server also gives up, so that no statement runs long after its caller. All levels of
        // `synchronous_commit` except `off` wait for the local disk.
        let settings = format!(
            "SET statement_timeout = {0};
             SET idle_in_transaction_session_timeout = {0};
             SET default_transaction_isolation = 'read committed';
             SELECT set_config('synchronous_commit', 'on', false)
                WHERE current_setting('synchronous_commit') = 'off'",
            self.timeout.as_millis()
        );
        connection.batch_execute(&settings).await?;
        Ok(connection)
    }

    /// Connects within the deadline, because a server that hangs also accepts connections.
    async fn connect(&self) -> Result<AsyncPgConnection, BackendError> {
        let connect = async {
            let (client, connection) = self.config.connect(NoTls).await.map_err(connecting)?;
            Ok(AsyncPgConnection::try_from_client_and_connection(client, connection).await?)
        };
        timeout(self.timeout, connect).await.unwrap_or(Err(BackendError::Late(self.timeout)))
    }

    /// Creates or upgrades the tables, and logs a warning if a crash of the server loses acknowledged saves.
    pub(super) async fn prepare_database(&self) -> Result<(), BackendError> {
        let refused = timeout(self.timeout, refuse_transaction_pool(&self.config)).await;
        refused.unwrap_or(Err(BackendError::Late(self.timeout)))?;
        let mut connection = self.connect().await?;
        // A role without the right to create tables can use existing ones.
        let exists = count(&mut connection, "SELECT count(to_regclass('faststate_schema'))").await? > 0;
        let found = if exists { version(&mut connection).await? } else { None };
        if migrations::missing(found, STEPS)?.next().is_some() {
            migrate(&mut connection).await?;
        }
        let unsafe_settings = "SELECT count(*) FROM pg_settings
            WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'";
        if count(&mut connection, unsafe_settings).await? > 0 {
            tracing::warn!("this PostgreSQL runs without fsync or full_page_writes: a crash loses data");
        }
        Ok(())
    }
}

/// Runs the missing steps in one transaction, one node at a time. A dropped connection rolls it back.
async fn migrate(connection: &mut AsyncPgConnection) -> Result<(), BackendError> {
    connection
        .batch_execute(
            "BEGIN;
             SELECT pg_advisory_xact_lock(6120119);
             CREATE TABLE IF NOT EXISTS faststate_schema (version bigint NOT NULL PRIMARY KEY)",
        )
        .await?;
    let found = version(connection).await?;
    for (number, step) in migrations::missing(found, STEPS)? {
        connection.batch_execute(step).await?;
        let binds = [Bind::Number(number)];
        Statement::new("INSERT INTO faststate_schema VALUES (?)", &binds).execute(connection).await?;
    }
    Ok(connection.batch_execute("COMMIT").await?)
}

async fn version(connection: &mut AsyncPgConnection) -> Result<Option<i64>, BackendError> {
    let text = "SELECT max(version) FROM faststate_schema";
    Ok(Statement::<Nullable<BigInt>>::returning(text, &[]).load(connection).await.and_then(only)?)
}

async fn count(connection: &mut AsyncPgConnection, text: &'static str) -> Result<i64, BackendError> {
    Ok(Statement::<BigInt>::returning(text, &[]).load(connection).await.and_then(only)?)
}

/// Parses the URL, and sets the timeouts of the connection.
pub(super) fn config(url: &str, timeout: Duration) -> Result<Config, BackendError> {
    let mut config: Config =
        url.parse().map_err(|error: tokio_postgres::Error| BackendError::Address(Arc::new(error)))?;
    config.connect_timeout(timeout).tcp_user_timeout(timeout).keepalives_idle(Duration::from_secs(30));
    // A standby or a demoted server is not accepted: it would return old data and refuse every save.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_application_name().is_none() {
        config.application_name("faststate");
    }
    Ok(config)
}

/// Fails if the address leads to a transaction pool, in which two clients share a process of the server.
pub(super) async fn refuse_transaction_pool(config: &Config) -> Result<(), BackendError> {
    let (first, second) = (connect_plainly(config).await?, connect_plainly(config).await?);
    if process(&first).await? == process(&second).await? {
        Err(BackendError::TransactionPool)
    } else {
        Ok(())
    }
}

async fn connect_plainly(config: &Config) -> Result<Client, BackendError> {
    let (client, connection) = config.connect(NoTls).await.map_err(connecting)?;
    // The task ends when the client is dropped.
    tokio::spawn(connection);
    Ok(client)
}

/// The server process that runs this client's transaction. Uses the simple protocol, which every pool forwards.
async fn process(client: &Client) -> Result<Option<String>, BackendError> {
    let answers = client.simple_query("SELECT pg_backend_pid()").await.map_err(connecting)?;
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

pub(super) fn connecting(error: tokio_postgres::Error) -> BackendError {
    // Classes 28 and 3D: invalid authorization, invalid database.
    let denied =
        error.code().is_some_and(|code| code.code().starts_with("28") || code.code().starts_with("3D"));
    if denied { BackendError::Denied(Arc::new(error)) } else { BackendError::Connect(Arc::new(error)) }
}

impl fmt::Debug for PostgresConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("hosts", &self.config.get_hosts())
            .field("ports", &self.config.get_ports())
            .field("database", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}
