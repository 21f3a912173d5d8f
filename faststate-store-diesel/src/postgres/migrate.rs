//! Creates and upgrades the tables.

use std::time::Duration;

use super::{connection::PostgresConnection, connector::PostgresConnector};
use crate::{
    error::BackendError,
    migrations,
    statement::{Bind, Statement, only},
};

/// The schema migrations. Nodes of the previous version use the tables meanwhile.
const STEPS: &[&str] = &[
    "
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
",
    // Messages. All of these columns are NULL in a record without messages. The tables are locked in the order in which
    // a save locks them.
    "
LOCK TABLE faststate_receipts, faststate_records IN ACCESS EXCLUSIVE MODE;
ALTER TABLE faststate_receipts ADD COLUMN answer bytea;
ALTER TABLE faststate_records
    ADD COLUMN pending bytea,
    ADD COLUMN waiting bigint,
    ADD COLUMN parked bigint,
    ADD COLUMN oldest bigint,
    ADD COLUMN due bigint;
CREATE INDEX faststate_records_oldest ON faststate_records (oldest) WHERE oldest IS NOT NULL;
CREATE INDEX faststate_records_due ON faststate_records (due) WHERE due IS NOT NULL;
",
];

/// Creates or upgrades the tables, and logs a warning if a crash of the server loses acknowledged saves.
pub(super) async fn prepare_database(
    connector: &PostgresConnector,
    within: Duration,
) -> Result<(), BackendError> {
    let connection = PostgresConnection::connect(connector, within).await?;
    // A role without the right to create tables can use existing ones.
    let exists = number(&connection, "SELECT count(to_regclass('faststate_schema'))").await? > 0;
    let found = if exists { version(&connection).await? } else { 0 };
    if migrations::missing(found, STEPS)?.next().is_some() {
        migrate(&connection).await?;
    }
    let unsafe_settings = "SELECT count(*) FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'";
    if number(&connection, unsafe_settings).await? > 0 {
        tracing::warn!("this PostgreSQL runs without fsync or full_page_writes: a crash loses data");
    }
    Ok(())
}

/// Runs the missing steps in one transaction, one node at a time. A dropped connection rolls it back.
///
/// While the transaction waits for a table, all calls of other nodes wait behind it. So it does not wait for long, and
/// opening the store fails if, for example, a dump is in progress.
async fn migrate(connection: &PostgresConnection) -> Result<(), BackendError> {
    connection
        .batch_execute(
            "BEGIN ISOLATION LEVEL READ COMMITTED;
             SELECT pg_advisory_xact_lock(6120119);
             SET LOCAL lock_timeout = '2s';
             CREATE TABLE IF NOT EXISTS faststate_schema (version bigint NOT NULL PRIMARY KEY)",
        )
        .await?;
    let found = version(connection).await?;
    for (number, step) in migrations::missing(found, STEPS)? {
        connection.batch_execute(step).await?;
        let binds = [Bind::Number(number)];
        connection.execute(Statement::new("INSERT INTO faststate_schema VALUES (?)", &binds)).await?;
    }
    Ok(connection.batch_execute("COMMIT").await?)
}

/// The number of the last completed step; 0 if there is none.
async fn version(connection: &PostgresConnection) -> Result<i64, BackendError> {
    number(connection, "SELECT coalesce(max(version), 0) FROM faststate_schema").await
}

async fn number(connection: &PostgresConnection, text: &'static str) -> Result<i64, BackendError> {
    Ok(connection.load_numbers(Statement::returning(text, &[])).await.and_then(only)?)
}
