//! The circuit breaker of a store.

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
    Record::new(1, Version::start(), "{}", None)
}

async fn save(store: &impl Store) -> Result<(), StoreError> {
    store.save(&key(), &record(), Precondition::Absent, None).await.map(drop)
}

fn is_resting(outcome: &Result<(), StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable(error)) if error.is::<CircuitOpen>())
}

/// Measures how long it takes until the store is called again.
async fn recovery(guarded: &CircuitBreaker<Arc<FaultyStore>>) -> Duration {
    let started = Instant::now();
    while load(guarded).await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn circuit_breaker_passes_the_store_suite() {
    let store: Arc<dyn Store> = guarded().1;
    suites::store::all(&store, &store).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_13_calls_fail_at_deadline_then_immediately() {
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
        assert!(error.contains("not called until it answers"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_recovered_store_is_retried_within_2250_ms() {
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
async fn only_consecutive_failures_open_the_circuit() {
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
    let record = Record::new(1, Version::start(), "{}", None);
    for _ in 0..10 {
        let refused = full.save(&key(), &record, Precondition::Absent, None).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    }
    assert!(!guarded.is_resting() && !full.is_resting());
}

#[tokio::test(start_paused = true)]
async fn abandoned_call_counts_after_half_the_deadline() {
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
async fn late_failure_does_not_reopen_the_circuit() {
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
async fn save_of_unknown_outcome_is_not_retried() {
    let (store, guarded) = guarded();
    let record = Record::new(1, Version::start(), "{}", None);
    store.next_saves([StoreFault::HangAfter]);
    guarded.save(&key(), &record, Precondition::Absent, None).await.unwrap_err();
    assert_eq!(guarded.load(&key(), None).await.unwrap().record, Some(record.clone()));
    let again = guarded.save(&key(), &record, Precondition::Absent, None).await.unwrap();
    assert_eq!(again, SaveOutcome::Conflict);
}

#[tokio::test(start_paused = true)]
async fn dropped_circuit_breaker_stops_probing() {
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
async fn law_13_few_saves_probe_store_that_answers_only_pings() {
    let (store, guarded) = guarded();
    store.next_saves(repeat_n(StoreFault::Hang, 100_000));
    let began = Instant::now();
    // 200 callers that each retry after 50 ms.
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
    // 200 saves before the circuit opens, and at most 3 trials per 2 s of waiting and 0.8 s of pause.
    assert!(store.saves() <= 200 + 3 * 25, "{} saves", store.saves());
    assert!(slow <= 200 + 3 * 25, "{slow} saves waited");
    assert!(store.saves() >= 200 + 15, "the store is probed: {} saves", store.saves());
}

#[tokio::test(start_paused = true)]
async fn law_13_successful_trial_closes_the_save_circuit() {
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
async fn law_13_pauses_grow_across_failed_trials() {
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
async fn law_13_loads_and_saves_have_separate_circuits() {
    let (store, guarded) = guarded();
    store.next_saves(repeat_n(StoreFault::Fail, 1_000));
    // Each load in between succeeds.
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
async fn law_13_timeouts_of_a_responding_store_do_not_count() {
    let (store, guarded) = guarded();
    // The loads of the last 2 s time out although the store responds all the time.
    store.set(StoreFault::Queue(Duration::from_millis(10)));
    let outcomes = join_all((0..400).map(|_| load(&guarded))).await;
    let late = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!((190..=210).contains(&late), "{late} loads were late");
    assert!(!guarded.is_resting());
}
