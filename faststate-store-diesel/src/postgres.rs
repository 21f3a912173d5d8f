//! PostgreSQL: each call is one statement.

mod broadcaster;
mod connection;
mod sql;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use diesel::{
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::BigInt,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use faststate_core::{
    Key, Version,
    store::{Expect, Loaded, Receipt, Record, Saving},
};

pub use self::broadcaster::PostgresBroadcaster;
use self::connection::Opener;
use crate::{
    backend::Backend,
    error::Error,
    pool::Pool,
    row::{Columns, Row, Stored, loaded, millis},
    setup::Settings,
    statement::{Bind, Statement, only},
};

/// Records in a PostgreSQL database.
pub(crate) struct Postgres {
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
        Ok(Self { opener, pool })
    }

    async fn execute(&self, statement: Statement<'_>) -> Result<usize, Error> {
        let mut lease = self.pool.lease().await?;
        let outcome = statement.execute(lease.connection()).await;
        lease.end(outcome.map_err(Error::from), is_answer)
    }
}

#[async_trait]
impl Backend for Postgres {
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
        let [epoch, seq, nonce] = Stored::from(record.version).binds();
        let digest = Bind::MaybeBytes(receipt.map(|receipt| &receipt.as_bytes()[..]));
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
            Expect::Absent => sql::SAVE_ABSENT,
            Expect::Version(version) => {
                binds.extend(Stored::from(version).binds());
                sql::SAVE_VERSION
            }
        };
        binds.extend([digest, kept, digest]);
        let mut lease = self.pool.lease().await?;
        let statement = Statement::<BigInt>::returning(text, &binds);
        let outcome = match statement.load::<i64>(lease.connection()).await.and_then(only) {
            Ok(0) => Ok(Saving::Conflict),
            Ok(1) => Ok(Saving::Saved),
            Ok(_) => Ok(Saving::Duplicate),
            // The receipt came in meanwhile, and refused to be overwritten: nothing is saved.
            Err(DieselError::DatabaseError(DatabaseErrorKind::NotNullViolation, _)) => Ok(Saving::Duplicate),
            Err(error) => Err(error.into()),
        };
        lease.end(outcome, is_answer)
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
        self.execute(Statement::new("SELECT 1", &[])).await.map(|_| ())
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("server", &self.opener).field("pool", &self.pool).finish()
    }
}

/// Whether the server answered with this error, and waits for the next statement.
fn is_answer(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, _) => {
            !matches!(kind, DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection)
        }
        _ => false,
    }
}
