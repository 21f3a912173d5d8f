//! Law 2: with any number of tasks on one key, every accepted event counts exactly once.

use std::{collections::HashSet, sync::Arc, time::Duration};

use faststate_core::{Error, MemoryStore, Registry, Store, registry::Applied};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use futures::future::try_join_all;
use tokio::spawn;

use crate::{
    board::{Add, Board, add, board, poll_once, registry_with_long_deadline, with},
    tab::Tab,
};

const TASKS: u64 = 64;
const EVENTS: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_02_all_increments_count_and_versions_have_no_gaps() {
    let registry = registry_with_long_deadline();
    let mut tab = Tab::open(&registry, &Default::default(), &["board"]).await;
    let tasks = (0..TASKS).map(|_| {
        let board = board(&registry);
        spawn(async move {
            let mut versions = Vec::new();
            for _ in 0..EVENTS {
                let outcome = board.send(Add { amount: 1 }).await?;
                assert_eq!(outcome.answer, Applied::Changed);
                versions.push(outcome.version);
            }
            Ok::<_, Error>(versions)
        })
    });
    let mut seqs = HashSet::new();
    for versions in try_join_all(tasks).await.unwrap() {
        let versions = versions.unwrap();
        assert!(versions.is_sorted_by(|a, b| a.is_before(*b)), "a task saw its own events out of order");
        seqs.extend(versions.iter().map(|version| version.seq));
    }
    assert_eq!(seqs, (1..=TASKS * EVENTS).collect());
    let state = board(&registry).read().await.unwrap();
    assert_eq!((state.count, state.version().seq), (64_000, 64_000));
    tab.read();
    tab.shows(&state).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_02_events_of_callers_that_hang_up_count_once() {
    let registry = registry_with_long_deadline();
    let key = registry.key("board", &Default::default(), None).unwrap();
    let accepted = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let tasks = (0..32_u64).map(|task| {
        let (registry, key, accepted) = (Arc::clone(&registry), key.clone(), Arc::clone(&accepted));
        spawn(async move {
            for at in 0..100 {
                // The first poll puts the event into the queue, so it is applied although the future is dropped.
                let mut event = registry.dispatch(add(&key, 1, None));
                if (task + at) % 3 == 0 {
                    let _ = poll_once(&mut event);
                } else {
                    event.await.unwrap();
                }
                accepted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        })
    });
    try_join_all(tasks).await.unwrap();
    registry.settle().await;
    let state = board(&registry).read().await.unwrap();
    assert_eq!(state.count, 3_200);
    assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), 3_200);
}

/// Repeats an event until the circuit breaker admits it. A refused event was not applied.
async fn once_saved<T>(send: impl AsyncFn() -> Result<T, Error>) {
    while let Err(error) = send().await {
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_02_faulty_saves_lose_no_update() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(memory);
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    for fault in [StoreFault::Conflict, StoreFault::Fail, StoreFault::FailAfter] {
        for times in 1..5 {
            let before = board.read().await.unwrap();
            store.next_saves(std::iter::repeat_n(fault, times));
            once_saved(async || board.send(Add { amount: 1 }).await).await;
            // The event may not have needed all of the faults; the following events consume the rest.
            once_saved(async || board.send(Add { amount: 1 }).await).await;
            while store.next_is_faulty() {
                once_saved(async || board.send(Add { amount: 0 }).await).await;
                let update = |board: &mut Board| {
                    board.big += 1;
                    Ok(())
                };
                once_saved(async || board.update(update).await).await;
            }
            let after = board.read().await.unwrap();
            assert_eq!(after.count, before.count + 2, "{times} of {fault:?}");
        }
    }
}
