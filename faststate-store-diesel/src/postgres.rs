//! PostgreSQL: each call is one statement, and saves that come together are sent together, as one transaction.
//! Only a load that finds nothing takes a second one, to see whether there is nothing.

mod broadcaster;
mod connection;
mod sql;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use diesel::{
    QueryResult,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::BigInt,
};
use diesel_async::{
    AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _,
    pooled_connection::PoolableConnection as _,
};
use faststate_core::{
    Key, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome},
};
use futures::future::{join, join_all};

pub use self::broadcaster::PostgresBroadcaster;
use self::connection::Opener;
use crate::{
    backend::Backend,
    builder::Settings,
    error::Error,
    group::{Group, Save, Saves, Together},
    pool::{Link, Pool},
    row::{Columns, Row, Stored, loaded, millis},
    statement::{Bind, Statement, only},
};

/// Records in a PostgreSQL database.
pub(crate) struct Postgres {
    server: Arc<Server>,
    saves: Group,
}

struct Server {
    opener: Arc<Opener>,
    pool: Pool<AsyncPgConnection>,
}

impl Postgres {
    pub(crate) async fn open(url: &str, settings: Settings) -> Result<Self, Error> {
        let opener = Arc::new(Opener::new(url, settings.timeout)?);
        opener.prepare_database().await?;
        let pool = Pool::new(settings, {
            let opener = Arc::clone(&opener);
            move || {
                let opener = Arc::clone(&opener);
                Box::pin(async move { opener.open().await })
            }
        });
        let server = Arc::new(Server { opener, pool });
        // One connection in four: the fewer there are, the more saves share a commit.
        let saves = Group::start(Arc::clone(&server), settings.connections / 4, settings);
        Ok(Self { server, saves })
    }
}

impl Server {
    async fn run(&self, statement: Statement<'_>) -> Result<usize, Error> {
        let mut lease = self.pool.lease().await?;
        let outcome = statement.execute(lease.connection()).await;
        lease.end(outcome.map_err(Error::from), is_answer)
    }
}

