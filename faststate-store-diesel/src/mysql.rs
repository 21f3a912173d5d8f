//! MySQL and MariaDB: a save is a transaction of four round trips, or of one without a receipt.

mod connection;
mod sql;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use diesel::{
    QueryResult,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::BigInt,
};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use faststate_core::{
    Key, Version,
    store::{Expect, Loaded, Receipt, Record, Saving},
};

use self::connection::Opener;
use crate::{
    backend::Backend,
    error::Error,
    pool::Pool,
    row::{Columns, Row, Stored, loaded, millis},
    setup::Settings,
    statement::{Bind, Statement, only},
};

/// Records in a MySQL database.
pub(crate) struct Mysql {
    opener: Arc<Opener>,
    pool: Pool<AsyncMysqlConnection>,
}

impl Mysql {
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
        Ok(Self { opener, pool })
    }

    /// Runs a statement, again where the server has chosen it as a deadlock's victim.
    async fn execute(&self, statement: Statement<'_>) -> Result<usize, Error> {
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

#[async_trait]
impl Backend for Mysql {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, Error> {
        let binds = [
            Bind::MaybeBytes(receipt.map(|receipt| &receipt.as_bytes()[..])),
            Bind::Bytes(key.as_str().as_bytes()),
        ];
        let mut lease = self.pool.lease().await?;
        let statement = Statement::<Columns>::returning(sql::LOAD, &binds);
        let outcome = statement.load::<Row>(lease.connection()).await.and_then(only);
        loaded(lease.end(outcome.map_err(Error::from), is_answer)?)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Expect,
        receipt: Option<&Receipt>,
    ) -> Result<Saving, Error> {
        let save = Save { key, record, expect };
        loop {
            let mut lease = self.pool.lease().await?;
            let connection = lease.connection();
            let mut outcome = match receipt {
                None => save.alone(connection).await,
                Some(receipt) => save.with_receipt(connection, receipt).await,
            };
            // What is left of a transaction must not be there for the next call.
            if receipt.is_some() && outcome.as_ref().is_err_and(is_restart) {
                outcome = connection.batch_execute("ROLLBACK").await.map_err(Error::from).and(outcome);
            }
            match lease.end(outcome, is_answer) {
                Err(error) if is_deadlock(&error) => {}
                outcome => return outcome,
            }
        }
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, Error> {
        let [epoch, seq, nonce] = Stored::from(version).binds();
        let binds = [Bind::Bytes(key.as_str().as_bytes()), epoch, seq, nonce];
        Ok(self.execute(Statement::new(sql::DELETE, &binds)).await? > 0)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, Error> {
        let binds = [Bind::Number(millis(ttl)), Bind::Bytes(key.as_str().as_bytes())];
        Ok(self.execute(Statement::new(sql::TOUCH, &binds)).await? > 0)
    }

    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        let binds = [Bind::Number(i64::try_from(limit).unwrap_or(i64::MAX))];
        let records = self.execute(Statement::new(sql::SWEEP_RECORDS, &binds)).await?;
        let receipts = self.execute(Statement::new(sql::SWEEP_RECEIPTS, &binds)).await?;
        Ok(records + receipts)
    }

    async fn ping(&self) -> Result<(), Error> {
        self.execute(Statement::new("DO 1", &[])).await.map(|_| ())
    }
}

struct Save<'a> {
    key: &'a Key,
    record: &'a Record,
    expect: Expect,
}

impl Save<'_> {
    /// Saves in one statement, or three where an expired record is in the way.
    async fn alone(&self, connection: &mut AsyncMysqlConnection) -> Result<Saving, Error> {
        Ok(if self.put(connection).await? { Saving::Saved } else { Saving::Conflict })
    }

    /// Saves the record and then the receipt, so that whoever wants the same key waits at the record and
    /// no two wait for each other.
    async fn with_receipt(
        &self,
        connection: &mut AsyncMysqlConnection,
        receipt: &Receipt,
    ) -> Result<Saving, Error> {
        connection.batch_execute("START TRANSACTION").await?;
        let saved = self.put(connection).await?;
        if saved && put_receipt(connection, receipt).await? {
            connection.batch_execute("COMMIT").await.map_err(|error| Error::Commit(error.into()))?;
            return Ok(Saving::Saved);
        }
        connection.batch_execute("ROLLBACK").await?;
        if saved {
            return Ok(Saving::Duplicate);
        }
        let digest = [Bind::Bytes(receipt.as_bytes())];
        let found = count(connection, sql::HAS_RECEIPT, &digest).await?;
        Ok(if found > 0 { Saving::Duplicate } else { Saving::Conflict })
    }

    /// Writes the record, if what is there is what was expected.
    async fn put(&self, connection: &mut AsyncMysqlConnection) -> QueryResult<bool> {
        let [epoch, seq, nonce] = Stored::from(self.record.version).binds();
        let key = Bind::Bytes(self.key.as_str().as_bytes());
        let (schema, data) = (Bind::Number(i64::from(self.record.schema)), Bind::Bytes(&self.record.data));
        let ttl = Bind::MaybeNumber(self.record.ttl.map(millis));
        let new = [schema, epoch, seq, nonce, data, ttl, key];
        let changed = match self.expect {
            Expect::Version(version) => {
                let [epoch, seq, nonce] = Stored::from(version).binds();
                let [a, b, c, d, e, f, g] = new;
                Statement::new(sql::UPDATE, &[a, b, c, d, e, f, g, epoch, seq, nonce])
                    .execute(connection)
                    .await?
            }
            Expect::Absent => match Statement::new(sql::INSERT, &new).execute(connection).await {
                // A look before the update: everybody who was refused holds a lock that would be in the
                // way of everybody else's update.
                Err(error) if is_taken(&error) => match count(connection, sql::IS_EXPIRED, &[key]).await? {
                    0 => 0,
                    _ => Statement::new(sql::REPLACE, &new).execute(connection).await?,
                },
                outcome => outcome?,
            },
        };
        Ok(changed > 0)
    }
}

/// Writes a receipt, unless it is there.
async fn put_receipt(connection: &mut AsyncMysqlConnection, receipt: &Receipt) -> QueryResult<bool> {
    let binds = [Bind::Number(millis(receipt.lifetime())), Bind::Bytes(receipt.as_bytes())];
    match Statement::new(sql::INSERT_RECEIPT, &binds).execute(connection).await {
        Err(error) if is_taken(&error) => {
            Ok(Statement::new(sql::REPLACE_RECEIPT, &binds).execute(connection).await? > 0)
        }
        outcome => outcome.map(|_| true),
    }
}

async fn count(
    connection: &mut AsyncMysqlConnection,
    text: &'static str,
    binds: &[Bind<'_>],
) -> QueryResult<i64> {
    Statement::<BigInt>::returning(text, binds).load(connection).await.and_then(only)
}

/// Whether a row of this key is there.
fn is_taken(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
}

/// Whether the server answered with this error, and waits for the next statement. Diesel gives a lost
/// connection the same kind as most of the server's answers; only the text tells.
fn is_answer(error: &DieselError) -> bool {
    is_taken(error) || error.to_string().contains("try restarting transaction")
}

/// Whether the server asks to try again: a deadlock, or too long a wait for a lock.
fn is_restart(error: &Error) -> bool {
    matches!(error, Error::Query(error) if is_answer(error))
}

/// Whether it was undone because others were in the way, and may succeed at once.
fn is_deadlock(error: &Error) -> bool {
    is_restart(error) && error.to_string().contains("Deadlock")
}

impl fmt::Debug for Mysql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mysql").field("server", &self.opener).field("pool", &self.pool).finish()
    }
}
