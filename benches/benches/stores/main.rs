//! Measures saves per second and CPU time per save of each store and of a naive alternative: `cargo bench --bench stores`.
//!
//! Both save into the same tables of the same server (or file), with the same settings and guarantees: record and receipt in
//! one step, conditional on the expected version, on disk before the acknowledgement. The naive alternative ([`naive`]) checks
//! out one connection and runs one transaction per save. The two alternate, so that other load on the machine affects both.
//!
//! The benchmark starts the servers itself and takes about four minutes. `cargo bench --bench stores -- --quick` runs one short
//! round as a smoke test.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a program that prints")]

mod cpu;
mod naive;
mod table;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use faststate_core::{
    Key, Scope, Store, Version,
    store::{Precondition, Receipt, Record, SaveOutcome},
};
use faststate_store_diesel::DieselStore;
use faststate_store_redis::RedisStore;
use faststate_tests::{Folder, MariaDb, Postgres, RedisServer};

use self::table::Turn;

/// The number of keys that are saved repeatedly and concurrently.
const KEYS: [usize; 3] = [1, 16, 256];
/// The size of a small state.
const DATA: &str = r#"{"count":1234567,"title":"a small state","open":true}"#;

/// A store or a naive alternative.
#[async_trait]
trait Way: Send + Sync {
    /// The outcome, or `None` if it is unknown.
    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: &Receipt,
    ) -> Option<SaveOutcome>;
}

struct Ours<S>(S);

#[async_trait]
impl<S: Store> Way for Ours<S> {
    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: &Receipt,
    ) -> Option<SaveOutcome> {
        self.0.save(key, record, expect, Some(receipt)).await.ok()
    }
}

struct Contest {
    name: &'static str,
    ours: Arc<dyn Way>,
    naive: Arc<dyn Way>,
    /// The process of the server, if there is one.
    server: Option<u32>,
}

/// The durations of the benchmark.
struct Pace {
    rounds: usize,
    warm_up: Duration,
    turn: Duration,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let (mut words, mut quick) = (Vec::new(), false);
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--quick" => quick = true,
            // Cargo passes this argument to every benchmark.
            "--bench" => {}
            _ => words.push(word),
        }
    }
    let pace = if quick {
        Pace { rounds: 1, warm_up: Duration::from_millis(200), turn: Duration::from_millis(500) }
    } else {
        Pace { rounds: 3, warm_up: Duration::from_millis(500), turn: Duration::from_millis(2000) }
    };
    let folder = Folder::new("bench");
    let (postgres, mysql, redis) = (Postgres::start(), MariaDb::start(), RedisServer::start());
    let file = folder.join("bench.db");
    let contests = [
        Contest {
            name: "SQLite",
            ours: Arc::new(Ours(DieselStore::sqlite(&file).await.unwrap())),
            naive: Arc::new(naive::Sqlite::open(&file)),
            server: None,
        },
        Contest {
            name: "PostgreSQL",
            ours: Arc::new(Ours(DieselStore::postgres(postgres.url()).await.unwrap())),
            naive: Arc::new(naive::Postgres::open(&postgres.url()).await),
            server: Some(postgres.process()),
        },
        Contest {
            name: "MariaDB",
            ours: Arc::new(Ours(DieselStore::mysql(mysql.url()).await.unwrap())),
            naive: Arc::new(naive::Mysql::open(&mysql.url()).await),
            server: Some(mysql.process()),
        },
        Contest {
            name: "Redis",
            ours: Arc::new(Ours(RedisStore::connect(redis.url()).await.unwrap())),
            naive: Arc::new(naive::Redis::open(&redis.url()).await),
            server: Some(redis.process()),
        },
    ];
    table::head();
    for contest in &contests {
        if !words.is_empty() && !words.iter().any(|word| contest.name.eq_ignore_ascii_case(word)) {
            continue;
        }
        for keys in KEYS {
            let (mut ours, mut naive) = (Vec::new(), Vec::new());
            for _ in 0..pace.rounds {
                ours.push(measure(&contest.ours, keys, contest.server, &pace).await);
                naive.push(measure(&contest.naive, keys, contest.server, &pace).await);
            }
            table::row(contest.name, keys, &ours, &naive);
        }
    }
}

/// Measures one alternative for one turn.
async fn measure(way: &Arc<dyn Way>, keys: usize, server: Option<u32>, pace: &Pace) -> Turn {
    let [saves, failures] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let tasks = (0..keys).map(|_| {
        let (way, over) = (Arc::clone(way), Arc::clone(&over));
        let (saves, failures) = (Arc::clone(&saves), Arc::clone(&failures));
        tokio::spawn(async move {
            let fresh = || {
                let version = Version::start();
                let id = format!("{:x}", version.epoch);
                (Key::new("bench", Scope::Record, None, Some(&id)).unwrap(), version, Precondition::Absent)
            };
            let (mut key, mut version, mut expect) = fresh();
            while !over.load(Ordering::Relaxed) {
                let record = Record { schema: 1, version, data: DATA.into(), ttl: None };
                let saving = way.save(&key, &record, expect, &Receipt::internal()).await;
                match saving {
                    Some(saving) => {
                        assert_eq!(saving, SaveOutcome::Saved, "no other task saves this key");
                        saves.fetch_add(1, Ordering::Relaxed);
                        (expect, version) = (Precondition::Version(version), version.next());
                    }
                    // The stored version is unknown.
                    None => {
                        failures.fetch_add(1, Ordering::Relaxed);
                        (key, version, expect) = fresh();
                    }
                }
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let look = || {
        let server = server.map(cpu::of_all_below);
        (Instant::now(), saves.load(Ordering::Relaxed), cpu::own(), server)
    };
    tokio::time::sleep(pace.warm_up).await;
    let before = look();
    tokio::time::sleep(pace.turn).await;
    let after = look();
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let count = (after.1 - before.1).max(1) as f64;
    Turn {
        rate: count / (after.0 - before.0).as_secs_f64(),
        cpu: (after.2 - before.2) * 1e6 / count,
        failed: failures.load(Ordering::Relaxed),
        server: after.3.zip(before.3).map(|(after, before)| (after - before) * 1e6 / count),
    }
}
