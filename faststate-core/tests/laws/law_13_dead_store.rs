//! Law 13: a dead store causes errors within 2 s and never hangs, other states continue to work, and all followers see the
//! stored state once the store recovers.

use std::{future::pending, sync::Arc, time::Duration};

use faststate_core::{
    Access, Context, Error, Event, Handle, MemoryStore, PrepareContext, ReactiveState, Registry, Rejection,
    SessionId, StateConfig, StateRegistry, Store, Version, Viewer,
    internal::TopicName,
    store::{Precondition, Record, StoreError},
};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    board::{Add, Board, board},
    tab::Tab,
};

const DEADLINE: Duration = Duration::from_secs(2);

/// A state in a healthy store.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Alive {
    beats: u64,
}

impl ReactiveState for Alive {
    const NAME: &'static str = "alive";
}

#[derive(Serialize, Deserialize)]
struct Beat;

impl Event for Beat {
    type State = Alive;
    const NAME: &'static str = "beat";

    fn apply(&self, alive: &mut Alive, _: &mut Context<Alive>) -> Result<(), Rejection> {
        alive.beats += 1;
        Ok(())
    }
}

struct World {
    registry: Arc<StateRegistry>,
    board: Handle<Board>,
    alive: Handle<Alive>,
    memory: Arc<dyn Store>,
    store: Arc<FaultyStore>,
}

fn world(ttl: Option<Duration>) -> World {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(Arc::clone(&memory));
    let config = |config: StateConfig| match ttl {
        Some(ttl) => config.access(Access::public()).ttl(ttl),
        None => config.access(Access::public()),
    };
    let registry = StateRegistry::builder()
        .store(Arc::clone(&store))
        .state::<Board>(config(StateConfig::global()).persist(), |state| {
            state.event::<Add>().view(crate::board::Lines)
        })
        .state::<Alive>(config(StateConfig::global()), |state| state.event::<Beat>())
        .build()
        .unwrap();
    let (board, alive) = (board(&registry), registry.global::<Alive>().unwrap());
    World { registry, board, alive, memory, store }
}

/// Runs a call and checks that it ends within the deadline.
async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    let asked = Instant::now();
    let answer = tokio::time::timeout(Duration::from_secs(60), work).await;
    let answer = answer.unwrap_or_else(|_| panic!("{what} hangs"));
    assert!(asked.elapsed() <= DEADLINE, "{what} took {:?}", asked.elapsed());
    answer
}

#[tokio::test(start_paused = true)]
async fn law_13_every_queued_call_fails_within_two_seconds() {
    let world = world(None);
    for fault in [StoreFault::Hang, StoreFault::HangAfter, StoreFault::Slow(Duration::from_secs(30))] {
        for loaded in [true, false] {
            let World { registry, board, alive, store, .. } = &world;
            store.set(StoreFault::None);
            // After several failures in a row, the circuit breaker admits a call only after a pause.
            sleep(Duration::from_secs(3)).await;
            if loaded {
                board.send(Add { amount: 1 }).await.unwrap();
            } else {
                // The instance is evicted after a minute, so that the next call must load it.
                sleep(Duration::from_secs(120)).await;
            }
            store.set(fault);
            let events = (0..50).map(|_| in_time("an event", board.send(Add { amount: 1 })));
            for outcome in join_all(events).await {
                let error = outcome.unwrap_err();
                let is_clear =
                    matches!(error, Error::TimedOut | Error::OutcomeUnknown | Error::Unavailable(_));
                assert!(is_clear, "{fault:?}: {error:?}");
            }
            let viewer = Viewer::application();
            let topic = TopicName::signals("board");
            let read = in_time("a read", board.read()).await;
            let page = in_time("a page", registry.engine().visible(&topic, &viewer)).await;
            let stream = in_time("a stream", registry.engine().follow(&topic, &viewer, None, 1)).await;
            if loaded {
                assert!(read.unwrap().is_stale() && stream.unwrap().is_stale() && page.is_ok());
                assert!(registry.engine().is_stale(board.key()));
            } else {
                assert!(read.is_err() && page.is_err() && stream.is_err());
            }
            in_time("a deletion", board.delete()).await.unwrap_err();
            let health = in_time("the status page", registry.health()).await;
            assert!(!health.is_healthy());

            // The other state is not affected in the meantime.
            let asked = Instant::now();
            alive.send(Beat).await.unwrap();
            alive.read().await.unwrap();
            assert_eq!(asked.elapsed(), Duration::ZERO);
        }
    }
    world.store.set(StoreFault::None);
    sleep(Duration::from_secs(3)).await;
    let before = in_time("the first read after it", world.board.read()).await.unwrap().count;
    world.board.send(Add { amount: 1 }).await.unwrap();
    assert_eq!(world.board.read().await.unwrap().count, before + 1);
}

