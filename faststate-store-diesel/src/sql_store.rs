//! The store over a database server: everything that PostgreSQL and MySQL have in common.

use std::{fmt, future::Future, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use diesel::{QueryResult, result::Error as DieselError, sql_types::BigInt};
use faststate_core::{
    Key, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, RECEIPT_KEPT, Receipt, Record, SaveOutcome},
};

use crate::{
    backend::Backend,
    builder::StoreSettings,
    error::BackendError,
    pool::{Link, Pool},
    row::{Columns, LoadedRow, VersionColumns, loaded, millis},
    save_batcher::{BatchOutcome, QueuedSave, SaveBatcher, Saver},
    schedule::{KeyColumns, KeyRow, due_keys, pending_summary},
    statement::{Bind, Statement},
};

/// The number of receipts in [`Statements::release`].
const RELEASED_RECEIPTS: usize = 64;

/// A list of [`RELEASED_RECEIPTS`] placeholders.
macro_rules! placeholders_64 {
    () => {
        concat!(
            "?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,",
            "?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?"
        )
    };
}
pub(crate) use placeholders_64;

/// What differs between the database servers.
pub(crate) trait Dialect: fmt::Debug + Sized + Send + Sync + 'static {
    type Connection: Link;

    /// The name of the store in `Debug` output.
    const NAME: &'static str;
    const STATEMENTS: Statements;

    /// Opens a connection with the settings that the store's promises need.
    fn open(&self) -> impl Future<Output = Result<Self::Connection, BackendError>> + Send;

    /// Runs a statement that returns no rows.
    fn execute(
        connection: &mut Self::Connection,
        statement: Statement<'_>,
    ) -> impl Future<Output = QueryResult<usize>> + Send;

    /// Runs a statement that returns one row, and reads its result to the end.
    fn load_row(
        connection: &mut Self::Connection,
        statement: Statement<'_, Columns>,
    ) -> impl Future<Output = QueryResult<LoadedRow>> + Send;

    /// Runs a statement that returns a row per match.
    fn load_numbers(
        connection: &mut Self::Connection,
        statement: Statement<'_, BigInt>,
    ) -> impl Future<Output = QueryResult<Vec<i64>>> + Send;

    /// Runs a statement that returns keys.
    fn load_keys(
        connection: &mut Self::Connection,
        statement: Statement<'_, KeyColumns>,
    ) -> impl Future<Output = QueryResult<Vec<KeyRow>>> + Send;

    /// Saves a receipt with its answer; returns false if the receipt exists.
    fn refuse(
        connection: &mut Self::Connection,
        receipt: &Receipt,
        answer: &[u8],
    ) -> impl Future<Output = QueryResult<bool>> + Send;

    /// Saves one record and its receipt.
    fn save_one(
        &self,
        connection: &mut Self::Connection,
        save: &QueuedSave,
    ) -> impl Future<Output = Result<SaveOutcome, BackendError>> + Send;

    /// Saves several records in one transaction; rolls it back if one of them fails.
    fn save_batch(
        &self,
        connection: &mut Self::Connection,
        saves: &[&QueuedSave],
    ) -> impl Future<Output = Result<BatchOutcome, BackendError>> + Send;

    /// Deletes expired rows, at most `limit` of each table; returns their number.
    fn sweep(
        connection: &mut Self::Connection,
        limit: usize,
    ) -> impl Future<Output = QueryResult<usize>> + Send {
        sweep_tables::<Self>(connection, limit)
    }

    /// Returns whether the server sent this error as the answer to a statement, so that the connection remains
    /// usable.
    fn is_answer(error: &DieselError) -> bool;

    /// Returns whether the server chose the statement as a deadlock's victim, so that it can be repeated at once.
    fn is_deadlock(_: &BackendError) -> bool {
        false
    }

    /// Refuses a record that is too large for the server.
    fn check_size(&self, _: &Record) -> Result<(), BackendError> {
        Ok(())
    }
}

