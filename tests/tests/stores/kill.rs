//! `kill -9` during a burst: every acknowledged event is stored exactly once.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use faststate_core::registry::Applied;
use faststate_tests::{Folder, MariaDb, Postgres, RedisServer};

use crate::{ledger::Ledgers, open::open};

const CLIENTS: usize = 32;
const LEDGERS: usize = 8;

fn rounds() -> usize {
    let rounds = std::env::var("FASTSTATE_KILL_ROUNDS").ok();
    rounds.map_or(20, |rounds| rounds.parse().expect("FASTSTATE_KILL_ROUNDS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_01_sqlite_keeps_what_was_acknowledged_before_a_kill() {
    let folder = Folder::new("sqlite");
    survive_kills(&format!("sqlite://{}", folder.join("kill.db").display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_01_postgres_keeps_what_was_acknowledged_before_a_kill() {
    let server = Postgres::start();
    survive_kills(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_01_mysql_keeps_what_was_acknowledged_before_a_kill() {
    let server = MariaDb::start();
    survive_kills(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_01_redis_keeps_what_was_acknowledged_before_a_kill() {
    let server = RedisServer::start();
    survive_kills(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_01_a_store_that_answers_before_it_has_saved_is_caught() {
    let folder = Folder::new("sqlite");
    let url = format!("sqlite://{}", folder.join("kill.db").display());
    for round in 0..20 {
        let burst = Burst::until_killed(&format!("hasty+{url}"), round);
        let stored = burst.stored(&Ledgers::new(open(&url).await)).await;
        if !burst.acknowledged.is_subset(&stored) {
            return;
        }
    }
    panic!("nothing that was acknowledged was lost");
}

/// Kills the application over the store at `url`, [`rounds`] times.
async fn survive_kills(url: &str) {
    let (mut acknowledged, mut repeated) = (0, 0);
    for round in 0..rounds() {
        let burst = Burst::until_killed(url, round);
        acknowledged += burst.acknowledged.len();
        // A new application over the same store, like after a restart.
        let ledgers = Ledgers::new(open(url).await);
        let stored = burst.stored(&ledgers).await;
        let lost: Vec<_> = burst.acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
        // Clients without a response repeat the event with the same id.
        for id in burst.tried.difference(&burst.acknowledged) {
            let outcome = ledgers.enter(ledger(id), id).await.unwrap();
            repeated += usize::from(outcome.answer == Applied::Repeated);
        }
        assert_eq!(burst.stored(&ledgers).await, burst.tried, "round {round}");
    }
    // A lost or doubled event would have failed above.
    eprintln!(
        "{acknowledged} acknowledged, {repeated} stored without an answer, 0 lost, 0 twice, over {} kills",
        rounds()
    );
}

/// The output of an application before the kill.
struct Burst {
    tried: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
}

impl Burst {
    fn until_killed(url: &str, round: usize) -> Self {
        let mut application = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "kill::an_application_to_kill", "--nocapture"])
            .env("FASTSTATE_KILL_URL", url)
            .env("FASTSTATE_KILL_ROUND", round.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut burst = Self { tried: BTreeSet::new(), acknowledged: BTreeSet::new() };
        // At different moments of the burst.
        let enough = 1 + round * 61 % 397;
        let mut killed = false;
        for line in BufReader::new(application.stdout.take().unwrap()).lines().map_while(Result::ok) {
            // Each line is one write, so that no line is truncated.
            match line.split_once(' ') {
                Some(("try", id)) => burst.tried.insert(id.to_owned()),
                Some(("ack", id)) => burst.acknowledged.insert(id.to_owned()),
                _ => continue,
            };
            if !killed && burst.acknowledged.len() >= enough {
                application.kill().unwrap();
                killed = true;
            }
        }
        application.wait().unwrap();
        assert!(killed, "round {round}: the application ended by itself");
        burst
    }

    /// The entries of this round's ledgers; panics if one occurs twice.
    async fn stored(&self, ledgers: &Ledgers) -> BTreeSet<String> {
        let mut stored = BTreeMap::new();
        for name in self.tried.iter().map(|id| ledger(id)).collect::<BTreeSet<_>>() {
            for id in ledgers.entries(name).await {
                assert_eq!(stored.insert(id.clone(), name), None, "{id} is stored twice");
            }
        }
        stored.into_keys().collect()
    }
}

/// An id is `ledger.client.number`.
fn ledger(id: &str) -> &str {
    id.split('.').next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is what the other tests kill"]
async fn an_application_to_kill() {
    let url = std::env::var("FASTSTATE_KILL_URL").expect("it is started by the other tests");
    let round = std::env::var("FASTSTATE_KILL_ROUND").unwrap();
    let ledgers = Ledgers::new(open(&url).await);
    let clients = (0..CLIENTS).map(|client| {
        let (ledgers, round) = (ledgers.clone(), round.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let ledger = format!("{round}-{}", client % LEDGERS);
                let id = format!("{ledger}.{client}.{number}");
                say(&format!("try {id}\n"));
                if ledgers.enter(&ledger, &id).await.is_ok() {
                    say(&format!("ack {id}\n"));
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
}
