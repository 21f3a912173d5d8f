//! PostgreSQL: a pool of connections, and a worker that takes jobs with `SKIP LOCKED`.

use std::sync::Arc;

use async_trait::async_trait;
use diesel::{QueryableByName, sql_query, sql_types::BigInt};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, bb8::Pool},
};
use tokio::sync::{Notify, oneshot};

use super::{BATCH, Waiting, number};
use crate::{PAIRS, Way};

/// The number of connections in the pool.
const CONNECTIONS: u32 = 16;

pub(crate) struct ByHand {
    pool: Pool<AsyncPgConnection>,
    waiting: Waiting,
    inserted: Notify,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl ByHand {
    pub(crate) async fn open(url: &str) -> Arc<Self> {
        let mut config = ManagerConfig::<AsyncPgConnection>::default();
        config.recycling_method = RecyclingMethod::Fast;
        let manager = AsyncDieselConnectionManager::new_with_config(url, config);
        let pool = Pool::builder().max_size(CONNECTIONS).build(manager).await.unwrap();
        let mut connection = pool.get().await.unwrap();
        let last = 2 * PAIRS - 1;
        connection
            .batch_execute(&format!(
                "CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL);
                 INSERT INTO accounts SELECT id, 0 FROM generate_series(0, {last}) AS id;
                 CREATE TABLE jobs (number BIGINT PRIMARY KEY, taken BOOLEAN NOT NULL DEFAULT FALSE);"
            ))
            .await
            .unwrap();
        drop(connection);
        let me = Arc::new(Self { pool, waiting: Waiting::default(), inserted: Notify::new() });
        tokio::spawn(work(Arc::downgrade(&me)));
        me
    }
}

/// Takes jobs, runs them, and deletes them.
async fn work(me: std::sync::Weak<ByHand>) {
    while let Some(me) = me.upgrade() {
        let take = "UPDATE jobs SET taken = TRUE WHERE number IN
            (SELECT number FROM jobs WHERE NOT taken LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING number";
        let mut connection = me.pool.get().await.unwrap();
        let jobs: Vec<Number> = sql_query(take).bind::<BigInt, _>(BATCH).load(&mut connection).await.unwrap();
        drop(connection);
        if jobs.is_empty() {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(100), me.inserted.notified()).await;
            continue;
        }
        let done = jobs.into_iter().map(|Number { number }| {
            let me = Arc::clone(&me);
            async move {
                let mut connection = me.pool.get().await.unwrap();
                sql_query("DELETE FROM jobs WHERE number = $1")
                    .bind::<BigInt, _>(number)
                    .execute(&mut connection)
                    .await
                    .unwrap();
                me.waiting.end(number);
            }
        });
        futures::future::join_all(done).await;
    }
}

#[async_trait]
impl Way for ByHand {
    async fn transfer(&self, pair: usize, round: u64) {
        let (from, to) =
            if round.is_multiple_of(2) { (2 * pair, 2 * pair + 1) } else { (2 * pair + 1, 2 * pair) };
        let (from, to) = (from as i64, to as i64);
        let mut connection = self.pool.get().await.unwrap();
        connection
            .transaction::<_, diesel::result::Error, _>(async |connection| {
                let take = "UPDATE accounts SET balance = balance - 1 WHERE id = $1 AND balance >= -1000";
                let taken = sql_query(take).bind::<BigInt, _>(from).execute(connection).await?;
                assert_eq!(taken, 1);
                let add = "UPDATE accounts SET balance = balance + 1 WHERE id = $1";
                sql_query(add).bind::<BigInt, _>(to).execute(connection).await
            })
            .await
            .unwrap();
    }

    async fn job(&self, pair: usize, round: u64) {
        let number = number(pair, round);
        let (sender, done) = oneshot::channel();
        self.waiting.0.lock().insert(number, sender);
        let mut connection = self.pool.get().await.unwrap();
        sql_query("INSERT INTO jobs (number) VALUES ($1)")
            .bind::<BigInt, _>(number)
            .execute(&mut connection)
            .await
            .unwrap();
        drop(connection);
        self.inserted.notify_one();
        done.await.unwrap();
    }

    async fn sum(&self) -> i64 {
        let mut connection = self.pool.get().await.unwrap();
        let sum = "SELECT CAST(SUM(balance) AS BIGINT) AS number FROM accounts";
        sql_query(sum).get_result::<Number>(&mut connection).await.unwrap().number
    }
}
