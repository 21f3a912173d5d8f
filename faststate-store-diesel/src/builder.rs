//! The builder of a store.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use faststate_core::store::StoreError;

use crate::{DieselStore, error::BackendError};

/// Deadline for opening a store, during which another node may be upgrading its tables.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a [`DieselStore`]: awaiting the builder creates or upgrades the tables and returns the store.
///
/// ```no_run
/// # use std::time::Duration;
/// # use faststate_store_diesel::DieselStore;
/// # async fn open() -> Result<(), faststate_core::store::StoreError> {
/// let store = DieselStore::sqlite("counter.db").timeout(Duration::from_secs(1)).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the store is opened when the builder is awaited"]
pub struct DieselStoreBuilder {
    address: StoreAddress,
    settings: StoreSettings,
}

enum StoreAddress {
    #[cfg(feature = "sqlite")]
    Sqlite(std::path::PathBuf),
    #[cfg(feature = "postgres")]
    Postgres(String),
    #[cfg(feature = "mysql")]
    Mysql(String),
}

/// The settings of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreSettings {
    /// Deadline of a call.
    pub(crate) timeout: Duration,
    /// Maximum number of connections; for SQLite, of those that read.
    pub(crate) connections: u32,
    /// Whether the address leads to a transaction pool, even if it does not say so.
    #[cfg(feature = "postgres")]
    pub(crate) is_transaction_pool: bool,
}

impl DieselStore {
    /// Opens the SQLite database at this path, and creates it if it does not exist.
    ///
    /// The path may also be a URL, whose path is percent-decoded: `sqlite:///var/lib/app/app.db`, with `?mode=rw` to
    /// refuse a missing file (the default is `mode=rwc`).
    ///
    /// The folder must be on a disk of this machine. A database in memory is refused: use
    /// [`MemoryStore`](faststate_core::MemoryStore) instead.
    ///
    /// # Errors
    /// When awaited: [`StoreError::Unavailable`] if the file cannot be opened, [`StoreError::Refused`] if the
    /// URL is invalid or the tables are newer than this crate.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(path: impl AsRef<std::path::Path>) -> DieselStoreBuilder {
        DieselStoreBuilder::new(StoreAddress::Sqlite(path.as_ref().to_owned()), 2)
    }

    /// Opens a store in a PostgreSQL database, at `postgres://user:password@host:port/database?name=value`.
    ///
    /// The crate's documentation describes [the parameters](crate#addresses), TLS and pools.
    ///
    /// # Errors
    /// When awaited: [`StoreError::Unavailable`] if no server that accepts writes responds, [`StoreError::Refused`] if
    /// the address is invalid, no encrypted connection is possible, the server refuses the user, the password or the
    /// database, or its tables are newer than this crate.
    #[cfg(feature = "postgres")]
    pub fn postgres(url: impl Into<String>) -> DieselStoreBuilder {
        DieselStoreBuilder::new(StoreAddress::Postgres(url.into()), 16)
    }

    /// Opens a store in a MySQL or MariaDB database, at `mysql://user:password@host:port/database?name=value`.
    ///
    /// The crate's documentation describes [the parameters](crate#addresses) and TLS.
    ///
    /// # Errors
    /// When awaited: [`StoreError::Unavailable`] if the server does not respond, [`StoreError::Refused`] if the address
    /// is invalid, no encrypted connection is possible, the server refuses the user, the password or the database, or
    /// its tables are newer than this crate.
    #[cfg(feature = "mysql")]
    pub fn mysql(url: impl Into<String>) -> DieselStoreBuilder {
        DieselStoreBuilder::new(StoreAddress::Mysql(url.into()), 16)
    }
}

impl DieselStoreBuilder {
    fn new(address: StoreAddress, connections: u32) -> Self {
        let settings = StoreSettings {
            timeout: Duration::from_secs(2),
            connections,
            #[cfg(feature = "postgres")]
            is_transaction_pool: false,
        };
        Self { address, settings }
    }

    /// Deadline of a call, including the wait for a connection (default: 2 s). After it, the call fails and the outcome
    /// of a save is unknown.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Maximum number of connections (default: 16). For SQLite, of connections that read (default: 2), in addition to
    /// the one that writes.
    pub const fn connections(mut self, connections: u32) -> Self {
        self.settings.connections = if connections == 0 { 1 } else { connections };
        self
    }

    /// Whether the PostgreSQL address leads to a pool that gives each transaction another connection, such as PgBouncer
    /// with `pool_mode = transaction`. `true` has the same effect as `pgbouncer=true` in the address; with `false` (the
    /// default), the address decides. Other databases ignore it.
    #[cfg(feature = "postgres")]
    pub const fn pgbouncer(mut self, pgbouncer: bool) -> Self {
        self.settings.is_transaction_pool = pgbouncer;
        self
    }

    async fn open(self) -> Result<DieselStore, BackendError> {
        let settings = self.settings;
        match self.address {
            #[cfg(feature = "sqlite")]
            StoreAddress::Sqlite(path) => {
                let backend = crate::sqlite::Sqlite::open(path, settings).await?;
                Ok(DieselStore::new(backend, settings.timeout))
            }
            #[cfg(feature = "postgres")]
            StoreAddress::Postgres(url) => {
                let backend = crate::postgres::Postgres::open(&url, settings).await?;
                Ok(DieselStore::new(backend, settings.timeout))
            }
            #[cfg(feature = "mysql")]
            StoreAddress::Mysql(url) => {
                let backend = crate::mysql::Mysql::open(&url, settings).await?;
                Ok(DieselStore::new(backend, settings.timeout))
            }
        }
    }
}

impl IntoFuture for DieselStoreBuilder {
    type Output = Result<DieselStore, StoreError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let opened = tokio::time::timeout(OPEN_TIMEOUT, self.open()).await;
            Ok(opened.unwrap_or(Err(BackendError::Late(OPEN_TIMEOUT)))?)
        })
    }
}

impl fmt::Debug for DieselStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = match self.address {
            #[cfg(feature = "sqlite")]
            StoreAddress::Sqlite(_) => "sqlite",
            #[cfg(feature = "postgres")]
            StoreAddress::Postgres(_) => "postgres",
            #[cfg(feature = "mysql")]
            StoreAddress::Mysql(_) => "mysql",
        };
        f.debug_struct("DieselStoreBuilder")
            .field("backend", &backend)
            .field("settings", &self.settings)
            .finish()
    }
}
