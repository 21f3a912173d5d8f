//! A connection for the store's statements.

use std::time::Duration;

use diesel::{QueryResult, sql_types::BigInt};
use diesel_async::{
    AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _,
    pooled_connection::PoolableConnection as _,
};
use tokio::time::timeout;

use super::{
    connector::{PostgresConnector, SocketDriver},
    unprepared_client::UnpreparedClient,
};
use crate::{
    error::BackendError,
    pool::Link,
    row::{Columns, LoadedRow},
    schedule::{KeyColumns, KeyRow},
    statement::{Statement, only},
};

/// Sets `synchronous_commit` to `on` if it is `off`; all other levels wait for the local disk. `{local}` is whether the
/// setting ends with the transaction.
macro_rules! durable {
    ($local:literal) => {
        concat!(
            "SELECT set_config('synchronous_commit', 'on', ",
            $local,
            ") WHERE current_setting('synchronous_commit') = 'off'"
        )
    };
}

/// A connection, directly or through a transaction pool.
pub(crate) enum PostgresConnection {
    /// Prepares each statement once, and has its settings from the beginning.
    Session(Box<AsyncPgConnection>),
    /// Prepares nothing, and begins each transaction with its settings.
    TransactionPool(UnpreparedClient),
}

impl PostgresConnection {
    /// Opens a connection with the settings that the store's promises need.
    pub(super) async fn open(connector: &PostgresConnector, within: Duration) -> Result<Self, BackendError> {
        let connection = Self::connect(connector, within).await?;
        if let Self::Session(session) = &connection {
            // The server also gives up, so that no statement runs long after its caller.
            let settings = format!(
                "SET statement_timeout = {0};
                 SET idle_in_transaction_session_timeout = {0};
                 SET default_transaction_isolation = 'read committed';
                 {1}",
                within.as_millis(),
                durable!("false")
            );
            (&mut &**session).batch_execute(&settings).await?;
        }
        Ok(connection)
    }

    /// Opens a connection within the deadline, without settings.
    pub(super) async fn connect(
        connector: &PostgresConnector,
        within: Duration,
    ) -> Result<Self, BackendError> {
        let connect = async {
            let (client, driver) = connector.connect().await?;
            if connector.is_transaction_pool() {
                let begin = Self::begin(within, true);
                return Ok(Self::TransactionPool(UnpreparedClient::new(client, driver, begin)));
            }
            let session = match driver {
                SocketDriver::Plain(driver) => {
                    AsyncPgConnection::try_from_client_and_connection(client, *driver).await
                }
                SocketDriver::Encrypted(driver) => {
                    AsyncPgConnection::try_from_client_and_connection(client, *driver).await
                }
            };
            Ok(Self::Session(Box::new(session?)))
        };
        timeout(within, connect).await.unwrap_or(Err(BackendError::Late(within)))
    }

    /// The statements that begin a transaction of several saves. Its lock timeout is short enough that each save can
    /// still be retried alone.
    pub(super) fn begin_batch(within: Duration, is_transaction_pool: bool) -> String {
        let lock_timeout = (within / 4).as_millis().max(1);
        format!("{}; SET LOCAL lock_timeout = {lock_timeout}", Self::begin(within, is_transaction_pool))
    }

    /// The statements that begin a transaction.
    fn begin(within: Duration, is_transaction_pool: bool) -> String {
        if !is_transaction_pool {
            return "BEGIN".to_owned();
        }
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED;
             SET LOCAL statement_timeout = {0};
             SET LOCAL idle_in_transaction_session_timeout = {0};
             {1}",
            within.as_millis(),
            durable!("true")
        )
    }

    /// Runs statements without binds.
    pub(super) async fn batch_execute(&self, text: &str) -> QueryResult<()> {
        match self {
            Self::Session(session) => (&mut &**session).batch_execute(text).await,
            Self::TransactionPool(client) => client.batch_execute(text).await,
        }
    }

    /// Runs a call with the settings that the store's promises need.
    pub(super) async fn with_settings<T>(
        &self,
        call: impl Future<Output = QueryResult<T>>,
    ) -> QueryResult<T> {
        match self {
            Self::Session(_) => call.await,
            Self::TransactionPool(client) => client.in_transaction(call).await,
        }
    }

    /// Runs a statement that returns no rows.
    pub(super) async fn execute(&self, statement: Statement<'_>) -> QueryResult<usize> {
        match self {
            Self::Session(session) => statement.execute(&mut &**session).await,
            Self::TransactionPool(client) => client.execute(statement).await,
        }
    }

    /// Runs a statement that returns one row, and reads its result to the end.
    pub(super) async fn load_row(&self, statement: Statement<'_, Columns>) -> QueryResult<LoadedRow> {
        match self {
            Self::Session(session) => statement.load(&mut &**session).await.and_then(only),
            Self::TransactionPool(client) => client.load_rows(statement).await.and_then(only),
        }
    }

    /// Runs a statement that returns keys, and reads its result to the end.
    pub(super) async fn load_keys(&self, statement: Statement<'_, KeyColumns>) -> QueryResult<Vec<KeyRow>> {
        match self {
            Self::Session(session) => statement.load(&mut &**session).await,
            Self::TransactionPool(client) => client.load_keys(statement).await,
        }
    }

    /// Runs a statement that returns numbers, and reads its result to the end.
    pub(super) async fn load_numbers(&self, statement: Statement<'_, BigInt>) -> QueryResult<Vec<i64>> {
        match self {
            Self::Session(session) => statement.load(&mut &**session).await,
            Self::TransactionPool(client) => client.load_numbers(statement).await,
        }
    }
}

impl Link for PostgresConnection {
    /// The driver notices when the server closes the connection, as it does after 57P01 (`pg_terminate_backend`, a
    /// shutdown) and 57P02.
    fn is_closed(&mut self) -> bool {
        match self {
            Self::Session(session) => session.is_broken(),
            Self::TransactionPool(client) => client.is_closed(),
        }
    }
}
