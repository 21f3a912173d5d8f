//! A state that remembers which events it applied, for tests that kill things.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use faststate_core::{
    Access, Context, Error, Event, EventId, Handle, ReactiveState, Rejection, StateConfig, StateRegistry,
    Store, Viewer,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

/// How long a call may take, and a little for a busy machine.
const PROMPT: Duration = Duration::from_millis(2_600);

/// The ids of all events that were applied, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) ids: Vec<String>,
}

impl ReactiveState for Ledger {
    const NAME: &'static str = "ledger";
}

/// Writes an id down.
#[derive(Serialize, Deserialize)]
struct Enter {
    id: String,
}

impl Event for Enter {
    type State = Ledger;
    const NAME: &'static str = "enter";

    fn apply(&self, ledger: &mut Ledger, _: &mut Context<Ledger>) -> Result<(), Rejection> {
        ledger.ids.push(self.id.clone());
        Ok(())
    }
}

/// An application of ledgers, each a record.
pub(crate) fn application(store: impl Store) -> Arc<StateRegistry> {
    StateRegistry::builder()
        .store(store)
        .state::<Ledger>(StateConfig::record().access(Access::public()).persist(), |state| {
            state.event::<Enter>()
        })
        .build()
        .unwrap()
}

pub(crate) fn ledger(registry: &Arc<StateRegistry>, id: &str) -> Handle<Ledger> {
    registry.record(id).unwrap()
}

/// Sends an event once.
pub(crate) async fn enter(ledger: &Handle<Ledger>, id: &str) -> Result<(), Error> {
    let event_id: EventId = id.parse().unwrap();
    ledger.send_as(Enter { id: id.to_owned() }, Viewer::application(), event_id).await.map(drop)
}

/// Clients that send their events over and over until each is acknowledged, while something goes wrong.
pub(crate) struct Burst {
    clients: Vec<tokio::task::JoinHandle<Tally>>,
    registry: Arc<StateRegistry>,
    enough: Arc<AtomicBool>,
}

/// What became of a client's events.
#[derive(Default)]
struct Tally {
    ids: Vec<String>,
    failures: usize,
    slowest: Duration,
}

impl Burst {
    /// So many clients, each with so many events, over eight ledgers.
    pub(crate) fn start(registry: &Arc<StateRegistry>, clients: usize, events: usize) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let client = |client: usize| {
            let enough = Arc::clone(&enough);
            let ledger = ledger(registry, &(client % 8).to_string());
            tokio::spawn(async move {
                let mut tally = Tally::default();
                for event in 0..events {
                    let id = format!("{client}-{event}");
                    loop {
                        let asked = Instant::now();
                        let outcome = enter(&ledger, &id).await;
                        tally.slowest = tally.slowest.max(asked.elapsed());
                        if outcome.is_ok() {
                            break;
                        }
                        if enough.load(Ordering::SeqCst) {
                            return tally;
                        }
                        tally.failures += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    tally.ids.push(id);
                }
                tally
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { clients, registry: Arc::clone(registry), enough }
    }

    /// Stops all clients; gives the ids that were acknowledged.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.enough.store(true, Ordering::SeqCst);
        let mut acknowledged = Vec::new();
        for client in self.clients {
            let tally = timeout(Duration::from_secs(60), client).await.expect("it stops").unwrap();
            acknowledged.extend(tally.ids);
        }
        acknowledged
    }

    /// Waits until all are acknowledged, and compares with what `store` has: each once. Gives the number of
    /// calls that failed meanwhile.
    pub(crate) async fn settle(self, store: impl Store) -> usize {
        let (mut sent, mut failures) = (Vec::new(), 0);
        for client in self.clients {
            let tally = timeout(Duration::from_secs(60), client).await.expect("it recovers").unwrap();
            assert!(tally.slowest < PROMPT, "an answer took {:?}", tally.slowest);
            sent.extend(tally.ids);
            failures += tally.failures;
        }
        // What the application shows is what another one reads.
        let other = application(store);
        let mut stored = Vec::new();
        for id in 0..8 {
            let id = id.to_string();
            let theirs = ledger(&other, &id).read().await.unwrap().ids.clone();
            assert_eq!(ledger(&self.registry, &id).read().await.unwrap().ids, theirs);
            stored.extend(theirs);
        }
        once(&stored);
        sent.sort();
        stored.sort();
        assert_eq!(sent, stored);
        failures
    }
}

/// No event was applied twice.
pub(crate) fn once(ids: &[String]) {
    let mut seen = HashSet::new();
    let twice: Vec<_> = ids.iter().filter(|id| !seen.insert(*id)).collect();
    assert!(twice.is_empty(), "applied twice: {twice:?}");
}
