//! PostgreSQL: each call is one statement, and queued saves are sent together, as one transaction.
//! Only a load that finds no record needs a second statement, to wait for transactions that are writing the key.

mod address;
mod broadcaster;
mod connection;
mod connector;
mod keywords;
mod migrate;
mod sql;
mod unprepared_client;

use std::{fmt, time::Duration};

use diesel::{
    QueryResult,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::BigInt,
};
use faststate_core::store::{Precondition, Receipt, SaveOutcome};
use futures::future::{join, join_all};

pub use self::broadcaster::PostgresBroadcaster;
use self::{connection::PostgresConnection, connector::PostgresConnector};
use crate::{
    builder::StoreSettings,
    error::BackendError,
    row::{Columns, LoadedRow, VersionColumns, message_binds, millis},
    save_batcher::{BatchOutcome, QueuedSave},
    schedule::{KeyColumns, KeyRow},
    sql_store::{Dialect, SqlStore, Statements},
    statement::{Bind, Statement, only},
};

/// The dialect of PostgreSQL.
pub(crate) struct Postgres {
    connector: PostgresConnector,
    /// Deadline of a call.
    timeout: Duration,
    /// Begins a transaction of several saves.
    begin_batch: String,
}

impl Postgres {
    /// Opens the store, and creates or upgrades its tables.
    pub(crate) async fn open(url: &str, settings: StoreSettings) -> Result<SqlStore<Self>, BackendError> {
        let timeout = settings.timeout;
        let connector =
            PostgresConnector::new(url, timeout)?.or_transaction_pool(settings.is_transaction_pool);
        if !connector.is_transaction_pool() {
            connector.refuse_transaction_pool().await?;
        }
        migrate::prepare_database(&connector, timeout).await?;
        let begin_batch = PostgresConnection::begin_batch(timeout, connector.is_transaction_pool());
        // A quarter of the connections: the fewer there are, the more saves share a commit.
        Ok(SqlStore::new(Self { connector, timeout, begin_batch }, settings, settings.connections / 4))
    }
}

impl Dialect for Postgres {
    type Connection = PostgresConnection;

    const NAME: &'static str = "Postgres";
    const STATEMENTS: Statements = sql::STATEMENTS;

    async fn open(&self) -> Result<PostgresConnection, BackendError> {
        PostgresConnection::open(&self.connector, self.timeout).await
    }

    async fn execute(connection: &mut PostgresConnection, statement: Statement<'_>) -> QueryResult<usize> {
        connection.with_settings(connection.execute(statement)).await
    }

    async fn load_row(
        connection: &mut PostgresConnection,
        statement: Statement<'_, Columns>,
    ) -> QueryResult<LoadedRow> {
        connection.load_row(statement).await
    }

    async fn load_numbers(
        connection: &mut PostgresConnection,
        statement: Statement<'_, BigInt>,
    ) -> QueryResult<Vec<i64>> {
        connection.with_settings(connection.load_numbers(statement)).await
    }

    async fn load_keys(
        connection: &mut PostgresConnection,
        statement: Statement<'_, KeyColumns>,
    ) -> QueryResult<Vec<KeyRow>> {
        connection.with_settings(connection.load_keys(statement)).await
    }

    async fn refuse(
        connection: &mut PostgresConnection,
        receipt: &Receipt,
        answer: &[u8],
    ) -> QueryResult<bool> {
        let lifetime = Bind::Number(millis(receipt.lifetime()));
        let binds = [lifetime, Bind::Bytes(answer), Bind::Bytes(receipt.as_bytes())];
        Ok(Self::execute(connection, Statement::new(sql::REFUSE, &binds)).await? > 0)
    }

