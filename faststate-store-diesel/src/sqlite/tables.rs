//! The statements of each call, which run in the caller's transaction or as a single statement.

use std::time::Duration;

use diesel::{
    RunQueryDsl as _, SqliteConnection,
    connection::SimpleConnection as _,
    sql_query,
    sql_types::{BigInt, Text},
};
use faststate_core::{
    Key, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome},
};

use crate::{
    error::BackendError,
    row::{Columns, LoadedRow, VersionColumns, loaded, millis},
    statement::{Bind, Statement},
};

/// One statement, so that record and receipt are read at the same moment.
const LOAD: &str = "
SELECT state_schema, epoch, seq, nonce, data, expires_at - ?,
    EXISTS (SELECT 1 FROM faststate_receipts WHERE digest = ? AND expires_at > ?)
FROM (SELECT 1) LEFT JOIN faststate_records
    ON record_key = ? AND (expires_at IS NULL OR expires_at > ?)";

const HAS_ROW: &str = "SELECT EXISTS (SELECT 1 FROM faststate_records WHERE record_key = ?)";

const HAS_RECEIPT: &str =
    "SELECT EXISTS (SELECT 1 FROM faststate_receipts WHERE digest = ? AND expires_at > ?)";

const INSERT: &str = "
INSERT INTO faststate_records (state_schema, epoch, seq, nonce, data, expires_at, record_key)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (record_key) DO UPDATE SET
    state_schema = excluded.state_schema, epoch = excluded.epoch, seq = excluded.seq,
    nonce = excluded.nonce, data = excluded.data, expires_at = excluded.expires_at
WHERE faststate_records.expires_at <= ?";

const UPDATE: &str = "
UPDATE faststate_records
SET state_schema = ?, epoch = ?, seq = ?, nonce = ?, data = ?, expires_at = ?
WHERE record_key = ? AND (expires_at IS NULL OR expires_at > ?) AND epoch = ? AND seq = ? AND nonce = ?";

const PUT_RECEIPT: &str = "
INSERT INTO faststate_receipts (digest, expires_at) VALUES (?, ?)
ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at";

const DELETE: &str = "
DELETE FROM faststate_records
WHERE record_key = ? AND (expires_at IS NULL OR expires_at > ?) AND epoch = ? AND seq = ? AND nonce = ?";

const TOUCH: &str = "
UPDATE faststate_records SET expires_at = ?
WHERE record_key = ? AND (expires_at IS NULL OR expires_at > ?)";

const SWEEP_RECORDS: &str = "
DELETE FROM faststate_records WHERE record_key IN
    (SELECT record_key FROM faststate_records WHERE expires_at <= ? LIMIT ?)";

const SWEEP_RECEIPTS: &str = "
DELETE FROM faststate_receipts WHERE digest IN
    (SELECT digest FROM faststate_receipts WHERE expires_at <= ? LIMIT ?)";

pub(super) fn load(
    sqlite: &mut SqliteConnection,
    now: i64,
    key: &Key,
    receipt: Option<&Receipt>,
) -> Result<Loaded, BackendError> {
    let binds = [
        Bind::Number(now),
        Bind::MaybeBytes(receipt.map(|receipt| &receipt.as_bytes()[..])),
        Bind::Number(now),
        Bind::Bytes(key.as_str().as_bytes()),
        Bind::Number(now),
    ];
    loaded(Statement::<Columns>::returning(LOAD, &binds).get_result::<LoadedRow>(sqlite)?)
}

/// Returns whether the key has a row, even an expired one.
pub(super) fn has_row(sqlite: &mut SqliteConnection, key: &Key) -> Result<bool, BackendError> {
    let binds = [Bind::Bytes(key.as_str().as_bytes())];
    Ok(Statement::<BigInt>::returning(HAS_ROW, &binds).get_result::<i64>(sqlite)? > 0)
}

