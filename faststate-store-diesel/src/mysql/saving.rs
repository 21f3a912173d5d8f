//! Saving, on one connection.

use diesel::{QueryResult, sql_types::BigInt};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use faststate_core::store::{Precondition, Receipt, SaveOutcome};

use super::{is_answer, is_taken, sql};
use crate::{
    error::Error,
    group::{Save, Together},
    row::{Stored, millis},
    statement::{Bind, Statement, only},
};

/// Saves one.
pub(super) async fn alone(connection: &mut AsyncMysqlConnection, save: &Save) -> Result<SaveOutcome, Error> {
    if save.receipt.is_none() {
        return Ok(put(connection, save).await?.unwrap_or(SaveOutcome::Duplicate));
    }
    match transaction(connection, &[save]).await? {
        Together::Done(savings) => Ok(savings.into_iter().next().unwrap_or(SaveOutcome::Conflict)),
        Together::Undone => Ok(SaveOutcome::Duplicate),
    }
}

/// Saves several in one transaction; undoes it where one of them has to be undone.
pub(super) async fn together(
    connection: &mut AsyncMysqlConnection,
    saves: &[&Save],
) -> Result<Together, Error> {
    match transaction(connection, saves).await {
        Err(Error::Query(error)) if is_answer(&error) => {
            tracing::debug!(%error, "saves are undone together, and tried one by one");
            Ok(Together::Undone)
        }
        outcome => outcome,
    }
}

/// Undone where the receipt of one came in after its record was written. After an error that the server answered with, no
/// transaction is left behind either.
async fn transaction(connection: &mut AsyncMysqlConnection, saves: &[&Save]) -> Result<Together, Error> {
    connection.batch_execute("START TRANSACTION").await?;
    let mut savings = Vec::with_capacity(saves.len());
    for save in saves {
        match put(connection, save).await {
            Ok(Some(saving)) => savings.push(saving),
            Ok(None) => {
                connection.batch_execute("ROLLBACK").await?;
                return Ok(Together::Undone);
            }
            Err(error) => {
                if is_answer(&error) {
                    connection.batch_execute("ROLLBACK").await?;
                }
                return Err(error.into());
            }
        }
    }
    connection.batch_execute("COMMIT").await.map_err(|error| Error::Transaction(error.into()))?;
    Ok(Together::Done(savings))
}

/// Writes the record and then the receipt, so that whoever wants the same key waits at the record and no
/// two wait for each other. None where the receipt is there and the record must be undone.
async fn put(connection: &mut AsyncMysqlConnection, save: &Save) -> QueryResult<Option<SaveOutcome>> {
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

/// Writes the record, if what is there is what was expected.
async fn put_record(connection: &mut AsyncMysqlConnection, save: &Save) -> QueryResult<bool> {
    let [epoch, seq, nonce] = Stored::from(save.record.version).binds();
    let key = Bind::Bytes(save.key.as_str().as_bytes());
    let (schema, data) = (Bind::Number(i64::from(save.record.schema)), Bind::Bytes(&save.record.data));
    let ttl = Bind::MaybeNumber(save.record.ttl.map(millis));
    let new = [schema, epoch, seq, nonce, data, ttl, key];
    let changed = match save.expect {
        Precondition::Version(version) => {
            let [epoch, seq, nonce] = Stored::from(version).binds();
            let [a, b, c, d, e, f, g] = new;
            let binds = [a, b, c, d, e, f, g, epoch, seq, nonce];
            Statement::new(sql::UPDATE, &binds).execute(connection).await?
        }
        Precondition::Absent => match Statement::new(sql::INSERT, &new).execute(connection).await {
            // A look before the update: everybody who was refused holds a lock that would be in the
            // way of everybody else's update.
            Err(error) if is_taken(&error) => match count(connection, sql::IS_EXPIRED, &[key]).await? {
                0 => 0,
                _ => Statement::new(sql::REPLACE, &new).execute(connection).await?,
            },
            outcome => outcome?,
        },
    };
    Ok(changed > 0)
}

/// Writes a receipt, unless it is there.
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