#[tokio::test(start_paused = true)]
async fn law_13_hanging_lookup_is_abandoned() {
    /// Waits forever before its turn, or inside it.
    #[derive(Serialize, Deserialize)]
    struct Wait;

    impl Event for Wait {
        type State = Alive;
        const NAME: &'static str = "wait";

        async fn prepare(&mut self, _: &PrepareContext) -> Result<(), Rejection> {
            pending().await
        }

        fn apply(&self, _: &mut Alive, _: &mut Context<Alive>) -> Result<(), Rejection> {
            Ok(())
        }
    }

    let registry = StateRegistry::builder()
        .state::<Alive>(StateConfig::global().access(Access::public()), |state| {
            state.event::<Wait>().event::<Beat>()
        })
        .state::<Board>(StateConfig::record().access(Access::public()), |state| {
            state.event::<Add>().initial(|key| async move {
                if key.id().as_deref() == Some("slow") {
                    static ASKED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
                    if !ASKED.swap(true, std::sync::atomic::Ordering::SeqCst) {
                        pending::<()>().await;
                    }
                }
                Some(Board::default())
            })
        })
        .build()
        .unwrap();
    let alive = registry.global::<Alive>().unwrap();
    assert!(matches!(in_time("prepare", alive.send(Wait)).await, Err(Error::TimedOut)));
    alive.send(Beat).await.unwrap();

    let slow = registry.record::<Board>("slow").unwrap();
    in_time("a beginning", slow.send(Add { amount: 1 })).await.unwrap_err();
    // The next call is not blocked.
    let outcome = in_time("the next event", slow.send(Add { amount: 1 })).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    registry.record::<Board>("quick").unwrap().send(Add { amount: 1 }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_13_state_in_memory_is_marked_stale_during_an_outage() {
    for fault in [StoreFault::Hang, StoreFault::HangAfter, StoreFault::Fail, StoreFault::FailAfter] {
        let World { registry, board, alive, memory, store } = world(None);
        board.send(Add { amount: 1 }).await.unwrap();
        let topic = TopicName::signals("board");
        let viewer = Viewer::application();
        let follower = registry.engine().follow(&topic, &viewer, None, 1).await.unwrap();
        assert!(!board.read().await.unwrap().is_stale() && !follower.is_stale());

        store.set(fault);
        in_time("an event", board.send(Add { amount: 1 })).await.unwrap_err();
        assert!(follower.is_stale(), "after {fault:?} the follower is not marked stale");
        // Every read is marked, whether or not it calls the store.
        for _ in 0..20 {
            let remembered = in_time("a read", board.read()).await.unwrap();
            assert!(remembered.is_stale() && remembered.count == 1, "after {fault:?}: {remembered:?}");
        }
        let late = in_time("a stream", registry.engine().follow(&topic, &viewer, None, 2)).await.unwrap();
        assert!(late.is_stale() && !registry.engine().is_stale(alive.key()));
        // A client that has seen a newer version is not led back.
        let ahead = board.read().await.unwrap().version().next();
        in_time("a stream", registry.engine().follow(&topic, &viewer, Some(ahead), 3)).await.unwrap_err();

        store.set(StoreFault::None);
        sleep(Duration::from_secs(5)).await;
        assert!(!follower.is_stale() && !late.is_stale(), "after {fault:?} a follower stays marked");
        let now = board.read().await.unwrap();
        let data = memory.load(board.key(), None).await.unwrap().record.unwrap().data;
        let stored: Board = serde_json::from_slice(&data).unwrap();
        assert!(!now.is_stale() && now.count == stored.count, "after {fault:?}: {now:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_expired_state_is_not_shown_from_memory() {
    let ttl = Duration::from_secs(10);
    let World { board, store, .. } = world(Some(ttl));
    board.send(Add { amount: 1 }).await.unwrap();
    store.set(StoreFault::Hang);
    board.send(Add { amount: 1 }).await.unwrap_err();
    assert!(board.read().await.unwrap().is_stale());
    sleep(ttl).await;
    in_time("a read", board.read()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn law_13_followers_agree_with_a_store_that_comes_back_different() {
    let World { registry, board, memory, store, .. } = world(None);
    board.send(Add { amount: 1 }).await.unwrap();
    let mut tab = Tab::open(&registry, &Viewer::application(), &["board", "board.lines"]).await;
    // No events are sent; the probes detect the outage.
    store.set(StoreFault::Fail);
    for _ in 0..3 {
        assert!(!registry.health().await.is_healthy());
    }
    let lost = board.read().await.unwrap();
    assert!(lost.is_stale());
    memory.delete(&tab.key, lost.version()).await.unwrap();
    store.set(StoreFault::None);
    sleep(Duration::from_secs(5)).await;
    tab.read();
    tab.shows(&Board::default()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_13_circuit_breaker_uses_the_registrys_deadline() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let registry = StateRegistry::builder()
        .store(Arc::clone(&store))
        .state::<Board>(StateConfig::global().access(Access::public()).persist(), |state| {
            state.event::<Add>()
        })
        .deadline(Duration::from_millis(400))
        .build()
        .unwrap();
    store.set(StoreFault::Hang);
    for _ in 0..3 {
        let asked = Instant::now();
        board(&registry).send(Add { amount: 1 }).await.unwrap_err();
        assert!(asked.elapsed() <= Duration::from_millis(400), "it took {:?}", asked.elapsed());
    }
    let asked = Instant::now();
    board(&registry).send(Add { amount: 1 }).await.unwrap_err();
    assert_eq!(asked.elapsed(), Duration::ZERO, "the circuit breaker is not open");
}

#[tokio::test]
async fn unreadable_record_can_be_deleted() {
    let World { board, memory, .. } = world(None);
    let version = Version::start();
    let broken = Record::new(1, version, "[broken", None);
    memory.save(board.key(), &broken, Precondition::Absent, None).await.unwrap();
    let error = board.read().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(StoreError::Corrupt { .. })), "{error:?}");
    assert!(board.send(Add { amount: 1 }).await.is_err());
    board.delete().await.unwrap();
    assert_eq!(board.read().await.unwrap().count, 0);
    board.send(Add { amount: 1 }).await.unwrap();
    assert_ne!(board.read().await.unwrap().version().epoch, version.epoch);
}

// In real time on one thread, so that a busy loop would keep other tasks from running.
#[tokio::test]
async fn law_13_constant_conflicts_do_not_delay_other_states() {
    let World { board, alive, store, .. } = world(None);
    board.send(Add { amount: 1 }).await.unwrap();
    store.set(StoreFault::Conflict);
    let asked = std::time::Instant::now();
    let stuck = tokio::spawn(async move { board.send(Add { amount: 1 }).await });
    let mut beats = 0;
    while !stuck.is_finished() {
        let asked = std::time::Instant::now();
        alive.send(Beat).await.unwrap();
        assert!(asked.elapsed() < DEADLINE, "another state waited {:?}", asked.elapsed());
        beats += 1;
        sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(stuck.await.unwrap(), Err(Error::TimedOut)));
    // The limits allow for a busy machine.
    assert!(asked.elapsed() < DEADLINE * 2);
    assert!(beats > 10 && store.saves() <= 10, "{beats} beats, {} saves", store.saves());
}

#[tokio::test(start_paused = true)]
async fn law_13_followers_see_a_recovered_store_within_five_seconds() {
    for fault in [StoreFault::Hang, StoreFault::HangAfter, StoreFault::Fail, StoreFault::FailAfter] {
        let World { registry, board, memory, store, .. } = world(None);
        board.send(Add { amount: 1 }).await.unwrap();
        let mut tab = Tab::open(&registry, &Viewer::application(), &["board", "board.lines"]).await;
        store.set(fault);
        board.send(Add { amount: 1 }).await.unwrap_err();
        sleep(Duration::from_secs(30)).await;
        store.set(StoreFault::None);
        sleep(Duration::from_secs(5)).await;
        tab.read();
        let data = memory.load(&tab.key, None).await.unwrap().record.unwrap().data;
        let stored: Board = serde_json::from_slice(&data).unwrap();
        tab.shows(&stored).unwrap_or_else(|failure| panic!("after {fault:?}: {failure}"));
        assert_eq!(board.read().await.unwrap().count, stored.count);
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_deletion_of_unknown_outcome_is_resolved_by_a_load() {
    for fault in [StoreFault::HangAfter, StoreFault::FailAfter, StoreFault::Hang, StoreFault::Fail] {
        let World { registry, board, memory, store, .. } = world(None);
        board.send(Add { amount: 1 }).await.unwrap();
        let mut tab = Tab::open(&registry, &Viewer::application(), &["board"]).await;
        store.set_deletes(fault);
        board.delete().await.unwrap_err();
        store.set_deletes(StoreFault::None);
        sleep(Duration::from_secs(5)).await;
        let stored = memory.load(&tab.key, None).await.unwrap().record;
        let count = stored.map_or(0, |record| serde_json::from_slice::<Board>(&record.data).unwrap().count);
        assert_eq!(board.read().await.unwrap().count, count, "after {fault:?}");
        tab.read();
        tab.shows(&board.read().await.unwrap())
            .unwrap_or_else(|failure| panic!("after {fault:?}: {failure}"));
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_dead_store_does_not_let_records_of_another_expire() {
    let ttl = Duration::from_secs(60);
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let dead = FaultyStore::new(Arc::clone(&memory));
    let registry = StateRegistry::builder()
        .store(Arc::clone(&dead))
        .state::<Board>(StateConfig::session().access(Access::public()).ttl(ttl).persist(), |state| {
            state.event::<Add>()
        })
        .state::<Alive>(StateConfig::global().access(Access::public()).ttl(ttl), |state| {
            state.event::<Beat>()
        })
        .build()
        .unwrap();
    // Many records of the dead store are in use as well.
    let mut tabs = Vec::new();
    for session in 0..100 {
        let viewer = Viewer::session(SessionId::from_bytes([session; 16]));
        registry.handle::<Board>(&viewer, None).unwrap().send(Add { amount: 1 }).await.unwrap();
        tabs.push(Tab::open(&registry, &viewer, &["board"]).await);
    }
    let alive = registry.global::<Alive>().unwrap();
    alive.send(Beat).await.unwrap();
    let mut tab = Tab::open(&registry, &Viewer::application(), &["alive"]).await;
    dead.set(StoreFault::Hang);
    sleep(ttl * 20).await;
    assert_eq!(alive.read().await.unwrap().beats, 1, "the record expired");
    assert_eq!(tab.read(), 0);
    tab.follows(&*alive.read().await.unwrap());

    // Records that expired in the dead store start over for their followers once the store recovers.
    dead.set(StoreFault::None);
    sleep(Duration::from_secs(40)).await;
    for tab in &mut tabs {
        tab.read();
        tab.shows(&Board::default()).unwrap();
    }
}
