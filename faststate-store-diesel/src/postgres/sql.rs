//! The texts of the statements.

use crate::sql_store::{Statements, placeholders_64};

/// The server's clock in milliseconds since 1970. It is the current time and not the statement's start, so that a statement
/// that waited for a row compares with the time at which it got the row.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

macro_rules! is_alive {
    () => {
        concat!("(r.expires_at IS NULL OR r.expires_at > ", now!(), ")")
    };
}

/// The receipt, which is bound before the record's values.
macro_rules! given {
    () => {
        concat!(
            "WITH present AS MATERIALIZED (
                SELECT FROM faststate_receipts WHERE digest = ? AND expires_at > ",
            now!(),
            ")"
        )
    };
}

/// Writes the receipt after the record, in the same statement. If the receipt was inserted after this statement began,
/// neither may be written: a NULL in a NOT NULL column then fails the whole statement.
macro_rules! noted {
    () => {
        concat!(
            ", noted AS (
                INSERT INTO faststate_receipts AS t (digest, expires_at)
                SELECT ?, ",
            now!(),
            " + ? FROM saved WHERE ?::bytea IS NOT NULL
                ON CONFLICT (digest) DO UPDATE SET
                    answer = NULL, expires_at = CASE WHEN t.expires_at <= ",
            now!(),
            " THEN excluded.expires_at END
            )
            SELECT CASE WHEN EXISTS (SELECT FROM present) THEN 2
                WHEN EXISTS (SELECT FROM saved) THEN 1 ELSE 0 END::bigint"
        )
    };
}

