//! How a store is opened.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use faststate_core::store::StoreError;

use crate::{DieselStore, error::Error};

/// How long it may take to open a store: another node may be upgrading its tables.
const OPENING: Duration = Duration::from_secs(30);

/// A store to be opened: awaiting it makes or upgrades the tables and gives the [`DieselStore`].
///
/// ```no_run
/// # use std::time::Duration;
/// # use faststate_store_diesel::DieselStore;
/// # async fn open() -> Result<(), faststate_core::store::StoreError> {
/// let store = DieselStore::sqlite("counter.db").timeout(Duration::from_secs(1)).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a store is opened when this is awaited"]
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

/// What can be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreSettings {
    /// How long a call may take.
    pub(crate) timeout: Duration,
    /// How many connections there are; for SQLite, how many for reading.
    pub(crate) connections: u32,
}

impl DieselStore {
    /// A store in the SQLite database at this path, or at `sqlite://path`; made if there is none.
    ///
    /// The folder must be on a disk of this machine. A database in memory is refused: that is
    /// [`MemoryStore`](faststate_core::MemoryStore).
    ///
    /// # Errors
    /// Awaited, [`StoreError::Unavailable`] when the file cannot be opened, [`StoreError::Refused`] when its
    /// tables are newer than this crate.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(path: impl AsRef<std::path::Path>) -> DieselStoreBuilder {
        let path = path.as_ref();
        let bare = path.to_str().and_then(|text| text.strip_prefix("sqlite:"));
        let bare = bare.map(|text| text.strip_prefix("//").unwrap_or(text));
        DieselStoreBuilder::new(StoreAddress::Sqlite(bare.map_or(path, std::path::Path::new).to_owned()), 2)
    }

    /// A store in a PostgreSQL database, at `postgres://user:password@host:port/database`.
    ///
    /// # Errors
    /// Awaited, [`StoreError::Unavailable`] when the server does not answer, [`StoreError::Refused`] when the address is
    /// none or the server refuses the user, the password or the database, or its tables are newer than this crate.
    #[cfg(feature = "postgres")]
    pub fn postgres(url: impl Into<String>) -> DieselStoreBuilder {
        DieselStoreBuilder::new(StoreAddress::Postgres(url.into()), 16)
    }

    /// A store in a MySQL or MariaDB database, at `mysql://user:password@host:port/database`.
    ///
    /// # Errors
    /// Awaited, [`StoreError::Unavailable`] when the server does not answer, [`StoreError::Refused`] when the address is
    /// none or the server refuses the user, the password or the database, or its tables are newer than this crate.
    #[cfg(feature = "mysql")]
    pub fn mysql(url: impl Into<String>) -> DieselStoreBuilder {
        DieselStoreBuilder::new(StoreAddress::Mysql(url.into()), 16)
    }
}

impl DieselStoreBuilder {
    fn new(address: StoreAddress, connections: u32) -> Self {
        Self { address, settings: StoreSettings { timeout: Duration::from_secs(2), connections } }
    }

    /// How long a call may take (2 s), waiting for a connection included; then it fails, and the outcome of a save
    /// is unknown.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How many connections there are at most (16). For SQLite, how many for reading (2), besides the one that
    /// writes.
    pub const fn connections(mut self, connections: u32) -> Self {
        self.settings.connections = if connections == 0 { 1 } else { connections };
        self
    }

    async fn open(self) -> Result<DieselStore, Error> {
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
            let opened = tokio::time::timeout(OPENING, self.open()).await;
            Ok(opened.unwrap_or(Err(Error::Late(OPENING)))?)
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
