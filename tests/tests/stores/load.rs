//! Nodes that save new records while their server fails.

use std::{
    collections::BTreeSet,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use faststate_core::{
    Key, Scope, Store, Version,
    store::{Precondition, Receipt, Record, SaveOutcome},
};
use futures::{StreamExt as _, future::join_all, stream};
use tokio::{task::JoinSet, time::sleep};

use crate::open::{open, try_open};

/// The time within which every node is healthy again after a new primary is in its place.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// The time within which a load on healthy servers saves what a test waits for.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause of a writer after a save that failed.
const FAILURE_PAUSE: Duration = Duration::from_millis(5);
/// The number of nodes, and of writers on each of them.
const NODES: usize = 2;
const WRITERS: usize = 4;
/// The number of records that are loaded at the same time.
const LOAD_CONCURRENCY: usize = 16;

/// The ids of all records of this process, so that no two loads save the same one.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Nodes that save new records until they are dropped.
pub(crate) struct Load {
    url: String,
    nodes: Vec<Arc<dyn Store>>,
    acknowledged: Arc<Mutex<BTreeSet<usize>>>,
    is_stopped: Arc<AtomicBool>,
    writers: JoinSet<()>,
}

impl Load {
    /// Opens the nodes' stores at `url`, and starts writers that pause for `pace` after each save.
    pub(crate) async fn start(url: &str, pace: Duration) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(open(url).await);
        }
        let (acknowledged, is_stopped) = (Arc::<Mutex<BTreeSet<_>>>::default(), Arc::<AtomicBool>::default());
        let mut writers = JoinSet::new();
        for writer in 0..NODES * WRITERS {
            let store = Arc::clone(&nodes[writer % NODES]);
            let (acknowledged, is_stopped) = (Arc::clone(&acknowledged), Arc::clone(&is_stopped));
            writers.spawn(async move {
                while !is_stopped.load(Ordering::Relaxed) {
                    let id = NEXT.fetch_add(1, Ordering::Relaxed);
                    if saves(&*store, id).await {
                        acknowledged.lock().unwrap().insert(id);
                        sleep(pace).await;
                    } else {
                        sleep(FAILURE_PAUSE).await;
                    }
                }
            });
        }
        Self { url: url.to_owned(), nodes, acknowledged, is_stopped, writers }
    }

    /// The stores of the nodes.
    pub(crate) fn nodes(&self) -> &[Arc<dyn Store>] {
        &self.nodes
    }

    /// The records that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> BTreeSet<usize> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Opens all connections of the nodes.
    pub(crate) async fn fill_pools(&self) {
        let pings = self.nodes.iter().flat_map(|node| (0..64).map(|_| node.ping()));
        join_all(pings).await;
    }

    /// Waits until this many more records are acknowledged.
    pub(crate) async fn goes_on(&self, more: usize) {
        let count = || self.acknowledged.lock().unwrap().len();
        let (goal, since) = (count() + more, Instant::now());
        while count() < goal {
            assert!(
                since.elapsed() < PROGRESS_TIMEOUT,
                "the load stands still at {} of {goal} records",
                count()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a ping and a save succeed at every node, and at one that starts now. Returns the time that took.
    pub(crate) async fn healthy(&self) -> Duration {
        let since = Instant::now();
        let pause = async || {
            assert!(
                since.elapsed() <= HEALTH_TIMEOUT,
                "a node is not healthy {HEALTH_TIMEOUT:?} after a failover"
            );
            sleep(Duration::from_millis(20)).await;
        };
        let nodes = self.nodes.iter().map(async |node| {
            while !is_healthy(&**node).await {
                pause().await;
            }
        });
        let new_node = async {
            loop {
                match try_open(&self.url).await {
                    Ok(node) if is_healthy(&*node).await => break,
                    _ => pause().await,
                }
            }
        };
        tokio::join!(join_all(nodes), new_node);
        since.elapsed()
    }

    /// Stops the writers, once their present saves have ended.
    pub(crate) async fn stop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        while self.writers.join_next().await.is_some() {}
    }

    /// The records among these that the store does not have.
    pub(crate) async fn missing(&self, ids: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let loads = ids.into_iter().map(|id| async move {
            let loaded = self.nodes[0].load(&key(id), None).await.unwrap();
            loaded.record.is_none().then_some(id)
        });
        stream::iter(loads).buffer_unordered(LOAD_CONCURRENCY).filter_map(ready).collect().await
    }
}

async fn is_healthy(store: &dyn Store) -> bool {
    store.ping().await.is_ok() && saves(store, NEXT.fetch_add(1, Ordering::Relaxed)).await
}

/// Saves a new record; returns whether the save succeeded.
async fn saves(store: &dyn Store, id: usize) -> bool {
    let record = Record::new(1, Version::start(), "{}", None);
    let saved = store.save(&key(id), &record, Precondition::Absent, Some(&Receipt::internal())).await;
    matches!(saved, Ok(SaveOutcome::Saved))
}

fn key(id: usize) -> Key {
    Key::new("load", Scope::Record, None, Some(&id.to_string())).unwrap()
}
