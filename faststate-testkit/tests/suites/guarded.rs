//! A store that is asked only while it answers.

use std::{error::Error as _, iter::repeat_n, sync::Arc, time::Duration};

use faststate_core::{
    Key, MemoryStore, Scope, Store, Version,
    store::{CircuitBreaker, CircuitOpen, Precondition, Record, SaveOutcome, StoreError},
};
use faststate_testkit::{
    faults::{FaultyStore, StoreFault},
    suites,
};
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(2);

fn guarded() -> (Arc<FaultyStore>, Arc<CircuitBreaker<Arc<FaultyStore>>>) {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    (Arc::clone(&store), Arc::new(CircuitBreaker::new(store)))
}

fn key() -> Key {
    Key::new("test", Scope::Global, None, None).unwrap()
}

async fn load(store: &impl Store) -> Result<(), StoreError> {
    store.load(&key(), None).await.map(drop)
}

fn record() -> Record {
    Record { schema: 1, version: Version::start(), data: "{}".into(), ttl: None }
}

async fn save(store: &impl Store) -> Result<(), StoreError> {
    store.save(&key(), &record(), Precondition::Absent, None).await.map(drop)
}

fn is_resting(outcome: &Result<(), StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable(error)) if error.is::<CircuitOpen>())
}

/// How long it takes until the store is asked again.
async fn recovery(guarded: &CircuitBreaker<Arc<FaultyStore>>) -> Duration {
    let started = Instant::now();
    while load(guarded).await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_guarded_store_keeps_a_stores_promises() {
    let store: Arc<dyn Store> = guarded().1;
    suites::store::all(&store, &store).await.unwrap();
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
            assert!(!guarded.is_resting());
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
    let full = CircuitBreaker::new(MemoryStore::with_limits(0, 0));
    let record = Record { schema: 1, version: Version::start(), data: "{}".into(), ttl: None };
    for _ in 0..10 {
        let refused = full.save(&key(), &record, Precondition::Absent, None).await;
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
    guarded.save(&key(), &record, Precondition::Absent, None).await.unwrap_err();
    assert_eq!(guarded.load(&key(), None).await.unwrap().record, Some(record.clone()));
    let again = guarded.save(&key(), &record, Precondition::Absent, None).await.unwrap();
    assert_eq!(again, SaveOutcome::Conflict);
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

#[tokio::test(start_paused = true)]
async fn law_13_few_saves_try_a_store_that_answers_pings_only() {
    let (store, guarded) = guarded();
    store.next_saves(repeat_n(StoreFault::Hang, 100_000));
    let began = Instant::now();
    // 200 callers, each of which tries again after a pause.
    let callers = (0..200).map(|_| async {
        let mut slow = 0;
        while began.elapsed() < Duration::from_secs(60) {
            let asked = Instant::now();
            save(&guarded).await.unwrap_err();
            slow += usize::from(!asked.elapsed().is_zero());
            sleep(Duration::from_millis(50)).await;
        }
        slow
    });
    let slow: usize = join_all(callers).await.into_iter().sum();
    // 200 before the rest, and up to 3 for each 2 s of waiting and 0.8 s of pause.
    assert!(store.saves() <= 200 + 3 * 25, "{} saves", store.saves());
    assert!(slow <= 200 + 3 * 25, "{slow} saves waited");
    assert!(store.saves() >= 200 + 15, "the store is tried: {} saves", store.saves());
}

#[tokio::test(start_paused = true)]
async fn law_13_a_trial_that_succeeds_ends_the_rest_of_saves() {
    let (store, guarded) = guarded();
    store.next_saves(repeat_n(StoreFault::Fail, 3));
    for _ in 0..3 {
        assert!(!is_resting(&save(&guarded).await));
    }
    assert!(is_resting(&save(&guarded).await) && guarded.is_save_resting());
    sleep(Duration::from_millis(200)).await;
    store.set(StoreFault::Slow(Duration::from_millis(50)));
    let outcomes = join_all((0..100).map(|_| save(&guarded))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3, "trial calls");
    assert!(!guarded.is_save_resting());
    let outcomes = join_all((0..100).map(|_| save(&guarded))).await;
    assert!(outcomes.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn law_13_pauses_keep_growing_across_failed_trials() {
    let (store, guarded) = guarded();
    store.next_saves(repeat_n(StoreFault::Fail, 100_000));
    let mut attempts = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if !is_resting(&save(&guarded).await) {
            attempts.push(began.elapsed());
        }
        sleep(Duration::from_millis(1)).await;
    }
    let pauses: Vec<_> = attempts[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] < Duration::from_millis(200), "{pauses:?}");
    assert!(pauses[3..].iter().all(|pause| *pause >= Duration::from_millis(800)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn law_13_loads_and_saves_rest_apart() {
    let (store, guarded) = guarded();
    store.next_saves(repeat_n(StoreFault::Fail, 1_000));
    // Each load between them is answered.
    for _ in 0..3 {
        save(&guarded).await.unwrap_err();
        load(&guarded).await.unwrap();
    }
    assert!(is_resting(&save(&guarded).await));
    assert!(guarded.is_save_resting() && !guarded.is_resting());
    load(&guarded).await.unwrap();
    assert!(guarded.ping().await.is_err(), "a store that cannot write is not healthy");
}

#[tokio::test(start_paused = true)]
async fn law_13_a_call_that_fails_while_others_are_answered_counts_for_nothing() {
    let (store, guarded) = guarded();
    // The loads of the last two seconds time out, although the store answers all the time.
    store.set(StoreFault::Queue(Duration::from_millis(10)));
    let outcomes = join_all((0..400).map(|_| load(&guarded))).await;
    let late = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!((190..=210).contains(&late), "{late} loads were late");
    assert!(!guarded.is_resting());
}