/// The texts of the statements that the store itself runs.
pub(crate) struct Statements {
    pub(crate) load: &'static str,
    /// Waits for the transactions that hold the key's row, and returns a row if there is one.
    pub(crate) settled: &'static str,
    /// Shortens the lifetimes of [`RELEASED_RECEIPTS`] receipts.
    pub(crate) release: &'static str,
    pub(crate) due: &'static str,
    pub(crate) pending: &'static str,
    pub(crate) delete: &'static str,
    pub(crate) touch: &'static str,
    pub(crate) sweep_records: &'static str,
    pub(crate) sweep_receipts: &'static str,
    pub(crate) ping: &'static str,
}

/// Deletes expired records and receipts, at most `limit` of each; returns their number.
pub(crate) async fn sweep_tables<D: Dialect>(
    connection: &mut D::Connection,
    limit: usize,
) -> QueryResult<usize> {
    let binds = [Bind::Number(i64::try_from(limit).unwrap_or(i64::MAX))];
    let mut deleted = 0;
    for text in [D::STATEMENTS.sweep_records, D::STATEMENTS.sweep_receipts] {
        deleted += D::execute(connection, Statement::new(text, &binds)).await?;
    }
    Ok(deleted)
}

/// Records in the database of a server.
pub(crate) struct SqlStore<D: Dialect> {
    server: Arc<PooledServer<D>>,
    batcher: SaveBatcher,
}

/// A server and the connections to it.
struct PooledServer<D: Dialect> {
    dialect: Arc<D>,
    pool: Pool<D::Connection>,
}

impl<D: Dialect> SqlStore<D> {
    /// A store whose tables exist. Batched saves use at most `batch_connections` connections.
    pub(crate) fn new(dialect: D, settings: StoreSettings, batch_connections: u32) -> Self {
        let dialect = Arc::new(dialect);
        let pool = Pool::new(settings, {
            let dialect = Arc::clone(&dialect);
            move || {
                let dialect = Arc::clone(&dialect);
                Box::pin(async move { dialect.open().await })
            }
        });
        let server = Arc::new(PooledServer { dialect, pool });
        let batcher = SaveBatcher::start(Arc::clone(&server), batch_connections, settings);
        Self { server, batcher }
    }
}

impl<D: Dialect> PooledServer<D> {
    /// Runs a statement, and repeats it after a deadlock.
    async fn execute(&self, text: &'static str, binds: &[Bind<'_>]) -> Result<usize, BackendError> {
        loop {
            let mut lease = self.pool.lease().await?;
            let outcome = D::execute(lease.connection(), Statement::new(text, binds)).await;
            match lease.end(outcome.map_err(BackendError::from), D::is_answer) {
                Err(error) if D::is_deadlock(&error) => {}
                outcome => return outcome,
            }
        }
    }

    async fn load(&self, binds: &[Bind<'_>]) -> Result<Loaded, BackendError> {
        let mut lease = self.pool.lease().await?;
        let statement = Statement::<Columns>::returning(D::STATEMENTS.load, binds);
        let outcome = D::load_row(lease.connection(), statement).await;
        loaded(lease.end(outcome.map_err(BackendError::from), D::is_answer)?)
    }

    /// Runs a statement that returns the keys of at most `limit` records.
    async fn load_keys(&self, text: &'static str, limit: usize) -> Result<Vec<KeyRow>, BackendError> {
        let binds = [Bind::Number(i64::try_from(limit).unwrap_or(i64::MAX))];
        let mut lease = self.pool.lease().await?;
        let outcome = D::load_keys(lease.connection(), Statement::returning(text, &binds)).await;
        lease.end(outcome.map_err(BackendError::from), D::is_answer)
    }

    /// Waits for the transactions that are writing this key, and returns whether it has a row afterwards. A
    /// transaction that began while the old record was alive may commit after a load has found it expired.
    async fn has_row_once_settled(&self, key: &Key) -> Result<bool, BackendError> {
        let binds = [Bind::Bytes(key.as_str().as_bytes())];
        let mut lease = self.pool.lease().await?;
        let statement = Statement::<BigInt>::returning(D::STATEMENTS.settled, &binds);
        let outcome = D::load_numbers(lease.connection(), statement).await;
        Ok(!lease.end(outcome.map_err(BackendError::from), D::is_answer)?.is_empty())
    }
}

