//! What the server's and the driver's errors mean.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::error::BackendError;

/// Returns whether the server sent this error as the answer to a statement. Diesel reports a lost connection with the
/// same kind as most answers of the server, and without the server's code, so only the text distinguishes them. It is
/// English (see `connection`).
pub(super) fn is_answer(error: &DieselError) -> bool {
    /// Prefixes of the driver's own errors.
    const DRIVER: [&str; 4] = ["Input/output error:", "Driver error:", "Other error:", "URL error:"];
    /// Texts of a server that is shutting down or accepts no writes: `read_only` and `super_read_only` (1290), InnoDB
    /// (1836), group replication (3100, 3101), Galera (1047), shutdown (1053), offline mode (3032), a killed
    /// connection (1927), a cut one (1158 to 1161).
    const ROLE: [&str; 9] = [
        "read-only option",
        "read-only mode",
        "replication hook",
        "Plugin instructed the server to rollback",
        "WSREP has not yet prepared node",
        "Server shutdown in progress",
        "offline mode",
        "Connection was killed",
        "communication packets",
    ];
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, answer) => {
            let text = answer.message();
            !DRIVER.iter().any(|driver| text.starts_with(driver))
                && !ROLE.iter().any(|role| text.contains(role))
        }
        DieselError::DatabaseError(kind, _) => !matches!(kind, DatabaseErrorKind::ReadOnlyTransaction),
        _ => false,
    }
}

/// Returns whether the server chose the transaction as a deadlock's victim, so that it can be repeated at once.
pub(super) fn is_deadlock(error: &BackendError) -> bool {
    is_restart(error) && error.to_string().contains("Deadlock")
}

/// Returns whether the server asks for a restart of the transaction: a deadlock, or a lock wait that took too long.
fn is_restart(error: &BackendError) -> bool {
    matches!(error, BackendError::Query(error) if error.to_string().contains("try restarting transaction"))
}

/// Returns whether the row's key exists already.
pub(super) fn is_taken(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
}
