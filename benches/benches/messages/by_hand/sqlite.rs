//! SQLite: one connection for all writes, because SQLite has one writer at a time.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use diesel::{connection::SimpleConnection as _, prelude::*, sql_query, sql_types::BigInt};
use tokio::sync::{Mutex, Notify, oneshot};

use super::{BATCH, Waiting, number};
use crate::{PAIRS, Way};

pub(crate) struct ByHand {
    connection: Arc<Mutex<SqliteConnection>>,
    waiting: Waiting,
    inserted: Notify,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl ByHand {
    pub(crate) fn open(file: &Path) -> Arc<Self> {
        let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
        connection
            .batch_execute(
                "PRAGMA busy_timeout = 2000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON; PRAGMA wal_autocheckpoint = 8192;
                 PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864;
                 CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
                 CREATE TABLE jobs (number INTEGER PRIMARY KEY, taken INTEGER NOT NULL DEFAULT 0);",
            )
            .unwrap();
        for id in 0..2 * PAIRS {
            connection.batch_execute(&format!("INSERT INTO accounts VALUES ({id}, 0)")).unwrap();
        }
        let me = Arc::new(Self {
            connection: Arc::new(Mutex::new(connection)),
            waiting: Waiting::default(),
            inserted: Notify::new(),
        });
        tokio::spawn(work(Arc::downgrade(&me)));
        me
    }

    async fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> T {
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        tokio::task::spawn_blocking(move || connection.immediate_transaction(run).unwrap()).await.unwrap()
    }
}

/// Takes jobs, runs them, and deletes them.
async fn work(me: std::sync::Weak<ByHand>) {
    while let Some(me) = me.upgrade() {
        let take = "UPDATE jobs SET taken = 1 WHERE number IN
            (SELECT number FROM jobs WHERE taken = 0 LIMIT ?) RETURNING number";
        let jobs: Vec<Number> =
            me.run(move |sqlite| sql_query(take).bind::<BigInt, _>(BATCH).load(sqlite)).await;
        if jobs.is_empty() {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(100), me.inserted.notified()).await;
            continue;
        }
        for Number { number } in jobs {
            me.run(move |sqlite| {
                sql_query("DELETE FROM jobs WHERE number = ?").bind::<BigInt, _>(number).execute(sqlite)
            })
            .await;
            me.waiting.end(number);
        }
    }
}

#[async_trait]
impl Way for ByHand {
    async fn transfer(&self, pair: usize, round: u64) {
        let (from, to) =
            if round.is_multiple_of(2) { (2 * pair, 2 * pair + 1) } else { (2 * pair + 1, 2 * pair) };
        let (from, to) = (from as i64, to as i64);
        self.run(move |sqlite| {
            let taken =
                sql_query("UPDATE accounts SET balance = balance - 1 WHERE id = ? AND balance >= -1000")
                    .bind::<BigInt, _>(from)
                    .execute(sqlite)?;
            assert_eq!(taken, 1);
            sql_query("UPDATE accounts SET balance = balance + 1 WHERE id = ?")
                .bind::<BigInt, _>(to)
                .execute(sqlite)
        })
        .await;
    }

    async fn job(&self, pair: usize, round: u64) {
        let number = number(pair, round);
        let (sender, done) = oneshot::channel();
        self.waiting.0.lock().insert(number, sender);
        self.run(move |sqlite| {
            sql_query("INSERT INTO jobs (number) VALUES (?)").bind::<BigInt, _>(number).execute(sqlite)
        })
        .await;
        self.inserted.notify_one();
        done.await.unwrap();
    }

    async fn sum(&self) -> i64 {
        let sum = "SELECT CAST(SUM(balance) AS INTEGER) AS number FROM accounts";
        self.run(move |sqlite| sql_query(sum).get_result::<Number>(sqlite)).await.number
    }
}
