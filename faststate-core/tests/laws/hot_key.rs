//! Several nodes change one key as fast as they can, in paused time.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use faststate_core::{
    Access, Key, LocalBroadcaster, MemoryStore, StateConfig, StateRegistry, Store,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::{Overridden, StoreOverride};
use futures::future::try_join_all;
use tokio::time::{Instant, sleep};

use crate::board::{Add, Board, board};

/// A store behind a network with a latency of 1 to 3 ms per direction.
struct Distant {
    inner: MemoryStore,
    conflicts: AtomicUsize,
}

async fn latency() {
    sleep(Duration::from_millis(rand::random_range(1..=3))).await;
}

#[async_trait]
impl StoreOverride for Distant {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        latency().await;
        let loaded = self.inner.load(key, receipt).await;
        latency().await;
        loaded
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        latency().await;
        let saving = self.inner.save(key, record, expect, receipt).await?;
        self.conflicts.fetch_add(usize::from(saving == SaveOutcome::Conflict), SeqCst);
        latency().await;
        Ok(saving)
    }
}

impl fmt::Debug for Distant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Distant")
    }
}

/// The results of nodes whose tasks send one event after another.
#[derive(Debug)]
struct Figures {
    /// The number of applied events per node.
    shares: Vec<usize>,
    refused: usize,
    conflicts: usize,
    slowest: Duration,
}

async fn contend(nodes: usize, tasks: usize, time: Duration) -> Figures {
    let store = Arc::new(Overridden(Distant { inner: MemoryStore::new(), conflicts: AtomicUsize::new(0) }));
    let hub = LocalBroadcaster::new();
    let registries: Vec<_> = (0..nodes)
        .map(|_| {
            StateRegistry::builder()
                .store(Arc::clone(&store))
                .broadcaster(hub.peer())
                .state::<Board>(StateConfig::global().access(Access::public()).persist(), |state| {
                    state.event::<Add>()
                })
                .build()
                .unwrap()
        })
        .collect();
    let end = Instant::now() + time;
    let tasks = (0..nodes * tasks).map(|task| {
        let handle = board(&registries[task % nodes]);
        tokio::spawn(async move {
            let (mut done, mut refused, mut slowest) = (0, 0, Duration::ZERO);
            while Instant::now() < end {
                let asked = Instant::now();
                match handle.send(Add { amount: 1 }).await {
                    Ok(_) => done += 1,
                    Err(_) => refused += 1,
                }
                slowest = slowest.max(asked.elapsed());
            }
            (task, done, refused, slowest)
        })
    });
    let mut figures = Figures { shares: vec![0; nodes], refused: 0, conflicts: 0, slowest: Duration::ZERO };
    for (task, done, refused, slowest) in try_join_all(tasks).await.unwrap() {
        figures.shares[task % nodes] += done;
        figures.refused += refused;
        figures.slowest = figures.slowest.max(slowest);
    }
    figures.conflicts = store.conflicts.load(SeqCst);
    figures
}

#[tokio::test(start_paused = true)]
async fn law_02_nodes_share_a_hot_key_fairly() {
    let alone = contend(1, 8, Duration::from_secs(20)).await;
    let three = contend(3, 8, Duration::from_secs(20)).await;
    let total = |figures: &Figures| figures.shares.iter().sum::<usize>();
    eprintln!("one node: {} {alone:?}\nthree nodes: {} {three:?}", total(&alone), total(&three));
    let most = *three.shares.iter().max().unwrap();
    assert_eq!((three.refused, alone.refused), (0, 0), "no node starves");
    assert!(three.shares.iter().all(|share| share * 3 > most), "{:?}", three.shares);
    assert!(three.slowest < Duration::from_millis(1500), "{:?}", three.slowest);
    assert!(
        total(&three) * 10 > total(&alone) * 9,
        "three nodes have at least 90 % of the throughput of one"
    );
}
