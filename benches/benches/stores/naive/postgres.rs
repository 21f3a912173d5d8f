//! PostgreSQL: four round trips, through the bb8 pool of diesel-async.

use async_trait::async_trait;
use diesel::prelude::*;
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, bb8::Pool},
};
use faststate_core::{
    Key,
    store::{Precondition, Receipt, Record, SaveOutcome},
};

use super::{
    CONNECTIONS,
    tables::{Row, Undone, columns, faststate_receipts, faststate_records, from_now, saving},
};
use crate::Way;

pub(crate) struct Postgres(Pool<AsyncPgConnection>);

impl Postgres {
    /// Connects to the database that contains the tables.
    pub(crate) async fn open(url: &str) -> Self {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        let manager = AsyncDieselConnectionManager::new_with_config(url, config);
        Self(Pool::builder().max_size(CONNECTIONS).build(manager).await.unwrap())
    }
}

#[async_trait]
impl Way for Postgres {
    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: &Receipt,
    ) -> Option<SaveOutcome> {
        let mut connection = self.0.get().await.ok()?;
        let outcome = connection
            .transaction(async |connection| save(connection, key, record, expect, receipt).await)
            .await;
        saving(outcome)
    }
}

async fn save(
    connection: &mut AsyncPgConnection,
    key: &Key,
    record: &Record,
    expect: Precondition,
    receipt: &Receipt,
) -> Result<(), Undone> {
    use faststate_records::dsl;

    let row = Row::new(key, record);
    let written = match expect {
        Precondition::Absent => {
            diesel::insert_into(dsl::faststate_records)
                .values(row)
                .on_conflict_do_nothing()
                .execute(connection)
                .await?
        }
        Precondition::Version(version) => {
            let (epoch, seq, nonce) = columns(version);
            let found = dsl::faststate_records
                .find(key.as_str().as_bytes())
                .filter(dsl::epoch.eq(epoch).and(dsl::seq.eq(seq)).and(dsl::nonce.eq(nonce)))
                .filter(dsl::expires_at.is_null().or(dsl::expires_at.gt(from_now(Default::default()))));
            diesel::update(found).set(row).execute(connection).await?
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
        .execute(connection)
        .await?;
    if noted == 0 { Err(Undone::Duplicate) } else { Ok(()) }
}
