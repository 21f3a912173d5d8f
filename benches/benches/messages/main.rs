//! Measures transfers and jobs beside what a developer would write by hand: `cargo bench --bench messages`.
//!
//! - A transfer takes an amount from one record and adds it to another. FastState sends a message and confirms it. The
//!   alternative ([`by_hand`]) changes both rows in one transaction, with one connection of a pool, and checks the balance.
//! - A job is requested by an event, runs, and is removed. The alternative inserts a row into a job table, takes rows in
//!   batches, and deletes each one.
//! - `due` is called over a store that contains 1,000,000 timers, and events are measured with and without these timers.
//!
//! Both use the same server (or file) and settings; each transfer is on disk before its acknowledgement. The two alternate.
//! The benchmark starts the servers itself. `-- work` and `-- timers` select a part, and `-- --quick` runs one short round as a
//! smoke test.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a program that prints")]

mod bank;
mod by_hand;
mod timers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use faststate_store_diesel::DieselStore;
use faststate_tests::{Folder, Postgres};
use rustix::time::{ClockId, clock_gettime};

use self::bank::Bank;

/// The number of pairs of accounts between which transfers happen at once.
const PAIRS: usize = 64;

/// A way to transfer money and to run jobs.
#[async_trait]
pub(crate) trait Way: Send + Sync {
    /// Transfers one unit between the accounts of a pair, in a direction that alternates, and returns when both are changed.
    async fn transfer(&self, pair: usize, round: u64);

    /// Requests a job, and returns when it is done.
    async fn job(&self, pair: usize, round: u64);

    /// Returns the sum of all balances.
    async fn sum(&self) -> i64;
}

struct Pace {
    rounds: usize,
    turn: Duration,
    timers: u64,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let is_quick = std::env::args().any(|word| word == "--quick");
    let pace = if is_quick {
        Pace { rounds: 1, turn: Duration::from_millis(500), timers: 10_000 }
    } else {
        Pace { rounds: 5, turn: Duration::from_secs(3), timers: 1_000_000 }
    };
    let is_wanted = |part: &str| {
        let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
        named.is_empty() || named.iter().any(|word| word == part)
    };
    let folder = Folder::new("messages");
    let postgres = Postgres::start();
    if is_wanted("work") {
        let ours = Bank::open(DieselStore::sqlite(folder.join("ours.db")).await.unwrap()).await;
        let hand = by_hand::sqlite::ByHand::open(&folder.join("hand.db"));
        compare("SQLite", &ours, &hand, &pace).await;
        let ours = Bank::open(DieselStore::postgres(postgres.url()).await.unwrap()).await;
        let hand = by_hand::postgres::ByHand::open(&postgres.url()).await;
        compare("PostgreSQL", &ours, &hand, &pace).await;
    }
    if is_wanted("timers") {
        println!("\nWith {} pending timers:", pace.timers);
        let sqlite = async |name| DieselStore::sqlite(folder.join(name)).await.unwrap();
        timers::measure("SQLite", sqlite("full.db").await, sqlite("empty.db").await, &pace).await;
        let (full, empty) = (Postgres::start(), Postgres::start());
        let store = async |server: &Postgres| DieselStore::postgres(server.url()).await.unwrap();
        timers::measure("PostgreSQL", store(&full).await, store(&empty).await, &pace).await;
    }
}

/// Operations per second, CPU time of this process per operation, and the median latency.
struct Figures {
    rate: f64,
    cpu: f64,
    latency: f64,
}

async fn compare(name: &str, ours: &Arc<Bank>, hand: &Arc<impl Way + 'static>, pace: &Pace) {
    let ours: Arc<dyn Way> = Arc::clone(ours) as _;
    let hand: Arc<dyn Way> = Arc::clone(hand) as _;
    for (kind, is_job) in [("transfers", false), ("jobs", true)] {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..pace.rounds {
            with.push(turn(&ours, is_job, pace.turn).await);
            without.push(turn(&hand, is_job, pace.turn).await);
        }
        let (with, without) = (median(with), median(without));
        println!("{name}, {kind}, {PAIRS} at once (medians of {} interleaved rounds):", pace.rounds);
        for (way, figures) in [("FastState", &with), ("by hand", &without)] {
            let Figures { rate, cpu, latency } = figures;
            println!(
                "  {way:<10} {rate:>8.0} per second   {cpu:>7.1} us of CPU   {latency:>6.1} ms median latency"
            );
        }
        println!("  ratio of throughput: {:.2}", with.rate / without.rate);
    }
    assert_eq!(ours.sum().await, 0, "no money was lost");
    assert_eq!(hand.sum().await, 0, "no money was lost");
}

/// Runs one way for one turn.
async fn turn(way: &Arc<dyn Way>, is_job: bool, length: Duration) -> Figures {
    let over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..PAIRS)
        .map(|pair| {
            let (way, over, done) = (Arc::clone(way), Arc::clone(&over), Arc::clone(&done));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut round = 0;
                while !over.load(Ordering::Relaxed) || round % 2 != 0 {
                    let began = Instant::now();
                    if is_job {
                        way.job(pair, round).await
                    } else {
                        way.transfer(pair, round).await
                    }
                    latencies.push(began.elapsed().as_secs_f64() * 1e3);
                    done.fetch_add(1, Ordering::Relaxed);
                    round += 1;
                }
                latencies
            })
        })
        .collect();
    tokio::time::sleep(length / 5).await;
    let before = (Instant::now(), cpu(), done.load(Ordering::Relaxed));
    tokio::time::sleep(length).await;
    let after = (Instant::now(), cpu(), done.load(Ordering::Relaxed));
    over.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    latencies.sort_by(f64::total_cmp);
    let count = (after.2 - before.2).max(1) as f64;
    Figures {
        rate: count / (after.0 - before.0).as_secs_f64(),
        cpu: (after.1 - before.1) * 1e6 / count,
        latency: latencies.get(latencies.len() / 2).copied().unwrap_or_default(),
    }
}

fn median(mut figures: Vec<Figures>) -> Figures {
    figures.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    figures.swap_remove(figures.len() / 2)
}

/// Seconds of CPU time of this process.
pub(crate) fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
