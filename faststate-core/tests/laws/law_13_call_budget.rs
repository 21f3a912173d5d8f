//! Law 13: an event makes at most ten store calls, whatever fails.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use faststate_core::{
    Access, Error, Handle, Key, MemoryStore, Registry as _, StateConfig, StateRegistry, Store, Version,
    Viewer,
    registry::{Applied, Outcome},
    store::{Cached, Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::{
    CapturedLog,
    faults::{FaultyStore, Overridden, StoreFault, StoreOverride},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};
use tracing::Level;

use crate::board::{Add, Board, board, with};

const MAX_CALLS: usize = 10;

fn faulty() -> (Arc<StateRegistry>, Handle<Board>, Arc<FaultyStore>) {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    (registry, board, store)
}

fn calls(store: &FaultyStore) -> usize {
    store.loads() + store.saves()
}

async fn add_one(board: &Handle<Board>) -> Result<Outcome, Error> {
    board.send_as(Add { amount: 1 }, Viewer::application(), faststate_core::EventId::random()).await
}

#[tokio::test(start_paused = true)]
async fn law_13_event_pauses_between_few_saves_that_fail_fast() {
    let log = CapturedLog::start(Level::WARN);
    let (_registry, board, store) = faulty();
    add_one(&board).await.unwrap();
    store.next_saves(std::iter::repeat_n(StoreFault::Fail, 1_000));
    let (before, asked) = (calls(&store), Instant::now());
    let outcome = add_one(&board).await;
    assert!(matches!(outcome, Err(Error::OutcomeUnknown)), "{outcome:?}");
    let calls = calls(&store) - before;
    assert!((4..=MAX_CALLS).contains(&calls), "{calls} calls");
    assert!(asked.elapsed() > Duration::from_millis(150), "it pauses: {:?}", asked.elapsed());
    let lines = log.count("saves of an event failed");
    assert_eq!(lines, 1, "one line per event");
}

#[tokio::test(start_paused = true)]
async fn law_13_event_outlasts_a_short_failure_of_saves() {
    let (_registry, board, store) = faulty();
    store.next_saves([StoreFault::Fail, StoreFault::Fail]);
    assert_eq!(add_one(&board).await.unwrap().answer, Applied::Changed);
    assert_eq!(board.read().await.unwrap().count, 1);
}

#[tokio::test(start_paused = true)]
async fn law_13_event_pauses_between_few_loads_after_unknown_outcome() {
    let (_registry, board, store) = faulty();
    add_one(&board).await.unwrap();
    store.next_saves([StoreFault::FailAfter]);
    store.set(StoreFault::Fail);
    let before = calls(&store);
    assert!(matches!(add_one(&board).await, Err(Error::OutcomeUnknown)));
    let calls = calls(&store) - before;
    assert!(calls <= MAX_CALLS, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn law_13_event_makes_ten_calls_when_every_save_conflicts() {
    let (_registry, board, store) = faulty();
    add_one(&board).await.unwrap();
    store.set(StoreFault::Conflict);
    let before = calls(&store);
    assert!(matches!(add_one(&board).await, Err(Error::TimedOut)));
    let calls = calls(&store) - before;
    assert!((5..=MAX_CALLS).contains(&calls), "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn law_13_event_makes_ten_calls_when_each_load_needs_a_save() {
    /// A store that can be restored to its first record. From then on, the outcome of the next save is unknown, and all
    /// later saves conflict: each load finds an old record and tries in vain to start a new epoch.
    #[derive(Debug, Default)]
    struct Restored {
        inner: MemoryStore,
        first: OnceLock<Record>,
        is_restored: AtomicBool,
        calls: AtomicUsize,
        saves: AtomicUsize,
    }

    #[async_trait]
    impl StoreOverride for Restored {
        fn inner(&self) -> &dyn Store {
            &self.inner
        }

        async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
            self.calls.fetch_add(1, SeqCst);
            if self.is_restored.load(SeqCst) {
                return Ok(Loaded { record: self.first.get().cloned(), receipt: None });
            }
            self.inner.load(key, receipt).await
        }

        async fn save(
            &self,
            key: &Key,
            record: &Record,
            expect: Precondition,
            receipt: Option<&Receipt>,
        ) -> Result<SaveOutcome, StoreError> {
            self.calls.fetch_add(1, SeqCst);
            if !self.is_restored.load(SeqCst) {
                self.first.get_or_init(|| record.clone());
                return self.inner.save(key, record, expect, receipt).await;
            }
            match self.saves.fetch_add(1, SeqCst) {
                0 => Err(StoreError::Unavailable("the outcome is unknown".into())),
                _ => Ok(SaveOutcome::Conflict),
            }
        }
    }

    let store = Arc::new(Overridden(Restored::default()));
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    add_one(&board).await.unwrap();
    add_one(&board).await.unwrap();
    store.is_restored.store(true, SeqCst);
    let before = store.calls.load(SeqCst);
    assert!(matches!(add_one(&board).await, Err(Error::OutcomeUnknown)));
    let calls = store.calls.load(SeqCst) - before;
    assert!((5..=MAX_CALLS).contains(&calls), "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn law_13_event_makes_ten_calls_with_mixed_failures() {
    for seed in 0..200 {
        let (_registry, board, store) = faulty();
        let mut dice = StdRng::seed_from_u64(seed);
        let faults = [
            StoreFault::None,
            StoreFault::Fail,
            StoreFault::FailAfter,
            StoreFault::Conflict,
            StoreFault::Full,
        ];
        store.next_saves((0..30).map(|_| faults[dice.random_range(0..faults.len())]));
        let mut count = 0;
        while store.next_is_faulty() {
            let before = calls(&store);
            let outcome = add_one(&board).await;
            let calls = calls(&store) - before;
            assert!(calls <= MAX_CALLS, "seed {seed}: {calls} calls, {outcome:?}");
            // The store's breaker may be open.
            sleep(Duration::from_secs(5)).await;
            let found = board.read().await.unwrap().count;
            match outcome {
                Ok(_) => assert_eq!(found, count + 1, "seed {seed}"),
                Err(Error::OutcomeUnknown) => assert!([count, count + 1].contains(&found), "seed {seed}"),
                Err(error) => assert_eq!(found, count, "seed {seed}: {error:?}"),
            }
            count = found;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_durable_store_is_spared_while_the_fast_one_is_down() {
    let [fast, durable] = [(); 2].map(|()| FaultyStore::new(Arc::new(MemoryStore::new())));
    let cached = Cached::new(Arc::clone(&fast), Arc::clone(&durable));
    let registry = with(|builder| builder.store(cached), |config| config.persist());
    let board = board(&registry);
    add_one(&board).await.unwrap();
    fast.set(StoreFault::Fail);
    let before = (calls(&durable), durable.saves());
    let outcome = add_one(&board).await;
    assert!(
        matches!(outcome, Err(Error::Unavailable(StoreError::Unavailable(_)))),
        "nothing was saved, and that is known: {outcome:?}"
    );
    assert!(calls(&durable) - before.0 <= MAX_CALLS, "{} calls", calls(&durable) - before.0);
    assert_eq!(durable.saves(), before.1);
    assert!(!registry.health().await.is_healthy());
    fast.set(StoreFault::None);
    sleep(Duration::from_secs(5)).await;
    add_one(&board).await.unwrap();
    assert!(registry.health().await.is_healthy());
    assert_eq!(board.read().await.unwrap().count, 2);
}

#[tokio::test(start_paused = true)]
async fn law_13_full_store_is_unhealthy_until_a_save_succeeds() {
    let log = CapturedLog::start(Level::WARN);
    let (registry, board, store) = faulty();
    add_one(&board).await.unwrap();
    store.next_saves([StoreFault::Full]);
    let before = store.saves();
    let outcome = add_one(&board).await;
    assert!(matches!(outcome, Err(Error::Unavailable(StoreError::Full(_)))), "{outcome:?}");
    assert_eq!(
        (store.saves() - before, log.count("saves of an event failed")),
        (1, 0),
        "the outcome is known"
    );
    assert!(!registry.health().await.is_healthy());
    add_one(&board).await.unwrap();
    assert!(registry.health().await.is_healthy());
    // Health must report it without a further event.
    store.next_saves([StoreFault::Full]);
    add_one(&board).await.unwrap_err();
    assert!(!registry.health().await.is_healthy());
    sleep(Duration::from_secs(31)).await;
    assert!(registry.health().await.is_healthy());
}

#[tokio::test(start_paused = true)]
async fn law_13_store_that_fails_saves_is_unhealthy() {
    let (registry, board, store) = faulty();
    add_one(&board).await.unwrap();
    store.next_saves(std::iter::repeat_n(StoreFault::Fail, 1_000));
    let mut unhealthy = 0;
    for _ in 0..10 {
        add_one(&board).await.unwrap_err();
        unhealthy += usize::from(!registry.health().await.is_healthy());
    }
    assert!(unhealthy > 5, "unhealthy in {unhealthy} of 10 checks");
}

#[tokio::test(start_paused = true)]
async fn law_13_two_nodes_refuse_an_event_after_ten_calls() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let registry = StateRegistry::builder()
        .store(Arc::clone(&store))
        .broadcaster(faststate_core::LocalBroadcaster::new())
        .state::<Board>(StateConfig::global().access(Access::public()).persist(), |state| {
            state.event::<Add>()
        })
        .build()
        .unwrap();
    let board = board(&registry);
    add_one(&board).await.unwrap();
    store.set(StoreFault::Conflict);
    for _ in 0..10 {
        let before = calls(&store);
        assert!(matches!(add_one(&board).await, Err(Error::TimedOut)));
        assert!(calls(&store) - before <= MAX_CALLS, "{} calls", calls(&store) - before);
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_deletion_that_always_conflicts_makes_ten_calls() {
    /// A store whose deletions always conflict.
    #[derive(Debug, Default)]
    struct Stubborn {
        inner: MemoryStore,
        calls: AtomicUsize,
    }

    #[async_trait]
    impl StoreOverride for Stubborn {
        fn inner(&self) -> &dyn Store {
            &self.inner
        }

        async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
            self.calls.fetch_add(1, SeqCst);
            self.inner.load(key, receipt).await
        }

        async fn delete(&self, _: &Key, _: Version) -> Result<bool, StoreError> {
            self.calls.fetch_add(1, SeqCst);
            Ok(false)
        }
    }

    let store = Arc::new(Overridden(Stubborn::default()));
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    add_one(&board).await.unwrap();
    let before = store.calls.load(SeqCst);
    assert!(matches!(board.delete().await, Err(Error::TimedOut)));
    let calls = store.calls.load(SeqCst) - before;
    assert!((4..=MAX_CALLS).contains(&calls), "{calls} calls");
}
