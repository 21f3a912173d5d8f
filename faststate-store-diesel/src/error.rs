//! Errors of a backend, and their mapping to [`StoreError`].

use std::{sync::Arc, time::Duration};

use faststate_core::{Key, store::StoreError};

use crate::address::DatabaseAddressError;

/// The reason for which a backend did not execute a call.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum BackendError {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    #[error("no connection within {within:?}")]
    NoConnection {
        within: Duration,
        /// Why the last attempt to connect failed.
        #[source]
        source: Option<Arc<Self>>,
    },
    #[error(transparent)]
    Address(#[from] DatabaseAddressError),
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    #[error("no encrypted connection: {explanation}")]
    Tls {
        explanation: String,
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot connect")]
    Connect(#[source] Arc<dyn std::error::Error + Send + Sync>),
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    #[error("the server refuses this user, password or database{hint}")]
    Denied {
        hint: &'static str,
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    #[cfg(feature = "postgres")]
    #[error(
        "this address leads to a pool that gives each transaction another connection, such as PgBouncer with \
         `pool_mode = transaction`, which loses prepared statements and settings: for the store, add `pgbouncer=true` to \
         the address; for the broadcaster, set `pool_mode = session` or use the address of PostgreSQL itself"
    )]
    TransactionPool,
    #[cfg(feature = "postgres")]
    #[error(
        "the address has `pgbouncer=true`, but the broadcaster needs a connection of its own for LISTEN: use the address \
         of PostgreSQL itself"
    )]
    PooledBroadcaster,
    #[error(transparent)]
    Query(Arc<diesel::result::Error>),
    /// Whether the transaction was committed is unknown.
    #[error("a transaction did not begin or did not end")]
    Transaction(#[source] Arc<diesel::result::Error>),
    #[error("the thread of the database has ended")]
    Gone,
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    #[error("cannot use this database: {0}")]
    Unfit(String),
    #[cfg(feature = "sqlite")]
    #[error(
        "the file {0} was deleted or replaced while it was open, so that nothing is saved: put it back, or restart the \
         application with the right file"
    )]
    Replaced(std::path::PathBuf),
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    #[error("only a SQLite file is backed up by this crate: use the server's own tools")]
    NoBackup,
    #[cfg(feature = "sqlite")]
    #[error("the backup was not written")]
    Backup(#[source] Arc<std::io::Error>),
    #[error(
        "its tables are of version {found}, made by a newer faststate-store-diesel: this one knows {known}"
    )]
    Newer { found: i64, known: i64 },
    #[cfg(feature = "mysql")]
    #[error("max_allowed_packet leaves room for {most} bytes in a record, this one has {bytes}")]
    TooLarge { bytes: usize, most: usize },
    #[error("{0} is not a schema number")]
    Schema(i64),
    #[error("{0} is not a nonce")]
    Nonce(i64),
    #[error("{0} is not a number of messages")]
    Count(i64),
}

impl BackendError {
    /// The error that the caller of an operation on `key` receives.
    pub(crate) fn about(self, key: &Key) -> StoreError {
        match self {
            Self::Schema(_) | Self::Nonce(_) | Self::Count(_) => {
                StoreError::Corrupt { key: key.clone(), source: self.into() }
            }
            other => other.into(),
        }
    }

    /// Returns whether the error is temporary and does not concern the connection, so that it remains usable.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_temporary(&self) -> bool {
        let (Self::Query(error) | Self::Transaction(error)) = self else { return false };
        self.is_full() || error.to_string().contains("database is locked")
    }

    /// Returns whether the database has no space left. The statement was rolled back.
    pub(crate) fn is_full(&self) -> bool {
        // In order: SQLite, the operating system, PostgreSQL, MySQL.
        const FULL: [&str; 4] =
            ["database or disk is full", "No space left on device", "Disk full", "is full"];
        matches!(self, Self::Query(error) if FULL.iter().any(|text| error.to_string().contains(text)))
    }
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Newer { .. } | BackendError::Address(_) => Self::Refused(error.into()),
            #[cfg(feature = "mysql")]
            BackendError::TooLarge { .. } => Self::Refused(error.into()),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            BackendError::Tls { .. } | BackendError::Denied { .. } | BackendError::NoBackup => {
                Self::Refused(error.into())
            }
            #[cfg(feature = "postgres")]
            BackendError::TransactionPool | BackendError::PooledBroadcaster => Self::Refused(error.into()),
            _ if error.is_full() => Self::Full(error.into()),
            _ => Self::Unavailable(error.into()),
        }
    }
}

impl From<diesel::result::Error> for BackendError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Query(Arc::new(error))
    }
}

impl From<diesel::ConnectionError> for BackendError {
    fn from(error: diesel::ConnectionError) -> Self {
        Self::Connect(Arc::new(error))
    }
}
