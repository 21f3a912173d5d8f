//! A server that crashes in the middle of a burst, and comes back.

use std::time::Duration;

use faststate_tests::{MariaDb, Postgres};
use tokio::task::JoinSet;

use crate::{ledger::Ledgers, open::open};

const CLIENTS: usize = 16;
const EVENTS: usize = 60;
/// Two seconds, and what a busy machine adds.
const PROMPT: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_postgres_stopped_at_once_loses_nothing_and_is_found_again() {
    let server = Postgres::start();
    let url = server.url();
    crash_midway(&url, server, |server, up| if up { server.restart() } else { server.crash() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_mysql_killed_loses_nothing_and_is_found_again() {
    let server = MariaDb::start();
    let url = server.url();
    crash_midway(&url, server, |server, up| if up { server.restart() } else { server.crash() }).await;
}

/// Clients that retry each event until it is acknowledged, while the server crashes and comes back:
/// each answer comes in time, and each event counts once.
async fn crash_midway<T: Send + 'static>(
    url: &str,
    mut server: T,
    mut turn: impl FnMut(&mut T, bool) + Send + 'static,
) {
    let ledgers = Ledgers::new(open(url).await);
    let mut clients = JoinSet::new();
    let (halfway, mut reached) = tokio::sync::mpsc::channel(CLIENTS);
    for client in 0..CLIENTS {
        let (ledgers, halfway) = (ledgers.clone(), halfway.clone());
        clients.spawn(async move {
            let mut slowest = Duration::ZERO;
            for number in 0..EVENTS {
                if number == EVENTS / 3 {
                    halfway.send(()).await.unwrap();
                }
                let id = format!("{client}.{number}");
                slowest = slowest.max(ledgers.enter_at_last(&format!("l{}", client % 4), &id).await);
            }
            slowest
        });
    }
    reached.recv().await.unwrap();
    let outage = tokio::task::spawn_blocking(move || {
        turn(&mut server, false);
        turn(&mut server, true);
        server
    });
    while let Some(slowest) = clients.join_next().await {
        let slowest = slowest.unwrap();
        assert!(slowest <= PROMPT, "an answer took {slowest:?}");
    }
    let _server = outage.await.unwrap();
    let again = Ledgers::new(open(url).await);
    let mut entries = Vec::new();
    for number in 0..4 {
        entries.extend(again.entries(&format!("l{number}")).await);
    }
    let count = entries.len();
    entries.sort();
    entries.dedup();
    let all = (0..CLIENTS).flat_map(|client| (0..EVENTS).map(move |number| format!("{client}.{number}")));
    let lost: Vec<_> = all.filter(|id| !entries.contains(id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(count, entries.len(), "something is entered twice");
}