/// One statement, so that record and receipt are read at the same moment.
const LOAD: &str = concat!(
    "SELECT r.state_schema, r.epoch, r.seq, r.nonce, r.data, r.expires_at - ",
    now!(),
    ", r.pending, r.waiting, r.parked, r.oldest, r.due,
    (SELECT coalesce(answer, '') FROM faststate_receipts WHERE digest = ? AND expires_at > ",
    now!(),
    ") FROM (SELECT 1) AS always LEFT JOIN faststate_records AS r ON r.record_key = ? AND ",
    is_alive!()
);

/// Waits for transactions that are writing the row.
const SETTLED: &str = "SELECT 1::bigint FROM faststate_records WHERE record_key = ? FOR SHARE";

/// Saves if there is no record or an expired one. A concurrent second save waits for the first, and then finds its
/// record. The arguments are the columns of the record's messages and their values.
macro_rules! save_absent {
    ($columns:literal, $values:literal) => {
        concat!(
            given!(),
            ", saved AS (
                INSERT INTO faststate_records AS r
                    (state_schema, epoch, seq, nonce, data, expires_at",
            $columns,
            ", record_key)
                SELECT ?, ?, ?, ?, ?, ",
            now!(),
            " + ?",
            $values,
            ", ? WHERE NOT EXISTS (SELECT FROM present)
                ON CONFLICT (record_key) DO UPDATE SET
                    state_schema = excluded.state_schema, epoch = excluded.epoch, seq = excluded.seq,
                    nonce = excluded.nonce, data = excluded.data, expires_at = excluded.expires_at,
                    pending = excluded.pending, waiting = excluded.waiting, parked = excluded.parked,
                    oldest = excluded.oldest, due = excluded.due
                WHERE NOT ",
            is_alive!(),
            " RETURNING 1)",
            noted!()
        )
    };
}

/// Saves if the stored version matches. A concurrent second save waits for the first, and then compares the row that
/// the first has written. The argument sets the columns of the record's messages.
macro_rules! save_version {
    ($messages:literal) => {
        concat!(
            given!(),
            ", saved AS (
                UPDATE faststate_records AS r SET
                    state_schema = ?, epoch = ?, seq = ?, nonce = ?, data = ?, expires_at = ",
            now!(),
            " + ?, ",
            $messages,
            " WHERE r.record_key = ? AND ",
            is_alive!(),
            " AND r.epoch = ? AND r.seq = ? AND r.nonce = ? AND NOT EXISTS (SELECT FROM present)
                RETURNING 1)",
            noted!()
        )
    };
}

pub(super) const SAVE_ABSENT: &str = save_absent!("", "");

pub(super) const SAVE_ABSENT_WITH_MESSAGES: &str =
    save_absent!(", pending, waiting, parked, oldest, due", ", ?, ?, ?, ?, ?");

pub(super) const SAVE_VERSION: &str =
    save_version!("pending = NULL, waiting = NULL, parked = NULL, oldest = NULL, due = NULL");

pub(super) const SAVE_VERSION_WITH_MESSAGES: &str =
    save_version!("pending = ?, waiting = ?, parked = ?, oldest = ?, due = ?");

/// Inserts a receipt with its answer, or replaces an expired one. A concurrent save with the same receipt waits, or is
/// waited for.
pub(super) const REFUSE: &str = concat!(
    "INSERT INTO faststate_receipts AS t (expires_at, answer, digest) VALUES (",
    now!(),
    " + ?, ?, ?)
    ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at, answer = excluded.answer
    WHERE t.expires_at <= ",
    now!()
);

const RELEASE: &str = concat!(
    "UPDATE faststate_receipts SET expires_at = ",
    now!(),
    " + ? WHERE expires_at > ",
    now!(),
    " + ? AND digest IN (",
    placeholders_64!(),
    ")"
);

/// The row without a key is the clock. It is read once, so that no later time is compared.
const DUE: &str = concat!(
    "WITH clock AS MATERIALIZED (SELECT ",
    now!(),
    " AS at)
    SELECT NULL::bytea, at, 0::bigint, 0::bigint FROM clock
    UNION ALL (
        SELECT record_key, due, 0, 0 FROM faststate_records
        WHERE due <= (SELECT at FROM clock) AND (expires_at IS NULL OR expires_at > (SELECT at FROM clock))
        ORDER BY due LIMIT ?
    )"
);

/// The row without a key has the age and the sums.
const PENDING: &str = concat!(
    "WITH clock AS MATERIALIZED (SELECT ",
    now!(),
    " AS at)
    SELECT NULL::bytea, (SELECT at FROM clock) - min(oldest),
        coalesce(sum(waiting), 0)::bigint, coalesce(sum(parked), 0)::bigint
    FROM faststate_records
    WHERE oldest IS NOT NULL AND (expires_at IS NULL OR expires_at > (SELECT at FROM clock))
    UNION ALL (
        SELECT record_key, oldest, 0, 0 FROM faststate_records
        WHERE oldest IS NOT NULL AND (expires_at IS NULL OR expires_at > (SELECT at FROM clock))
        ORDER BY oldest LIMIT ?
    )"
);

/// Writes nothing, but fails on a server that is read-only.
const PING: &str = "DELETE FROM faststate_records WHERE false";

const DELETE: &str = concat!(
    "DELETE FROM faststate_records AS r WHERE r.record_key = ? AND ",
    is_alive!(),
    " AND r.epoch = ? AND r.seq = ? AND r.nonce = ?"
);

const TOUCH: &str = concat!(
    "UPDATE faststate_records AS r SET expires_at = ",
    now!(),
    " + ? WHERE r.record_key = ? AND ",
    is_alive!()
);

/// Skips locked rows, which a later sweep deletes.
const SWEEP_RECORDS: &str = concat!(
    "DELETE FROM faststate_records WHERE record_key IN (
        SELECT record_key FROM faststate_records
        WHERE expires_at <= (SELECT ",
    now!(),
    ") ORDER BY expires_at LIMIT ? FOR UPDATE SKIP LOCKED)"
);

const SWEEP_RECEIPTS: &str = concat!(
    "DELETE FROM faststate_receipts WHERE digest IN (
        SELECT digest FROM faststate_receipts
        WHERE expires_at <= (SELECT ",
    now!(),
    ") ORDER BY expires_at LIMIT ? FOR UPDATE SKIP LOCKED)"
);

/// The statements that [`SqlStore`](crate::sql_store::SqlStore) runs.
pub(super) const STATEMENTS: Statements = Statements {
    load: LOAD,
    settled: SETTLED,
    release: RELEASE,
    due: DUE,
    pending: PENDING,
    delete: DELETE,
    touch: TOUCH,
    sweep_records: SWEEP_RECORDS,
    sweep_receipts: SWEEP_RECEIPTS,
    ping: PING,
};