#[async_trait]
impl<D: Dialect> Backend for SqlStore<D> {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, BackendError> {
        let binds = [
            Bind::MaybeBytes(receipt.map(|receipt| &receipt.as_bytes()[..])),
            Bind::Bytes(key.as_str().as_bytes()),
        ];
        let found = self.server.load(&binds).await?;
        if found.record.is_none() && self.server.has_row_once_settled(key).await? {
            return self.server.load(&binds).await;
        }
        Ok(found)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, BackendError> {
        self.server.dialect.check_size(record)?;
        self.batcher.save(key, record, expect, receipt).await
    }

    async fn refuse(&self, receipt: &Receipt, answer: &Bytes) -> Result<bool, BackendError> {
        loop {
            let mut lease = self.server.pool.lease().await?;
            let outcome = D::refuse(lease.connection(), receipt, answer).await;
            match lease.end(outcome.map_err(BackendError::from), D::is_answer) {
                Err(error) if D::is_deadlock(&error) => {}
                outcome => return outcome,
            }
        }
    }

    async fn release(&self, receipts: Vec<Receipt>) -> Result<(), BackendError> {
        let lifetime = Bind::Number(millis(RECEIPT_KEPT));
        for receipts in receipts.chunks(RELEASED_RECEIPTS) {
            // The last receipt fills the remaining places, so that all statements have the same text.
            let filled = receipts.iter().chain(receipts.last().into_iter().cycle());
            let digests = filled.take(RELEASED_RECEIPTS).map(|receipt| Bind::Bytes(receipt.as_bytes()));
            let binds: Vec<_> = [lifetime, lifetime].into_iter().chain(digests).collect();
            self.server.execute(D::STATEMENTS.release, &binds).await?;
        }
        Ok(())
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, BackendError> {
        Ok(due_keys(self.server.load_keys(D::STATEMENTS.due, limit).await?))
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, BackendError> {
        Ok(pending_summary(self.server.load_keys(D::STATEMENTS.pending, limit).await?))
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, BackendError> {
        let [epoch, seq, nonce] = VersionColumns::from(version).binds();
        let binds = [Bind::Bytes(key.as_str().as_bytes()), epoch, seq, nonce];
        Ok(self.server.execute(D::STATEMENTS.delete, &binds).await? > 0)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, BackendError> {
        let binds = [Bind::Number(millis(ttl)), Bind::Bytes(key.as_str().as_bytes())];
        Ok(self.server.execute(D::STATEMENTS.touch, &binds).await? > 0)
    }

    async fn sweep(&self, limit: usize) -> Result<usize, BackendError> {
        loop {
            let mut lease = self.server.pool.lease().await?;
            let outcome = D::sweep(lease.connection(), limit).await;
            match lease.end(outcome.map_err(BackendError::from), D::is_answer) {
                Err(error) if D::is_deadlock(&error) => {}
                outcome => return outcome,
            }
        }
    }

    async fn ping(&self) -> Result<(), BackendError> {
        self.server.execute(D::STATEMENTS.ping, &[]).await.map(|_| ())
    }

    async fn backup(&self, _: PathBuf) -> Result<(), BackendError> {
        Err(BackendError::NoBackup)
    }
}

#[async_trait]
impl<D: Dialect> Saver for PooledServer<D> {
    async fn save_one(&self, save: &QueuedSave) -> Result<SaveOutcome, BackendError> {
        loop {
            let mut lease = self.pool.lease().await?;
            let outcome = self.dialect.save_one(lease.connection(), save).await;
            match lease.end(outcome, D::is_answer) {
                Err(error) if D::is_deadlock(&error) => {}
                outcome => return outcome,
            }
        }
    }

    async fn save_batch(&self, saves: &[&QueuedSave]) -> Result<BatchOutcome, BackendError> {
        let mut lease = self.pool.lease().await?;
        let outcome = self.dialect.save_batch(lease.connection(), saves).await;
        lease.end(outcome, D::is_answer)
    }
}

impl<D: Dialect> fmt::Debug for SqlStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(D::NAME)
            .field("server", &self.server.dialect)
            .field("pool", &self.server.pool)
            .finish()
    }
}
