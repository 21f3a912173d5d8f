//! A connection through a pool that gives each transaction another connection, such as PgBouncer with
//! `pool_mode = transaction`. Neither prepared statements nor settings survive there, so each statement is sent with
//! its text, and each transaction begins with its settings.

use diesel::{
    QueryResult,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::BigInt,
};
use futures::future::join3;
use tokio_postgres::{
    Client, Row,
    error::SqlState,
    types::{ToSql, Type},
};

use super::connector::{DriverTask, SocketDriver};
use crate::{
    row::{Columns, LoadedRow},
    schedule::{KeyColumns, KeyRow},
    statement::{Bind, Statement},
};

/// A client that prepares no statement.
pub(crate) struct UnpreparedClient {
    client: Client,
    _task: DriverTask,
    /// Begins a transaction with the settings that the store's promises need.
    begin: String,
}

impl UnpreparedClient {
    pub(super) fn new(client: Client, driver: SocketDriver, begin: String) -> Self {
        Self { client, _task: DriverTask(driver.spawn()), begin }
    }

    /// Returns whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements without binds.
    pub(super) async fn batch_execute(&self, text: &str) -> QueryResult<()> {
        self.client.batch_execute(text).await.map_err(|error| diesel_error(&error))
    }

    /// Runs a call in a transaction of its own, in one round trip. After an error of the call, the COMMIT rolls back.
    pub(super) async fn in_transaction<T>(
        &self,
        call: impl Future<Output = QueryResult<T>>,
    ) -> QueryResult<T> {
        // `join3` polls in this order, and each request is sent at its first poll.
        let (begun, outcome, committed) =
            join3(self.batch_execute(&self.begin), call, self.batch_execute("COMMIT")).await;
        begun?;
        let outcome = outcome?;
        committed?;
        Ok(outcome)
    }

    /// Runs a statement that returns no rows.
    pub(super) async fn execute(&self, statement: Statement<'_>) -> QueryResult<usize> {
        let (text, binds) = statement.numbered();
        let count =
            self.client.execute_typed(&text, &typed(binds)).await.map_err(|error| diesel_error(&error))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    pub(super) async fn load_rows(&self, statement: Statement<'_, Columns>) -> QueryResult<Vec<LoadedRow>> {
        let decode = |row: &Row| {
            Ok(LoadedRow {
                schema: row.try_get(0)?,
                epoch: row.try_get(1)?,
                seq: row.try_get(2)?,
                nonce: row.try_get(3)?,
                data: row.try_get(4)?,
                left: row.try_get(5)?,
                pending: row.try_get(6)?,
                waiting: row.try_get(7)?,
                parked: row.try_get(8)?,
                oldest: row.try_get(9)?,
                due: row.try_get(10)?,
                answer: row.try_get(11)?,
            })
        };
        self.load(statement, decode).await
    }

    pub(super) async fn load_keys(&self, statement: Statement<'_, KeyColumns>) -> QueryResult<Vec<KeyRow>> {
        let decode = |row: &Row| {
            Ok(KeyRow {
                key: row.try_get(0)?,
                at: row.try_get(1)?,
                waiting: row.try_get(2)?,
                parked: row.try_get(3)?,
            })
        };
        self.load(statement, decode).await
    }

    pub(super) async fn load_numbers(&self, statement: Statement<'_, BigInt>) -> QueryResult<Vec<i64>> {
        self.load(statement, |row| row.try_get(0)).await
    }

    /// Runs a statement, and reads its result to the end.
    pub(super) async fn load<C, T>(
        &self,
        statement: Statement<'_, C>,
        decode: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> QueryResult<Vec<T>> {
        let (text, binds) = statement.numbered();
        let rows =
            self.client.query_typed(&text, &typed(binds)).await.map_err(|error| diesel_error(&error))?;
        rows.iter().map(decode).collect::<Result<_, _>>().map_err(|error| diesel_error(&error))
    }
}

fn typed<'a>(binds: &'a [Bind<'a>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let typed = |bind: &'a Bind<'a>| -> (&'a (dyn ToSql + Sync), Type) {
        match bind {
            Bind::Bytes(bytes) => (bytes, Type::BYTEA),
            Bind::MaybeBytes(bytes) => (bytes, Type::BYTEA),
            Bind::Number(number) => (number, Type::INT8),
            Bind::MaybeNumber(number) => (number, Type::INT8),
        }
    };
    binds.iter().map(typed).collect()
}

/// Converts an error as `diesel-async` does, as far as the store distinguishes errors.
fn diesel_error(error: &tokio_postgres::Error) -> DieselError {
    let kind = match error.code() {
        Some(&SqlState::NOT_NULL_VIOLATION) => DatabaseErrorKind::NotNullViolation,
        Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => DatabaseErrorKind::ReadOnlyTransaction,
        // The pool has lost its connection to the server, or has none left.
        Some(code) if code.code().starts_with("08") => DatabaseErrorKind::ClosedConnection,
        Some(_) => DatabaseErrorKind::Unknown,
        None => DatabaseErrorKind::UnableToSendCommand,
    };
    let text = error.as_db_error().map_or_else(|| error.to_string(), |answer| answer.message().to_owned());
    DieselError::DatabaseError(kind, Box::new(text))
}
