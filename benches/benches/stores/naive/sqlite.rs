//! SQLite: one shared connection, because SQLite has one writer at a time. Several connections would sleep while they wait for
//! each other's locks.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use diesel::{connection::SimpleConnection as _, prelude::*};
use faststate_core::{
    Key,
    store::{Precondition, Receipt, Record, SaveOutcome},
};
use tokio::sync::Mutex;

use super::tables::{Row, Undone, columns, faststate_receipts, faststate_records, from_now, saving};
use crate::Way;

pub(crate) struct Sqlite(Arc<Mutex<SqliteConnection>>);

impl Sqlite {
    /// Opens the file that contains the tables, with the settings of the store.
    pub(crate) fn open(file: &Path) -> Self {
        let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
        connection
            .batch_execute(
                "PRAGMA busy_timeout = 2000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON; PRAGMA wal_autocheckpoint = 8192;
                 PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864;",
            )
            .unwrap();
        Self(Arc::new(Mutex::new(connection)))
    }
}

#[async_trait]
impl Way for Sqlite {
    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: &Receipt,
    ) -> Option<SaveOutcome> {
        let mut connection = Arc::clone(&self.0).lock_owned().await;
        let (key, record, receipt) = (key.clone(), record.clone(), *receipt);
        let blocking = tokio::task::spawn_blocking(move || {
            connection.immediate_transaction(|sqlite| save(sqlite, &key, &record, expect, &receipt))
        });
        saving(blocking.await.unwrap())
    }
}

fn save(
    sqlite: &mut SqliteConnection,
    key: &Key,
    record: &Record,
    expect: Precondition,
    receipt: &Receipt,
) -> Result<(), Undone> {
    use faststate_records::dsl;

    let row = Row::new(key, record);
    let written = match expect {
        Precondition::Absent => diesel::insert_into(dsl::faststate_records)
            .values(row)
            .on_conflict_do_nothing()
            .execute(sqlite)?,
        Precondition::Version(version) => {
            let (epoch, seq, nonce) = columns(version);
            let found = dsl::faststate_records
                .find(key.as_str().as_bytes())
                .filter(dsl::epoch.eq(epoch).and(dsl::seq.eq(seq)).and(dsl::nonce.eq(nonce)))
                .filter(dsl::expires_at.is_null().or(dsl::expires_at.gt(from_now(Default::default()))));
            diesel::update(found).set(row).execute(sqlite)?
        }
    };
    if written == 0 {
        return Err(Undone::Conflict);
    }
    let noted = diesel::insert_into(faststate_receipts::table)
        .values((
            faststate_receipts::digest.eq(&receipt.as_bytes()[..]),
            faststate_receipts::expires_at.eq(from_now(receipt.lifetime())),
        ))
        .on_conflict_do_nothing()
        .execute(sqlite)?;
    if noted == 0 { Err(Undone::Duplicate) } else { Ok(()) }
}
