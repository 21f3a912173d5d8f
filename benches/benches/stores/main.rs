//! Measures saves per second and CPU time per save of each store, beside a naive alternative and over TLS:
//! `cargo bench --bench stores`.
//!
//! The naive alternative ([`naive`]) checks out one connection and runs one transaction per save. Both save into the same
//! tables of the same server (or file), with the same settings and guarantees: record and receipt in one step, conditional on
//! the expected version, on disk before the acknowledgement. The second table compares the same store with and without TLS, on
//! the same server (Redis: on two equal ones). The two sides alternate, so that other load on the machine affects both.
//!
//! The benchmark starts the servers itself and takes about six minutes. Names of stores select rows, and `naive` and `tls`
//! select a table: `cargo bench --bench stores -- tls postgresql`. `-- --quick` runs one short round as a smoke test.
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
use faststate_tests::{Certificates, Folder, MariaDb, Postgres, PostgresSettings, RedisServer};

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

/// A store with its alternatives.
struct Contest {
    name: &'static str,
    store: Side,
    naive: Side,
    /// The same store over TLS, unless it is a file.
    tls: Option<Side>,
}

/// One of two ways that alternate.
struct Side {
    way: Arc<dyn Way>,
    /// The process of the server, if there is one.
    server: Option<u32>,
}

impl Side {
    fn new(way: impl Way + 'static, server: Option<u32>) -> Self {
        Self { way: Arc::new(way), server }
    }
}

/// The durations of the benchmark.
struct Pace {
    rounds: usize,
    warm_up: Duration,
    turn: Duration,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let (mut words, mut quick, mut rounds) = (Vec::new(), false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(word) = arguments.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--rounds" => rounds = arguments.next().map(|rounds| rounds.parse().expect("a number")),
            // Cargo passes this argument to every benchmark.
            "--bench" => {}
            _ => words.push(word),
        }
    }
    let mut pace = if quick {
        Pace { rounds: 1, warm_up: Duration::from_millis(200), turn: Duration::from_millis(500) }
    } else {
        Pace { rounds: 3, warm_up: Duration::from_millis(500), turn: Duration::from_millis(2000) }
    };
    pace.rounds = rounds.unwrap_or(pace.rounds);
    let (tables, names): (Vec<_>, Vec<_>) =
        words.iter().map(String::as_str).partition(|word| matches!(*word, "naive" | "tls"));
    let shows = |table: &str| tables.is_empty() || tables.contains(&table);

    let certificates = Certificates::new();
    let (files, authority) = (certificates.issue(&["127.0.0.1"]), certificates.authority());
    let (certificate, key) = (files.certificate.display(), files.key.display());
    // These two accept connections with and without TLS.
    let postgres =
        Postgres::with(&PostgresSettings { certificate: Some(&files), ..PostgresSettings::default() });
    let mysql = MariaDb::with(&[&format!("--ssl-cert={certificate}"), &format!("--ssl-key={key}")]);
    let (redis, redis_tls) = (RedisServer::start(), RedisServer::with_tls(&certificates, &files, &[]));
    let postgres_tls = format!("{}?sslmode=verify-full&sslrootcert={}", postgres.url(), authority.display());
    let mysql_tls = format!("{}?ssl-mode=VERIFY_IDENTITY&ssl-ca={}", mysql.url(), authority.display());
    let folder = Folder::new("bench");
    let file = folder.join("bench.db");
    let processes = [postgres.process(), mysql.process(), redis.process(), redis_tls.process()];
    let [at_postgres, at_mysql, at_redis, at_redis_tls] = processes.map(Some);
    let contests = [
        Contest {
            name: "SQLite",
            store: Side::new(Ours(DieselStore::sqlite(&file).await.unwrap()), None),
            naive: Side::new(naive::Sqlite::open(&file), None),
            tls: None,
        },
        Contest {
            name: "PostgreSQL",
            store: Side::new(Ours(DieselStore::postgres(postgres.url()).await.unwrap()), at_postgres),
            naive: Side::new(naive::Postgres::open(&postgres.url()).await, at_postgres),
            tls: Some(Side::new(Ours(DieselStore::postgres(postgres_tls).await.unwrap()), at_postgres)),
        },
        Contest {
            name: "MariaDB",
            store: Side::new(Ours(DieselStore::mysql(mysql.url()).await.unwrap()), at_mysql),
            naive: Side::new(naive::Mysql::open(&mysql.url()).await, at_mysql),
            tls: Some(Side::new(Ours(DieselStore::mysql(mysql_tls).await.unwrap()), at_mysql)),
        },
        Contest {
            name: "Redis",
            store: Side::new(Ours(RedisStore::connect(redis.url()).await.unwrap()), at_redis),
            naive: Side::new(naive::Redis::open(&redis.url()).await, at_redis),
            tls: Some(Side::new(
                Ours(RedisStore::connect(redis_tls.tls_url(&certificates)).await.unwrap()),
                at_redis_tls,
            )),
        },
    ];
    let contests = contests.iter().filter(|contest| {
        names.is_empty() || names.iter().any(|name| contest.name.eq_ignore_ascii_case(name))
    });
    if shows("naive") {
        table::head("saves/s", "naive");
        for contest in contests.clone() {
            compare(contest.name, [&contest.store, &contest.naive], &pace).await;
        }
    }
    if shows("tls") {
        table::head("over TLS, saves/s", "without TLS");
        for contest in contests {
            if let Some(tls) = &contest.tls {
                compare(contest.name, [tls, &contest.store], &pace).await;
            }
        }
    }
}

/// Measures two ways in turns, and prints a row for each number of keys.
async fn compare(name: &str, sides: [&Side; 2], pace: &Pace) {
    for keys in KEYS {
        let mut turns = [Vec::new(), Vec::new()];
        for _ in 0..pace.rounds {
            for (side, turns) in sides.iter().zip(&mut turns) {
                turns.push(measure(&side.way, keys, side.server, pace).await);
            }
        }
        table::row(name, keys, &turns[0], &turns[1]);
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
                let record = Record::new(1, version, DATA, None);
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