    /// One round trip.
    async fn save_one(
        &self,
        connection: &mut PostgresConnection,
        save: &QueuedSave,
    ) -> Result<SaveOutcome, BackendError> {
        match connection.with_settings(put(connection, save)).await {
            // The receipt arrived after the statement began, and was not overwritten: nothing is saved.
            Err(DieselError::DatabaseError(DatabaseErrorKind::NotNullViolation, _)) => {
                Ok(SaveOutcome::Duplicate)
            }
            outcome => outcome.map_err(BackendError::from),
        }
    }

    /// Two round trips: all statements are sent before the first is answered, and then the commit.
    async fn save_batch(
        &self,
        connection: &mut PostgresConnection,
        saves: &[&QueuedSave],
    ) -> Result<BatchOutcome, BackendError> {
        let connection = &*connection;
        let begin = connection.batch_execute(&self.begin_batch);
        // `join` polls `begin` first, so it is sent first; the server refuses every statement after an error.
        let (begun, outcomes) = join(begin, join_all(saves.iter().map(|save| put(connection, save)))).await;
        begun.map_err(|error| BackendError::Transaction(error.into()))?;
        match outcomes.into_iter().collect::<QueryResult<Vec<_>>>() {
            Ok(outcomes) => match connection.batch_execute("COMMIT").await {
                Ok(()) => Ok(BatchOutcome::Committed(outcomes)),
                Err(error) => Err(BackendError::Transaction(error.into())),
            },
            // One save waited too long for a lock, or its receipt arrived after it began.
            Err(error) if Self::is_answer(&error) => {
                tracing::debug!(%error, "a transaction of several saves was rolled back; each is retried alone");
                connection.batch_execute("ROLLBACK").await?;
                Ok(BatchOutcome::RolledBack)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A read-only server (25006) refuses every other save as well: it was demoted, and a new connection may lead to
    /// its successor.
    fn is_answer(error: &DieselError) -> bool {
        use DatabaseErrorKind::{ClosedConnection, ReadOnlyTransaction, UnableToSendCommand};
        match error {
            DieselError::DatabaseError(kind, _) => {
                !matches!(kind, ClosedConnection | ReadOnlyTransaction | UnableToSendCommand)
            }
            _ => false,
        }
    }
}

/// Saves record and receipt in one statement, whose result is read to the end.
async fn put(connection: &PostgresConnection, save: &QueuedSave) -> QueryResult<SaveOutcome> {
    let QueuedSave { key, record, expect, receipt, .. } = save;
    let [epoch, seq, nonce] = VersionColumns::from(record.version).binds();
    let digest = Bind::MaybeBytes(receipt.as_ref().map(|receipt| &receipt.as_bytes()[..]));
    let lifetime = Bind::Number(receipt.map_or(0, |receipt| millis(receipt.lifetime())));
    let mut binds = vec![
        digest,
        Bind::Number(i64::from(record.schema)),
        epoch,
        seq,
        nonce,
        Bind::Bytes(&record.data),
        Bind::MaybeNumber(record.ttl.map(millis)),
    ];
    let messages = message_binds(record);
    binds.extend(messages.iter().flatten());
    binds.push(Bind::Bytes(key.as_str().as_bytes()));
    let text = match (expect, messages.is_some()) {
        (Precondition::Absent, false) => sql::SAVE_ABSENT,
        (Precondition::Absent, true) => sql::SAVE_ABSENT_WITH_MESSAGES,
        (Precondition::Version(_), false) => sql::SAVE_VERSION,
        (Precondition::Version(_), true) => sql::SAVE_VERSION_WITH_MESSAGES,
    };
    if let Precondition::Version(version) = expect {
        binds.extend(VersionColumns::from(*version).binds());
    }
    binds.extend([digest, lifetime, digest]);
    let statement = Statement::<BigInt>::returning(text, &binds);
    Ok(match connection.load_numbers(statement).await.and_then(only)? {
        0 => SaveOutcome::Conflict,
        1 => SaveOutcome::Saved,
        _ => SaveOutcome::Duplicate,
    })
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connector.fmt(f)
    }
}
