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
    store::{DueKeys, Loaded, PendingSummary, Precondition, RECEIPT_KEPT, Receipt, Record, SaveOutcome},
};

use crate::{
    error::BackendError,
    row::{Columns, LoadedRow, VersionColumns, loaded, message_binds, millis},
    schedule::{KeyColumns, KeyRow, due_keys, pending_summary},
    statement::{Bind, Statement},
};

/// One statement, so that record and receipt are read at the same moment.
const LOAD: &str = "
SELECT state_schema, epoch, seq, nonce, data, expires_at - ?, pending, waiting, parked, oldest, due,
    (SELECT coalesce(answer, x'') FROM faststate_receipts WHERE digest = ? AND expires_at > ?)
FROM (SELECT 1) LEFT JOIN faststate_records
    ON record_key = ? AND (expires_at IS NULL OR expires_at > ?)";

const HAS_ROW: &str = "SELECT EXISTS (SELECT 1 FROM faststate_records WHERE record_key = ?)";

const HAS_RECEIPT: &str =
    "SELECT EXISTS (SELECT 1 FROM faststate_receipts WHERE digest = ? AND expires_at > ?)";

/// Inserts a record, or replaces an expired one. The arguments are the columns of its messages and their values.
macro_rules! insert {
    ($columns:literal, $values:literal) => {
        concat!(
            "
INSERT INTO faststate_records (state_schema, epoch, seq, nonce, data, expires_at, record_key",
            $columns,
            ")
VALUES (?, ?, ?, ?, ?, ?, ?",
            $values,
            ")
ON CONFLICT (record_key) DO UPDATE SET
    state_schema = excluded.state_schema, epoch = excluded.epoch, seq = excluded.seq,
    nonce = excluded.nonce, data = excluded.data, expires_at = excluded.expires_at,
    pending = excluded.pending, waiting = excluded.waiting, parked = excluded.parked,
    oldest = excluded.oldest, due = excluded.due
WHERE faststate_records.expires_at <= ?"
        )
    };
}

/// Updates a record of the expected version. The argument sets the columns of its messages.
macro_rules! update {
    ($messages:literal) => {
        concat!(
            "
UPDATE faststate_records
SET state_schema = ?, epoch = ?, seq = ?, nonce = ?, data = ?, expires_at = ?, ",
            $messages,
            "
WHERE record_key = ? AND (expires_at IS NULL OR expires_at > ?) AND epoch = ? AND seq = ? AND nonce = ?"
        )
    };
}

const INSERT: &str = insert!("", "");

const INSERT_WITH_MESSAGES: &str = insert!(", pending, waiting, parked, oldest, due", ", ?, ?, ?, ?, ?");

const UPDATE: &str = update!("pending = NULL, waiting = NULL, parked = NULL, oldest = NULL, due = NULL");

const UPDATE_WITH_MESSAGES: &str = update!("pending = ?, waiting = ?, parked = ?, oldest = ?, due = ?");

const PUT_RECEIPT: &str = "
INSERT INTO faststate_receipts (digest, expires_at) VALUES (?, ?)
ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at, answer = NULL";

/// Inserts a receipt with its answer, or replaces an expired one.
const REFUSE: &str = "
INSERT INTO faststate_receipts (digest, expires_at, answer) VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at, answer = excluded.answer
WHERE faststate_receipts.expires_at <= ?";

const RELEASE: &str = "UPDATE faststate_receipts SET expires_at = ? WHERE digest = ? AND expires_at > ?";

const DUE: &str = "
SELECT record_key, due, 0, 0 FROM faststate_records INDEXED BY faststate_records_due
WHERE due <= ? AND (expires_at IS NULL OR expires_at > ?)
ORDER BY due LIMIT ?";

/// The unfinished messages of the records that exist, oldest first.
macro_rules! oldest {
    ($columns:literal, $limit:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM faststate_records INDEXED BY faststate_records_oldest
    WHERE oldest IS NOT NULL AND (expires_at IS NULL OR expires_at > ?)
    ORDER BY oldest LIMIT ",
            $limit
        )
    };
}

/// The row without a key has the age and the sums. The sums of all rows need only the index, and those of the expired
/// rows, which are few, are subtracted.
const PENDING: &str = concat!(
    "
SELECT NULL, ? - (",
    oldest!("oldest", "1"),
    "), found.waiting - expired.waiting, found.parked - expired.parked
FROM (
    SELECT coalesce(sum(waiting), 0) AS waiting, coalesce(sum(parked), 0) AS parked
    FROM faststate_records INDEXED BY faststate_records_oldest WHERE oldest IS NOT NULL
) AS found, (
    SELECT coalesce(sum(waiting), 0) AS waiting, coalesce(sum(parked), 0) AS parked
    FROM faststate_records INDEXED BY faststate_records_expire WHERE expires_at <= ? AND oldest IS NOT NULL
) AS expired
UNION ALL
SELECT * FROM (",
    oldest!("record_key, oldest, 0, 0", "?"),
    ")"
);

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
    let mut binds = vec![
        Bind::Number(i64::from(record.schema)),
        epoch,
        seq,
        nonce,
        Bind::Bytes(&record.data),
        Bind::MaybeNumber(record.ttl.map(|ttl| now + millis(ttl))),
    ];
    let key = Bind::Bytes(key.as_str().as_bytes());
    let messages = message_binds(record);
    let text = match expect {
        Precondition::Absent => {
            binds.push(key);
            binds.extend(messages.iter().flatten());
            binds.push(Bind::Number(now));
            if messages.is_some() { INSERT_WITH_MESSAGES } else { INSERT }
        }
        Precondition::Version(version) => {
            binds.extend(messages.iter().flatten());
            binds.extend([key, Bind::Number(now)]);
            binds.extend(VersionColumns::from(version).binds());
            if messages.is_some() { UPDATE_WITH_MESSAGES } else { UPDATE }
        }
    };
    let saved = Statement::new(text, &binds).execute(sqlite)?;
    if saved == 0 {
        return Ok(SaveOutcome::Conflict);
    }
    if let Some(receipt) = receipt {
        let binds = [Bind::Bytes(receipt.as_bytes()), Bind::Number(now + millis(receipt.lifetime()))];
        Statement::new(PUT_RECEIPT, &binds).execute(sqlite)?;
    }
    Ok(SaveOutcome::Saved)
}

/// Saves a receipt with its answer; returns false if the receipt exists.
pub(super) fn refuse(
    sqlite: &mut SqliteConnection,
    now: i64,
    receipt: &Receipt,
    answer: &[u8],
) -> Result<bool, BackendError> {
    let binds = [
        Bind::Bytes(receipt.as_bytes()),
        Bind::Number(now + millis(receipt.lifetime())),
        Bind::Bytes(answer),
        Bind::Number(now),
    ];
    Ok(Statement::new(REFUSE, &binds).execute(sqlite)? > 0)
}

/// Shortens the lifetimes of receipts.
pub(super) fn release(
    sqlite: &mut SqliteConnection,
    now: i64,
    receipts: &[Receipt],
) -> Result<(), BackendError> {
    let end = Bind::Number(now + millis(RECEIPT_KEPT));
    for receipt in receipts {
        Statement::new(RELEASE, &[end, Bind::Bytes(receipt.as_bytes()), end]).execute(sqlite)?;
    }
    Ok(())
}

/// The records that are due.
pub(super) fn due(sqlite: &mut SqliteConnection, now: i64, limit: i64) -> Result<DueKeys, BackendError> {
    let binds = [Bind::Number(now), Bind::Number(now), Bind::Number(limit)];
    let mut rows = Statement::<KeyColumns>::returning(DUE, &binds).load::<KeyRow>(sqlite)?;
    rows.push(KeyRow { key: None, at: Some(now), waiting: 0, parked: 0 });
    Ok(due_keys(rows))
}

/// The records with unfinished messages, and their numbers.
pub(super) fn pending(
    sqlite: &mut SqliteConnection,
    now: i64,
    limit: i64,
) -> Result<PendingSummary, BackendError> {
    let now = Bind::Number(now);
    let binds = [now, now, now, now, Bind::Number(limit)];
    Ok(pending_summary(Statement::<KeyColumns>::returning(PENDING, &binds).load::<KeyRow>(sqlite)?))
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