impl Server {
    async fn look(&self, binds: &[Bind<'_>]) -> Result<Loaded, Error> {
        let mut lease = self.pool.lease().await?;
        let statement = Statement::<Columns>::returning(sql::LOAD, binds);
        let outcome = statement.load::<Row>(lease.connection()).await.and_then(only);
        loaded(lease.end(outcome.map_err(Error::from), is_answer)?)
    }

    /// Whether a key without a record has a row all the same, once nobody is at work on it: who began while the
    /// record still lived may commit after others have seen it gone.
    async fn settled(&self, key: &Key) -> Result<bool, Error> {
        let binds = [Bind::Bytes(key.as_str().as_bytes())];
        let mut lease = self.pool.lease().await?;
        let statement = Statement::<BigInt>::returning(sql::SETTLED, &binds);
        let outcome = statement.load::<i64>(lease.connection()).await;
        Ok(!lease.end(outcome.map_err(Error::from), is_answer)?.is_empty())
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, Error> {
        let binds = [
            Bind::MaybeBytes(receipt.map(|receipt| &receipt.as_bytes()[..])),
            Bind::Bytes(key.as_str().as_bytes()),
        ];
        let found = self.server.look(&binds).await?;
        if found.record.is_none() && self.server.settled(key).await? {
            return self.server.look(&binds).await;
        }
        Ok(found)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, Error> {
        self.saves.save(key, record, expect, receipt).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, Error> {
        let [epoch, seq, nonce] = Stored::from(version).binds();
        let binds = [Bind::Bytes(key.as_str().as_bytes()), epoch, seq, nonce];
        Ok(self.server.run(Statement::new(sql::DELETE, &binds)).await? > 0)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, Error> {
        let binds = [Bind::Number(millis(ttl)), Bind::Bytes(key.as_str().as_bytes())];
        Ok(self.server.run(Statement::new(sql::TOUCH, &binds)).await? > 0)
    }

    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        let binds = [Bind::Number(i64::try_from(limit).unwrap_or(i64::MAX))];
        let records = self.server.run(Statement::new(sql::SWEEP_RECORDS, &binds)).await?;
        let receipts = self.server.run(Statement::new(sql::SWEEP_RECEIPTS, &binds)).await?;
        Ok(records + receipts)
    }

    async fn ping(&self) -> Result<(), Error> {
        self.server.run(Statement::new(sql::PING, &[])).await.map(|_| ())
    }

    async fn backup(&self, _: PathBuf) -> Result<(), Error> {
        Err(Error::NoBackup)
    }
}

#[async_trait]
impl Saves for Server {
    async fn alone(&self, save: &Save) -> Result<SaveOutcome, Error> {
        let mut lease = self.pool.lease().await?;
        let outcome = match put(&*lease.connection(), save).await {
            // The receipt came in meanwhile, and refused to be overwritten: nothing is saved.
            Err(DieselError::DatabaseError(DatabaseErrorKind::NotNullViolation, _)) => {
                Ok(SaveOutcome::Duplicate)
            }
            outcome => outcome.map_err(Error::from),
        };
        lease.end(outcome, is_answer)
    }

    /// Two round trips: all statements are sent before the first is answered, and then the commit.
    async fn together(&self, saves: &[&Save]) -> Result<Together, Error> {
        let mut lease = self.pool.lease().await?;
        let connection = &*lease.connection();
        let begin = async { (&mut &*connection).batch_execute(&self.opener.begin).await };
        // The first of them is the first to be sent; what comes after an error is refused by the server.
        let (begun, outcomes) = join(begin, join_all(saves.iter().map(|save| put(connection, save)))).await;
        if let Err(error) = begun {
            return lease.end(Err(Error::Transaction(error.into())), is_answer);
        }
        let outcome = match outcomes.into_iter().collect::<QueryResult<Vec<_>>>() {
            Ok(savings) => match (&mut &*connection).batch_execute("COMMIT").await {
                Ok(()) => Ok(Together::Done(savings)),
                Err(error) => Err(Error::Transaction(error.into())),
            },
            // One waited too long for a lock, or its receipt came in meanwhile.
            Err(error) if is_answer(&error) => {
                tracing::debug!(%error, "saves are undone together, and tried one by one");
                (&mut &*connection)
                    .batch_execute("ROLLBACK")
                    .await
                    .map(|()| Together::Undone)
                    .map_err(Error::from)
            }
            Err(error) => Err(error.into()),
        };
        lease.end(outcome, is_answer)
    }
}

/// Record and receipt in one statement, read to its end.
async fn put(mut connection: &AsyncPgConnection, save: &Save) -> QueryResult<SaveOutcome> {
    let Save { key, record, expect, receipt, .. } = save;
    let [epoch, seq, nonce] = Stored::from(record.version).binds();
    let digest = Bind::MaybeBytes(receipt.as_ref().map(|receipt| &receipt.as_bytes()[..]));
    let kept = Bind::Number(receipt.map_or(0, |receipt| millis(receipt.lifetime())));
    let mut binds = vec![
        digest,
        Bind::Number(i64::from(record.schema)),
        epoch,
        seq,
        nonce,
        Bind::Bytes(&record.data),
        Bind::MaybeNumber(record.ttl.map(millis)),
        Bind::Bytes(key.as_str().as_bytes()),
    ];
    let text = match expect {
        Precondition::Absent => sql::SAVE_ABSENT,
        Precondition::Version(version) => {
            binds.extend(Stored::from(*version).binds());
            sql::SAVE_VERSION
        }
    };
    binds.extend([digest, kept, digest]);
    let statement = Statement::<BigInt>::returning(text, &binds);
    Ok(match statement.load::<i64>(&mut connection).await.and_then(only)? {
        0 => SaveOutcome::Conflict,
        1 => SaveOutcome::Saved,
        _ => SaveOutcome::Duplicate,
    })
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("server", &self.server.opener)
            .field("pool", &self.server.pool)
            .finish()
    }
}

impl Link for AsyncPgConnection {
    /// After 57P01 (`pg_terminate_backend`, a shutdown), 57P02 and the like the server closes the connection, which its
    /// driver notices.
    fn is_closed(&mut self) -> bool {
        self.is_broken()
    }
}

/// Whether the server answered with this error, and waits for the next statement. A read-only server (25006) will refuse
/// every other save as well: it was demoted, and a new connection may lead to its successor.
fn is_answer(error: &DieselError) -> bool {
    use DatabaseErrorKind::{ClosedConnection, ReadOnlyTransaction, UnableToSendCommand};
    match error {
        DieselError::DatabaseError(kind, _) => {
            !matches!(kind, ClosedConnection | ReadOnlyTransaction | UnableToSendCommand)
        }
        _ => false,
    }
}
