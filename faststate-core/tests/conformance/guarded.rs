//! A store that is asked only while it answers.

use std::{error::Error as _, sync::Arc, time::Duration};

use faststate_core::{
    Key, MemoryStore, Scope, Store, Version, conformance,
    store::{Expect, Guarded, Record, Resting, Saving, StoreError},
    testing::faults::{FaultyStore, StoreFault},
};
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(2);

fn guarded() -> (Arc<FaultyStore>, Arc<Guarded<Arc<FaultyStore>>>) {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    (Arc::clone(&store), Arc::new(Guarded::new(store)))
}

fn key() -> Key {
    Key::new("test", Scope::Global, None, None).unwrap()
}

async fn load(store: &impl Store) -> Result<(), StoreError> {
    store.load(&key(), None).await.map(drop)
}

fn is_resting(outcome: &Result<(), StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable(error)) if error.is::<Resting>())
}

/// How long it takes until the store is asked again.
async fn recovery(guarded: &Guarded<Arc<FaultyStore>>) -> Duration {
    let started = Instant::now();
    while guarded.is_resting() {
        sleep(Duration::from_millis(1)).await;
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_guarded_store_keeps_a_stores_promises() {
    let store: Arc<dyn Store> = guarded().1;
    conformance::store::all(&store, &store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_13_a_dead_store_fails_by_the_deadline_and_then_at_once() {
    for fault in [StoreFault::Hang, StoreFault::HangAfter, StoreFault::Slow(Duration::from_secs(3))] {
        let (store, guarded) = guarded();
        store.set(fault);
        for _ in 0..3 {
            let asked = Instant::now();
            assert!(!is_resting(&load(&guarded).await), "{fault:?}");
            assert_eq!(asked.elapsed(), DEADLINE);
        }
        let asked = Instant::now();
        let loads = store.loads();
        let outcomes = join_all((0..100).map(|_| load(&guarded))).await;
        assert!(outcomes.iter().all(is_resting), "{fault:?}: {outcomes:?}");
        assert_eq!((asked.elapsed(), store.loads()), (Duration::ZERO, loads));
        let error = outcomes[0].as_ref().unwrap_err().source().unwrap().to_string();
        assert!(error.contains("not asked until it answers"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_a_store_that_comes_back_is_asked_again_soon_however_long_it_was_away() {
    for away in [0, 1, 10, 3600] {
        for fault in [StoreFault::Fail, StoreFault::Hang] {
            let (store, guarded) = guarded();
            store.set(fault);
            join_all((0..3).map(|_| load(&guarded))).await;
            assert!(guarded.is_resting());
            sleep(Duration::from_secs(away)).await;
            assert!(away == 0 || guarded.is_resting());
            store.set(StoreFault::None);
            let recovery = recovery(&guarded).await;
            assert!(recovery <= Duration::from_millis(2_250), "{fault:?} for {away} s: {recovery:?}");
            load(&guarded).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_failures_in_a_row_make_it_rest_and_a_refusal_is_an_answer() {
    let (store, guarded) = guarded();
    for _ in 0..10 {
        store.set(StoreFault::Fail);
        for _ in 0..2 {
            load(&guarded).await.unwrap_err();
        }
        store.set(StoreFault::None);
        load(&guarded).await.unwrap();
    }
    let full = Guarded::new(MemoryStore::with_limits(0, 0));
    let record = Record { schema: 1, version: Version::start(), data: "{}".into(), ttl: None };
    for _ in 0..10 {
        let refused = full.save(&key(), &record, Expect::Absent, None).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    }
    assert!(!guarded.is_resting() && !full.is_resting());
}

#[tokio::test(start_paused = true)]
async fn callers_that_give_up_first_are_heard_too_unless_they_were_hasty() {
    let (store, guarded) = guarded();
    store.set(StoreFault::Hang);
    for _ in 0..10 {
        timeout(DEADLINE / 4, load(&guarded)).await.unwrap_err();
    }
    assert!(!guarded.is_resting());
    for _ in 0..3 {
        timeout(DEADLINE / 2, load(&guarded)).await.unwrap_err();
    }
    assert!(guarded.is_resting());
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_the_rest_says_nothing_about_the_store_after_it() {
    let (store, guarded) = guarded();
    store.set(StoreFault::Hang);
    let late: Vec<_> = (0..10)
        .map(|_| {
            let guarded = Arc::clone(&guarded);
            tokio::spawn(async move { load(&guarded).await })
        })
        .collect();
    sleep(DEADLINE / 2).await;
    store.set(StoreFault::Fail);
    for _ in 0..3 {
        load(&guarded).await.unwrap_err();
    }
    store.set(StoreFault::None);
    recovery(&guarded).await;
    for outcome in join_all(late).await {
        outcome.unwrap().unwrap_err();
    }
    assert!(!guarded.is_resting());
}

#[tokio::test(start_paused = true)]
async fn a_save_of_unknown_outcome_stays_what_it_is() {
    let (store, guarded) = guarded();
    let record = Record { schema: 1, version: Version::start(), data: "{}".into(), ttl: None };
    store.next_saves([StoreFault::HangAfter]);
    guarded.save(&key(), &record, Expect::Absent, None).await.unwrap_err();
    assert_eq!(guarded.load(&key(), None).await.unwrap().record, Some(record.clone()));
    let again = guarded.save(&key(), &record, Expect::Absent, None).await.unwrap();
    assert_eq!(again, Saving::Conflict);
}

#[tokio::test(start_paused = true)]
async fn nobody_asks_a_store_that_nobody_has_any_more() {
    let (store, guarded) = guarded();
    store.set(StoreFault::Fail);
    for _ in 0..3 {
        load(&guarded).await.unwrap_err();
    }
    drop(guarded);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(Arc::strong_count(&store), 1);
}
