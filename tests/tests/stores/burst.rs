//! Clients that repeat each event until it is acknowledged, during failures.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use faststate_core::Store;
use faststate_tests::UNAVAILABLE_LIMIT;
use tokio::time::{Instant, sleep, timeout};

use crate::ledger::Ledgers;

/// The number of ledgers of a burst.
const LEDGERS: usize = 8;

/// The number of events that each client sends without pause. Later ones are [`PACE`] apart, so that a
/// ledger stays small during a long burst.
const UNPACED_EVENTS: usize = 100;
const PACE: Duration = Duration::from_millis(50);

/// Clients that send one event at a time, each repeatedly until it is acknowledged.
pub(crate) struct Burst {
    clients: Vec<tokio::task::JoinHandle<Tally>>,
    ledgers: Ledgers,
    seen: Arc<Seen>,
}

/// The observations of all clients of a burst.
#[derive(Default)]
struct Seen {
    /// Whether clients have stopped sending new events.
    enough: AtomicBool,
    /// Whether clients have stopped repeating unacknowledged events.
    given_up: AtomicBool,
    acknowledged: AtomicUsize,
    failed: AtomicUsize,
}

/// The outcomes of one client's events.
#[derive(Default)]
struct Tally {
    ids: Vec<String>,
    slowest: Duration,
}

impl Burst {
    /// Starts `count` clients, which run until [`stop`](Self::stop) or [`settle`](Self::settle).
    pub(crate) fn start(ledgers: &Ledgers, clients: usize) -> Self {
        let seen = Arc::new(Seen::default());
        let client = |client: usize| {
            let (seen, ledgers) = (Arc::clone(&seen), ledgers.clone());
            tokio::spawn(async move {
                let mut tally = Tally::default();
                for event in 0.. {
                    if seen.enough.load(Ordering::SeqCst) {
                        break;
                    }
                    if event >= UNPACED_EVENTS {
                        sleep(PACE).await;
                    }
                    let id = format!("{client}-{event}");
                    loop {
                        let asked = Instant::now();
                        let outcome = ledgers.enter(&(client % LEDGERS).to_string(), &id).await;
                        tally.slowest = tally.slowest.max(asked.elapsed());
                        if outcome.is_ok() {
                            seen.acknowledged.fetch_add(1, Ordering::SeqCst);
                            break;
                        }
                        if seen.given_up.load(Ordering::SeqCst) {
                            return tally;
                        }
                        seen.failed.fetch_add(1, Ordering::SeqCst);
                        sleep(Duration::from_millis(20)).await;
                    }
                    tally.ids.push(id);
                }
                tally
            })
        };
        Self { clients: (0..clients).map(client).collect(), ledgers: ledgers.clone(), seen }
    }

    /// Waits until `count` more events are acknowledged.
    pub(crate) async fn goes_on(&self, events: usize) {
        self.counts(&self.seen.acknowledged, events).await;
    }

    /// Waits until one more event fails.
    pub(crate) async fn fails(&self) {
        self.counts(&self.seen.failed, 1).await;
    }

    async fn counts(&self, what: &AtomicUsize, more: usize) {
        let (before, began) = (what.load(Ordering::SeqCst), Instant::now());
        while what.load(Ordering::SeqCst) < before + more {
            assert!(began.elapsed() < Duration::from_secs(20), "the burst does not come to it");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops all clients; returns the acknowledged ids.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.seen.enough.store(true, Ordering::SeqCst);
        self.seen.given_up.store(true, Ordering::SeqCst);
        let mut acknowledged = Vec::new();
        for client in self.clients {
            let tally = timeout(Duration::from_secs(60), client).await.expect("it stops").unwrap();
            acknowledged.extend(tally.ids);
        }
        acknowledged
    }

    /// Waits until all events are acknowledged, and compares them with the content of `store` as another application loads it: each
    /// event once, and each response within the deadline.
    pub(crate) async fn settle(self, store: Arc<dyn Store>) {
        self.seen.enough.store(true, Ordering::SeqCst);
        let mut sent = Vec::new();
        for client in self.clients {
            let tally = timeout(Duration::from_secs(60), client).await.expect("it recovers").unwrap();
            assert!(tally.slowest < UNAVAILABLE_LIMIT, "an answer took {:?}", tally.slowest);
            sent.extend(tally.ids);
        }
        let other = Ledgers::new(store);
        let mut stored = Vec::new();
        for ledger in 0..LEDGERS {
            let ledger = ledger.to_string();
            let theirs = other.entries(&ledger).await;
            assert_eq!(self.ledgers.entries(&ledger).await, theirs, "what is shown is not what is stored");
            stored.extend(theirs);
        }
        once(&stored);
        sent.sort();
        stored.sort();
        assert_eq!(sent, stored);
    }
}

/// Panics if an event was applied twice.
pub(crate) fn once(ids: &[String]) {
    let mut seen = HashSet::new();
    let twice: Vec<_> = ids.iter().filter(|id| !seen.insert(*id)).collect();
    assert!(twice.is_empty(), "applied twice: {twice:?}");
}
