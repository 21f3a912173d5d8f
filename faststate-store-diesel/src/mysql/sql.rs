//! The texts of the statements.

use crate::sql_store::Statements;

/// The server's clock in milliseconds since 1970. It is unambiguous because connections use UTC (see `connection`):
/// `UNIX_TIMESTAMP` reads local time, in which an hour occurs twice when daylight saving time ends. It is the current
/// time and not the statement's start, so that a statement that waited for a row compares with the time at which it
/// got the row.
macro_rules! now {
    () => {
        "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)"
    };
}

/// The clock at the statement's start, which is a constant, so that an index can be used.
macro_rules! started {
    () => {
        "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
    };
}

macro_rules! is_alive {
    () => {
        concat!("(expires_at IS NULL OR expires_at > ", now!(), ")")
    };
}

/// One statement, so that record and receipt are read at the same moment.
const LOAD: &str = concat!(
    "SELECT r.state_schema, r.epoch, r.seq, r.nonce, r.data, r.expires_at - ",
    now!(),
    ", (SELECT count(*) FROM faststate_receipts WHERE digest = ? AND expires_at > ",
    now!(),
    ") FROM (SELECT 1) AS always LEFT JOIN faststate_records AS r
        ON r.record_key = ? AND (r.expires_at IS NULL OR r.expires_at > ",
    now!(),
    ")"
);

/// Waits for transactions that are writing the row.
const SETTLED: &str = "SELECT 1 FROM faststate_records WHERE record_key = ? LOCK IN SHARE MODE";

pub(super) const INSERT: &str = concat!(
    "INSERT INTO faststate_records (state_schema, epoch, seq, nonce, data, expires_at, record_key)
    VALUES (?, ?, ?, ?, ?, ",
    now!(),
    " + ?, ?)"
);

pub(super) const IS_EXPIRED: &str =
    concat!("SELECT count(*) FROM faststate_records WHERE record_key = ? AND NOT ", is_alive!());

/// Replaces an expired record.
pub(super) const REPLACE: &str = concat!(
    "UPDATE faststate_records
    SET state_schema = ?, epoch = ?, seq = ?, nonce = ?, data = ?, expires_at = ",
    now!(),
    " + ? WHERE record_key = ? AND NOT ",
    is_alive!()
);

/// MySQL assigns from left to right, but the condition reads the old values.
pub(super) const UPDATE: &str = concat!(
    "UPDATE faststate_records
    SET state_schema = ?, epoch = ?, seq = ?, nonce = ?, data = ?, expires_at = ",
    now!(),
    " + ? WHERE record_key = ? AND ",
    is_alive!(),
    " AND epoch = ? AND seq = ? AND nonce = ?"
);

pub(super) const HAS_RECEIPT: &str =
    concat!("SELECT count(*) FROM faststate_receipts WHERE digest = ? AND expires_at > ", now!());

pub(super) const INSERT_RECEIPT: &str =
    concat!("INSERT INTO faststate_receipts (expires_at, digest) VALUES (", now!(), " + ?, ?)");

/// Replaces an expired receipt.
pub(super) const REPLACE_RECEIPT: &str = concat!(
    "UPDATE faststate_receipts SET expires_at = ",
    now!(),
    " + ? WHERE digest = ? AND expires_at <= ",
    now!()
);

/// Writes nothing, but fails on a server that is read-only.
const PING: &str = "DELETE FROM faststate_records WHERE FALSE";

const DELETE: &str = concat!(
    "DELETE FROM faststate_records WHERE record_key = ? AND ",
    is_alive!(),
    " AND epoch = ? AND seq = ? AND nonce = ?"
);

const TOUCH: &str = concat!(
    "UPDATE faststate_records SET expires_at = ",
    now!(),
    " + ? WHERE record_key = ? AND ",
    is_alive!()
);

/// Takes the lock of sweeps in this database; returns 1 if no other connection holds it. The name has at most 64
/// characters.
pub(super) const LOCK_SWEEP: &str = "SELECT GET_LOCK(CONCAT('faststate_sweep_', MD5(DATABASE())), 0)";

/// Run before the lock is taken: if the node vanishes while it holds the lock, the server closes the connection after
/// 10 s without a statement, and so releases the lock.
pub(super) const BEGIN_SWEEP: &str = "SET SESSION wait_timeout = 10";

/// Releases the lock, if this connection holds it.
pub(super) const END_SWEEP: &str =
    "DO RELEASE_LOCK(CONCAT('faststate_sweep_', MD5(DATABASE()))); SET SESSION wait_timeout = DEFAULT";

const SWEEP_RECORDS: &str =
    concat!("DELETE FROM faststate_records WHERE expires_at <= ", started!(), " ORDER BY expires_at LIMIT ?");

const SWEEP_RECEIPTS: &str = concat!(
    "DELETE FROM faststate_receipts WHERE expires_at <= ",
    started!(),
    " ORDER BY expires_at LIMIT ?"
);

/// The statements that [`SqlStore`](crate::sql_store::SqlStore) runs.
pub(super) const STATEMENTS: Statements = Statements {
    load: LOAD,
    settled: SETTLED,
    delete: DELETE,
    touch: TOUCH,
    sweep_records: SWEEP_RECORDS,
    sweep_receipts: SWEEP_RECEIPTS,
    ping: PING,
};
