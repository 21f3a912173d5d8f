//! The texts of the statements.

use crate::sql_store::{Statements, placeholders_64};

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
    ", r.pending, r.waiting, r.parked, r.oldest, r.due,
    (SELECT COALESCE(answer, X'') FROM faststate_receipts WHERE digest = ? AND expires_at > ",
    now!(),
    ") FROM (SELECT 1) AS always LEFT JOIN faststate_records AS r
        ON r.record_key = ? AND (r.expires_at IS NULL OR r.expires_at > ",
    now!(),
    ")"
);

/// Waits for transactions that are writing the row.
const SETTLED: &str = "SELECT 1 FROM faststate_records WHERE record_key = ? LOCK IN SHARE MODE";

/// Inserts a record. The arguments are the columns of its messages and their values.
macro_rules! insert {
    ($columns:literal, $values:literal) => {
        concat!(
            "INSERT INTO faststate_records (state_schema, epoch, seq, nonce, data, expires_at",
            $columns,
            ", record_key) VALUES (?, ?, ?, ?, ?, ",
            now!(),
            " + ?",
            $values,
            ", ?)"
        )
    };
}

/// Updates a record. The argument sets the columns of its messages.
macro_rules! update {
    ($messages:expr) => {
        concat!(
            "UPDATE faststate_records
            SET state_schema = ?, epoch = ?, seq = ?, nonce = ?, data = ?, expires_at = ",
            now!(),
            " + ?, ",
            $messages,
            " WHERE record_key = ? AND "
        )
    };
}

macro_rules! no_messages {
    () => {
        "pending = NULL, waiting = NULL, parked = NULL, oldest = NULL, due = NULL"
    };
}

macro_rules! messages {
    () => {
        "pending = ?, waiting = ?, parked = ?, oldest = ?, due = ?"
    };
}

/// The texts of the statements that write a record, which depend on whether it has messages.
pub(super) struct RecordStatements {
    pub(super) insert: &'static str,
    /// Replaces an expired record.
    pub(super) replace: &'static str,
    /// Replaces a record of the expected version. MySQL assigns from left to right, but the condition reads the old
    /// values.
    pub(super) update: &'static str,
}

pub(super) const WITHOUT_MESSAGES: RecordStatements = RecordStatements {
    insert: insert!("", ""),
    replace: concat!(update!(no_messages!()), "NOT ", is_alive!()),
    update: concat!(update!(no_messages!()), is_alive!(), " AND epoch = ? AND seq = ? AND nonce = ?"),
};

pub(super) const WITH_MESSAGES: RecordStatements = RecordStatements {
    insert: insert!(", pending, waiting, parked, oldest, due", ", ?, ?, ?, ?, ?"),
    replace: concat!(update!(messages!()), "NOT ", is_alive!()),
    update: concat!(update!(messages!()), is_alive!(), " AND epoch = ? AND seq = ? AND nonce = ?"),
};

pub(super) const IS_EXPIRED: &str =
    concat!("SELECT count(*) FROM faststate_records WHERE record_key = ? AND NOT ", is_alive!());

pub(super) const HAS_RECEIPT: &str =
    concat!("SELECT count(*) FROM faststate_receipts WHERE digest = ? AND expires_at > ", now!());

pub(super) const INSERT_RECEIPT: &str =
    concat!("INSERT INTO faststate_receipts (expires_at, digest) VALUES (", now!(), " + ?, ?)");

/// Replaces an expired receipt.
pub(super) const REPLACE_RECEIPT: &str = concat!(
    "UPDATE faststate_receipts SET expires_at = ",
    now!(),
    " + ?, answer = NULL WHERE digest = ? AND expires_at <= ",
    now!()
);

pub(super) const INSERT_ANSWER: &str =
    concat!("INSERT INTO faststate_receipts (expires_at, answer, digest) VALUES (", now!(), " + ?, ?, ?)");

/// Replaces an expired receipt. The condition reads the old values.
pub(super) const REPLACE_ANSWER: &str = concat!(
    "UPDATE faststate_receipts SET expires_at = ",
    now!(),
    " + ?, answer = ? WHERE digest = ? AND expires_at <= ",
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

/// The row without a key is the clock. Without the hint, the server might read and sort all rows if many are due.
const DUE: &str = concat!(
    "SELECT NULL, ",
    started!(),
    ", 0, 0 UNION ALL (
        SELECT record_key, due, 0, 0 FROM faststate_records FORCE INDEX (faststate_records_due)
        WHERE due <= ",
    started!(),
    " AND (expires_at IS NULL OR expires_at > ",
    started!(),
    ") ORDER BY due LIMIT ?
    )"
);

/// The unfinished messages of the records that exist, oldest first.
macro_rules! oldest {
    ($columns:literal, $limit:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM faststate_records FORCE INDEX (faststate_records_oldest)
            WHERE oldest IS NOT NULL AND (expires_at IS NULL OR expires_at > ",
            started!(),
            ") ORDER BY oldest LIMIT ",
            $limit
        )
    };
}

/// The row without a key has the age and the sums. The sums of all rows need only the index, and those of the expired
/// rows, which are few, are subtracted.
const PENDING: &str = concat!(
    "SELECT NULL, ",
    started!(),
    " - (",
    oldest!("oldest", "1"),
    "), CAST(found.waiting - expired.waiting AS SIGNED), CAST(found.parked - expired.parked AS SIGNED)
    FROM (
        SELECT COALESCE(SUM(waiting), 0) AS waiting, COALESCE(SUM(parked), 0) AS parked
        FROM faststate_records FORCE INDEX (faststate_records_oldest) WHERE oldest IS NOT NULL
    ) AS found JOIN (
        SELECT COALESCE(SUM(waiting), 0) AS waiting, COALESCE(SUM(parked), 0) AS parked
        FROM faststate_records FORCE INDEX (faststate_records_expire)
        WHERE expires_at <= ",
    started!(),
    " AND oldest IS NOT NULL
    ) AS expired
    UNION ALL (",
    oldest!("record_key, oldest, 0, 0", "?"),
    ")"
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
    release: RELEASE,
    due: DUE,
    pending: PENDING,
    delete: DELETE,
    touch: TOUCH,
    sweep_records: SWEEP_RECORDS,
    sweep_receipts: SWEEP_RECEIPTS,
    ping: PING,
};
