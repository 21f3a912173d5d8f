//! Saves on one connection.

use diesel::{QueryResult, sql_types::BigInt};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use faststate_core::store::{Precondition, Receipt, SaveOutcome};

use super::{
    errors::{is_answer, is_taken},
    sql,
};
use crate::{
    error::BackendError,
    row::{VersionColumns, message_binds, millis},
    save_batcher::{BatchOutcome, QueuedSave},
    statement::{Bind, Statement, only},
};

/// Saves one record: in a transaction if it has a receipt, and otherwise as a single statement.
pub(super) async fn save_one(
    connection: &mut AsyncMysqlConnection,
    save: &QueuedSave,
) -> Result<SaveOutcome, BackendError> {
    if save.receipt.is_none() {
        return Ok(put(connection, save).await?.unwrap_or(SaveOutcome::Duplicate));
    }
    match transaction(connection, &[save]).await? {
        BatchOutcome::Committed(outcomes) => Ok(outcomes.into_iter().next().unwrap_or(SaveOutcome::Conflict)),
        BatchOutcome::RolledBack => Ok(SaveOutcome::Duplicate),
    }
}

/// Saves several records in one transaction, and rolls it back if one save has to be undone.
pub(super) async fn save_batch(
    connection: &mut AsyncMysqlConnection,
    saves: &[&QueuedSave],
) -> Result<BatchOutcome, BackendError> {
    match transaction(connection, saves).await {
        Err(BackendError::Query(error)) if is_answer(&error) => {
            tracing::debug!(%error, "a transaction of several saves was rolled back; each is retried alone");
            Ok(BatchOutcome::RolledBack)
        }
        outcome => outcome,
    }
}

/// Saves a receipt with its answer; returns false if the receipt exists. An insert that finds an uncommitted receipt
/// waits for its transaction.
pub(super) async fn refuse(
    connection: &mut AsyncMysqlConnection,
    receipt: &Receipt,
    answer: &[u8],
) -> QueryResult<bool> {
    let lifetime = Bind::Number(millis(receipt.lifetime()));
    let binds = [lifetime, Bind::Bytes(answer), Bind::Bytes(receipt.as_bytes())];
    match Statement::new(sql::INSERT_ANSWER, &binds).execute(connection).await {
        Err(error) if is_taken(&error) => {
            Ok(Statement::new(sql::REPLACE_ANSWER, &binds).execute(connection).await? > 0)
        }
        outcome => outcome.map(|_| true),
    }
}

/// Runs a transaction. It is rolled back if the receipt of one save appeared after its record was written, and after
/// every error that the server answered with, so that the connection remains usable.
async fn transaction(
    connection: &mut AsyncMysqlConnection,
    saves: &[&QueuedSave],
) -> Result<BatchOutcome, BackendError> {
    connection.batch_execute("START TRANSACTION").await?;
    let mut outcomes = Vec::with_capacity(saves.len());
    for save in saves {
        match put(connection, save).await {
            Ok(Some(outcome)) => outcomes.push(outcome),
            Ok(None) => {
                connection.batch_execute("ROLLBACK").await?;
                return Ok(BatchOutcome::RolledBack);
            }
            Err(error) => {
                if is_answer(&error) {
                    connection.batch_execute("ROLLBACK").await?;
                }
                return Err(error.into());
            }
        }
    }
    connection.batch_execute("COMMIT").await.map_err(|error| BackendError::Transaction(error.into()))?;
    Ok(BatchOutcome::Committed(outcomes))
}

/// Writes the record and then the receipt. Concurrent saves of one key thus wait for the record, and no two of them wait
/// for each other. Returns `None` if the receipt exists and the record must be rolled back.
async fn put(connection: &mut AsyncMysqlConnection, save: &QueuedSave) -> QueryResult<Option<SaveOutcome>> {
    let saved = put_record(connection, save).await?;
    let Some(receipt) = &save.receipt else {
        return Ok(Some(if saved { SaveOutcome::Saved } else { SaveOutcome::Conflict }));
    };
    if saved {
        return Ok(put_receipt(connection, receipt).await?.then_some(SaveOutcome::Saved));
    }
    let found = count(connection, sql::HAS_RECEIPT, &[Bind::Bytes(receipt.as_bytes())]).await?;
    Ok(Some(if found > 0 { SaveOutcome::Duplicate } else { SaveOutcome::Conflict }))
}

/// Writes the record if the stored version matches the precondition.
async fn put_record(connection: &mut AsyncMysqlConnection, save: &QueuedSave) -> QueryResult<bool> {
    let record = &save.record;
    let [epoch, seq, nonce] = VersionColumns::from(record.version).binds();
    let (schema, data) = (Bind::Number(i64::from(record.schema)), Bind::Bytes(&record.data));
    let mut binds = vec![schema, epoch, seq, nonce, data, Bind::MaybeNumber(record.ttl.map(millis))];
    let messages = message_binds(record);
    binds.extend(messages.iter().flatten());
    let texts = if messages.is_some() { sql::WITH_MESSAGES } else { sql::WITHOUT_MESSAGES };
    let key = Bind::Bytes(save.key.as_str().as_bytes());
    binds.push(key);
    let changed = match save.expect {
        Precondition::Version(version) => {
            binds.extend(VersionColumns::from(version).binds());
            Statement::new(texts.update, &binds).execute(connection).await?
        }
        Precondition::Absent => match Statement::new(texts.insert, &binds).execute(connection).await {
            // Check before the update: every refused insert holds a shared lock, which would block the updates of
            // the others.
            Err(error) if is_taken(&error) => match count(connection, sql::IS_EXPIRED, &[key]).await? {
                0 => 0,
                _ => Statement::new(texts.replace, &binds).execute(connection).await?,
            },
            outcome => outcome?,
        },
    };
    Ok(changed > 0)
}

/// Writes a receipt, and returns whether it did not exist.
async fn put_receipt(connection: &mut AsyncMysqlConnection, receipt: &Receipt) -> QueryResult<bool> {
    let binds = [Bind::Number(millis(receipt.lifetime())), Bind::Bytes(receipt.as_bytes())];
    match Statement::new(sql::INSERT_RECEIPT, &binds).execute(connection).await {
        Err(error) if is_taken(&error) => {
            Ok(Statement::new(sql::REPLACE_RECEIPT, &binds).execute(connection).await? > 0)
        }
        outcome => outcome.map(|_| true),
    }
}

async fn count(
    connection: &mut AsyncMysqlConnection,
    text: &'static str,
    binds: &[Bind<'_>],
) -> QueryResult<i64> {
    Statement::<BigInt>::returning(text, binds).load(connection).await.and_then(only)
}
