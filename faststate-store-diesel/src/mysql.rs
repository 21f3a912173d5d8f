//! MySQL and MariaDB: queued saves share a transaction, but each takes its own round trips, because the driver sends no
//! statement before the last one is answered.

mod address;
mod connection;
mod errors;
mod saving;
mod sql;
mod tls_options;

use std::fmt;

use diesel::{
    QueryResult,
    result::Error as DieselError,
    sql_types::{BigInt, Nullable},
};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use faststate_core::store::{Receipt, Record, SaveOutcome};

use self::connection::MysqlConnector;
use crate::{
    builder::StoreSettings,
    error::BackendError,
    pool::Link,
    row::{Columns, LoadedRow},
    save_batcher::{BatchOutcome, QueuedSave},
    schedule::{KeyColumns, KeyRow},
    sql_store::{Dialect, SqlStore, Statements, sweep_tables},
    statement::{Statement, only},
};

/// The dialect of MySQL and MariaDB.
pub(crate) struct Mysql {
    connector: MysqlConnector,
    /// The largest record that fits into a packet (`max_allowed_packet`), in bytes; `usize::MAX` if unknown.
    max_data_bytes: usize,
}

impl Mysql {
    /// Opens the store, and creates or upgrades its tables.
    pub(crate) async fn open(url: &str, settings: StoreSettings) -> Result<SqlStore<Self>, BackendError> {
        let connector = MysqlConnector::new(url, settings.timeout)?;
        let max_data_bytes = connector.prepare_database().await?;
        // Half of the connections: the server works on each transaction step by step.
        Ok(SqlStore::new(Self { connector, max_data_bytes }, settings, settings.connections / 2))
    }
}

impl Dialect for Mysql {
    type Connection = AsyncMysqlConnection;

    const NAME: &'static str = "Mysql";
    const STATEMENTS: Statements = sql::STATEMENTS;

    async fn open(&self) -> Result<AsyncMysqlConnection, BackendError> {
        self.connector.open().await
    }

    async fn execute(connection: &mut AsyncMysqlConnection, statement: Statement<'_>) -> QueryResult<usize> {
        statement.execute(connection).await
    }

    async fn load_row(
        connection: &mut AsyncMysqlConnection,
        statement: Statement<'_, Columns>,
    ) -> QueryResult<LoadedRow> {
        statement.load::<LoadedRow>(connection).await.and_then(only)
    }

    async fn load_numbers(
        connection: &mut AsyncMysqlConnection,
        statement: Statement<'_, BigInt>,
    ) -> QueryResult<Vec<i64>> {
        statement.load::<i64>(connection).await
    }

    async fn load_keys(
        connection: &mut AsyncMysqlConnection,
        statement: Statement<'_, KeyColumns>,
    ) -> QueryResult<Vec<KeyRow>> {
        statement.load::<KeyRow>(connection).await
    }

    async fn refuse(
        connection: &mut AsyncMysqlConnection,
        receipt: &Receipt,
        answer: &[u8],
    ) -> QueryResult<bool> {
        saving::refuse(connection, receipt, answer).await
    }

    /// Four round trips (begin, record, receipt, commit), or one without a receipt.
    async fn save_one(
        &self,
        connection: &mut AsyncMysqlConnection,
        save: &QueuedSave,
    ) -> Result<SaveOutcome, BackendError> {
        saving::save_one(connection, save).await
    }

    /// Two round trips for each save (record, receipt), and two for the transaction (begin, commit).
    async fn save_batch(
        &self,
        connection: &mut AsyncMysqlConnection,
        saves: &[&QueuedSave],
    ) -> Result<BatchOutcome, BackendError> {
        saving::save_batch(connection, saves).await
    }

    /// Sweeps on one node at a time, because concurrent sweeps would wait for each other's rows, and saves for both.
    /// Returns 0 while another node sweeps.
    async fn sweep(connection: &mut AsyncMysqlConnection, limit: usize) -> QueryResult<usize> {
        connection.batch_execute(sql::BEGIN_SWEEP).await?;
        let lock = Statement::<Nullable<BigInt>>::returning(sql::LOCK_SWEEP, &[]);
        let is_mine = lock.load::<Option<i64>>(connection).await.and_then(only)? == Some(1);
        let deleted = if is_mine { sweep_tables::<Self>(connection, limit).await } else { Ok(0) };
        connection.batch_execute(sql::END_SWEEP).await?;
        deleted
    }

    fn is_answer(error: &DieselError) -> bool {
        errors::is_answer(error)
    }

    fn is_deadlock(error: &BackendError) -> bool {
        errors::is_deadlock(error)
    }

    fn check_size(&self, record: &Record) -> Result<(), BackendError> {
        let (bytes, most) = (record.data.len() + record.pending.data.len(), self.max_data_bytes);
        if bytes > most { Err(BackendError::TooLarge { bytes, most }) } else { Ok(()) }
    }
}

impl Link for AsyncMysqlConnection {
    /// The driver notices a closed connection only during a call.
    fn is_closed(&mut self) -> bool {
        false
    }
}

impl fmt::Debug for Mysql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connector.fmt(f)
    }
}
