//! MySQL and MariaDB: saves that come together share a transaction, as MySQL sends nothing ahead.

mod connection;
mod saving;
mod sql;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use diesel::{
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::BigInt,
};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl as _};
use faststate_core::{
    Key, Version,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome},
};

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

/// Records in a MySQL database.
pub(crate) struct Mysql {
    server: Arc<Server>,
    saves: Group,
}

struct Server {
    opener: Arc<Opener>,
    pool: Pool<AsyncMysqlConnection>,
    /// The most bytes of data that fit into a packet (`max_allowed_packet`), or as many as there can be.
    longest: usize,
}

impl Mysql {
    pub(crate) async fn open(url: &str, settings: Settings) -> Result<Self, Error> {
        let opener = Arc::new(Opener::new(url, settings.timeout)?);
        let longest = opener.prepare_database().await?;
        let pool = Pool::new(settings, {
            let opener = Arc::clone(&opener);
            move || {
                let opener = Arc::clone(&opener);
                Box::pin(async move { opener.open().await })
            }
        });
        let server = Arc::new(Server { opener, pool, longest });
        // Half of the connections: the server works on each transaction step by step.
        let saves = Group::start(Arc::clone(&server), settings.connections / 2, settings);
        Ok(Self { server, saves })
    }
}

impl Server {
    /// Runs a statement, again where the server has chosen it as a deadlock's victim.
    async fn run(&self, statement: Statement<'_>) -> Result<usize, Error> {
        loop {
            let mut lease = self.pool.lease().await?;
            let outcome = statement.execute(lease.connection()).await;
            match lease.end(outcome.map_err(Error::from), is_answer) {
                Err(error) if is_deadlock(&error) => {}
                outcome => return outcome,
            }
        }
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
impl Backend for Mysql {
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
        let (bytes, most) = (record.data.len(), self.server.longest);
        if bytes > most {
            return Err(Error::TooLarge { bytes, most });
        }
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
    /// Four round trips (begin, record, receipt, commit), or one without a receipt.
    async fn alone(&self, save: &Save) -> Result<SaveOutcome, Error> {
        loop {
            let mut lease = self.pool.lease().await?;
            let outcome = saving::alone(lease.connection(), save).await;
            match lease.end(outcome, is_answer) {
                Err(error) if is_deadlock(&error) => {}
                outcome => return outcome,
            }
        }
    }

    /// Two round trips for each (record, receipt), and two for all (begin, commit).
    async fn together(&self, saves: &[&Save]) -> Result<Together, Error> {
        let mut lease = self.pool.lease().await?;
        let outcome = saving::together(lease.connection(), saves).await;
        lease.end(outcome, is_answer)
    }
}

/// Whether a row of this key is there.
fn is_taken(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
}

impl Link for AsyncMysqlConnection {
    /// The driver notices nothing between two calls.
    fn is_closed(&mut self) -> bool {
        false
    }
}

/// Whether the server answered with this error, and waits for the next statement. Diesel gives a lost
/// connection the same kind as most of the server's answers, without the server's code; only the text tells, which is
/// English (see `connection`).
fn is_answer(error: &DieselError) -> bool {
    /// How the driver's own errors begin.
    const DRIVER: [&str; 4] = ["Input/output error:", "Driver error:", "Other error:", "URL error:"];
    /// What a server says that is about to go, or takes no writes: `read_only` and `super_read_only` (1290), InnoDB
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

/// Whether the server asks to try again: a deadlock, or too long a wait for a lock.
fn is_restart(error: &Error) -> bool {
    matches!(error, Error::Query(error) if error.to_string().contains("try restarting transaction"))
}

/// Whether it was undone because others were in the way, and may succeed at once.
fn is_deadlock(error: &Error) -> bool {
    is_restart(error) && error.to_string().contains("Deadlock")
}

impl fmt::Debug for Mysql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mysql").field("server", &self.server.opener).field("pool", &self.server.pool).finish()
    }
}