pub(super) fn save(
    sqlite: &mut SqliteConnection,
    now: i64,
    key: &Key,
    record: &Record,
    expect: Precondition,
    receipt: Option<&Receipt>,
) -> Result<SaveOutcome, BackendError> {
    if let Some(receipt) = receipt {
        let binds = [Bind::Bytes(receipt.as_bytes()), Bind::Number(now)];
        let found = Statement::<BigInt>::returning(HAS_RECEIPT, &binds).get_result::<i64>(sqlite)?;
        if found > 0 {
            return Ok(SaveOutcome::Duplicate);
        }
    }
    let [epoch, seq, nonce] = VersionColumns::from(record.version).binds();
    let common = [
        Bind::Number(i64::from(record.schema)),
        epoch,
        seq,
        nonce,
        Bind::Bytes(&record.data),
        Bind::MaybeNumber(record.ttl.map(|ttl| now + millis(ttl))),
        Bind::Bytes(key.as_str().as_bytes()),
        Bind::Number(now),
    ];
    let saved = match expect {
        Precondition::Absent => Statement::new(INSERT, &common).execute(sqlite)?,
        Precondition::Version(version) => {
            let [a, b, c, d, e, f, g, h] = common;
            let [epoch, seq, nonce] = VersionColumns::from(version).binds();
            Statement::new(UPDATE, &[a, b, c, d, e, f, g, h, epoch, seq, nonce]).execute(sqlite)?
        }
    };
    if saved == 0 {
        return Ok(SaveOutcome::Conflict);
    }
    if let Some(receipt) = receipt {
        let binds = [Bind::Bytes(receipt.as_bytes()), Bind::Number(now + millis(receipt.lifetime()))];
        Statement::new(PUT_RECEIPT, &binds).execute(sqlite)?;
    }
    Ok(SaveOutcome::Saved)
}

pub(super) fn delete(
    sqlite: &mut SqliteConnection,
    now: i64,
    key: &Key,
    version: Version,
) -> Result<bool, BackendError> {
    let [epoch, seq, nonce] = VersionColumns::from(version).binds();
    let binds = [Bind::Bytes(key.as_str().as_bytes()), Bind::Number(now), epoch, seq, nonce];
    Ok(Statement::new(DELETE, &binds).execute(sqlite)? > 0)
}

pub(super) fn touch(
    sqlite: &mut SqliteConnection,
    now: i64,
    key: &Key,
    ttl: Duration,
) -> Result<bool, BackendError> {
    let binds = [Bind::Number(now + millis(ttl)), Bind::Bytes(key.as_str().as_bytes()), Bind::Number(now)];
    Ok(Statement::new(TOUCH, &binds).execute(sqlite)? > 0)
}

/// Deletes expired rows; returns the numbers of records and receipts.
pub(super) fn sweep(
    sqlite: &mut SqliteConnection,
    now: i64,
    limit: usize,
) -> Result<(usize, usize), BackendError> {
    let binds = [Bind::Number(now), Bind::Number(i64::try_from(limit).unwrap_or(i64::MAX))];
    let records = Statement::new(SWEEP_RECORDS, &binds).execute(sqlite)?;
    let receipts = Statement::new(SWEEP_RECEIPTS, &binds).execute(sqlite)?;
    Ok((records, receipts))
}

/// A number that changes whenever another connection has written.
pub(super) fn data_version(sqlite: &mut SqliteConnection) -> Result<i64, BackendError> {
    Ok(Statement::<BigInt>::returning("SELECT data_version FROM pragma_data_version", &[])
        .get_result(sqlite)?)
}

/// Moves the contents of the log into the database, and empties it.
pub(super) fn checkpoint(sqlite: &mut SqliteConnection) -> Result<(), BackendError> {
    Ok(sqlite.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")?)
}

/// Writes a copy into an empty file.
pub(super) fn copy_into(sqlite: &mut SqliteConnection, file: &str) -> Result<(), BackendError> {
    sql_query("VACUUM INTO ?").bind::<Text, _>(file).execute(sqlite)?;
    Ok(())
}
