//! An application that is killed in the middle of a burst, as a process of its own: this test's program,
//! started again.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use faststate_core::Store;
use faststate_tests::Random;
use futures::future::BoxFuture;

use crate::ledger::{application, enter, ledger, once};

/// Where the child finds its store, and its round.
const STORE: &str = "FASTSTATE_TEST_STORE";
const ROUND: &str = "FASTSTATE_TEST_ROUND";

/// Opens a store by its address.
pub(crate) type Open = fn(String) -> BoxFuture<'static, Arc<dyn Store>>;

/// Kills an application so many times while 32 clients send it events; `test` is the name of the ignored
/// test that is the application.
pub(crate) async fn law_01_kill(store: &str, test: &str, open: Open, rounds: usize) {
    let mut random = Random::new(1);
    let mut acknowledged = HashSet::new();
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", test])
            .env(STORE, store)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let first =
            lines.find_map(|line| acknowledgement(&line)).expect("the application starts and acknowledges");
        acknowledged.insert(first);
        let patience = Duration::from_millis(random.below(200).try_into().unwrap());
        let killer = std::thread::spawn(move || {
            std::thread::sleep(patience);
            child.kill().unwrap();
            child.wait().unwrap();
        });
        acknowledged.extend(lines.filter_map(|line| acknowledgement(&line)));
        killer.join().unwrap();

        let registry = application(open(store.to_owned()).await);
        let mut stored = Vec::new();
        for id in 0..8 {
            stored.extend(ledger(&registry, &id.to_string()).read().await.unwrap().ids.clone());
        }
        once(&stored);
        let stored: HashSet<_> = stored.into_iter().collect();
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "acknowledged and lost in round {round}: {lost:?}");
        // Whoever heard nothing sends again: each counts once.
        for id in stored.iter().take(20) {
            enter(&ledger(&registry, client(id)), id).await.unwrap();
        }
        let mut again = Vec::new();
        for id in 0..8 {
            again.extend(ledger(&registry, &id.to_string()).read().await.unwrap().ids.clone());
        }
        assert_eq!(again.len(), stored.len(), "a repeat counted");
    }
    assert!(acknowledged.len() > rounds * 8, "only {} were acknowledged", acknowledged.len());
}

/// The application: says the id of each event as soon as it is acknowledged, until it is killed. Does
/// nothing unless it was started as one.
pub(crate) async fn run(open: Open) {
    let (Ok(store), Ok(round)) = (std::env::var(STORE), std::env::var(ROUND)) else { return };
    let registry = application(open(store).await);
    let clients = (0..32).map(|client| {
        let ledger = ledger(&registry, &(client % 8).to_string());
        let round = round.clone();
        tokio::spawn(async move {
            for event in 0.. {
                let id = format!("{}-{round}-{client}-{event}", client % 8);
                if enter(&ledger, &id).await.is_ok() {
                    // One write per line, so that none is cut in two.
                    std::io::stdout().write_all(format!("acknowledged {id}\n").as_bytes()).unwrap();
                }
            }
        })
    });
    futures::future::join_all(clients).await;
}

/// The ledger of an id.
fn client(id: &str) -> &str {
    id.split('-').next().unwrap_or_default()
}

fn acknowledgement(line: &str) -> Option<String> {
    // The test harness may write before it on the same line.
    Some(line.split_once("acknowledged ")?.1.to_owned())
}
