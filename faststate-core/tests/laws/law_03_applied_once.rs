//! Law 3: an event id is applied at most once per key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use faststate_core::{
    Access, Context, Error, Event, EventId, Handle, MemoryStore, ReactiveState, Registry, Rejection,
    SessionId, StateConfig, StateRegistry, Store, Viewer, registry::Applied,
};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::{spawn, time::Instant};

use crate::board::{Add, add, board, registry, registry_with_long_deadline, with};

fn id(text: &str) -> EventId {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_03_event_sent_a_hundred_times_at_once_applies_once() {
    let registry = registry_with_long_deadline();
    let key = registry.key("board", &Viewer::application(), None).unwrap();
    let calls = (0..100).map(|_| {
        let (registry, call) = (Arc::clone(&registry), add(&key, 7, Some("click-1")));
        spawn(async move { registry.dispatch(call.wanting_view()).await.unwrap() })
    });
    let (mut changed, mut repeated) = (0, 0);
    for outcome in join_all(calls).await {
        let outcome = outcome.unwrap();
        changed += usize::from(outcome.answer == Applied::Changed);
        repeated += usize::from(outcome.answer == Applied::Repeated);
        let view = outcome.view.expect("the call requested a view").json();
        assert!(
            str::from_utf8(&view).unwrap().contains("\"count\":7"),
            "the current view, also for a repeat"
        );
    }
    assert_eq!((changed, repeated), (1, 99));
    assert_eq!(board(&registry).read().await.unwrap().count, 7);
}

#[tokio::test]
async fn law_03_events_with_different_ids_are_applied() {
    let registry = registry();
    let board = board(&registry);
    for (n, name) in ["a", "b", "A", "a "].into_iter().filter(|name| !name.ends_with(' ')).enumerate() {
        let outcome = board.send_as(Add { amount: 1 }, Viewer::application(), id(name)).await.unwrap();
        assert_eq!(outcome.answer, Applied::Changed, "{n}");
    }
    assert_eq!(board.read().await.unwrap().count, 3);
}

/// A purse, one per session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Purse {
    coins: i64,
    spent: i64,
}

impl ReactiveState for Purse {
    const NAME: &'static str = "purse";
}

#[derive(Serialize, Deserialize)]
struct Put {
    coins: i64,
}

impl Event for Put {
    type State = Purse;
    const NAME: &'static str = "put";

    fn apply(&self, purse: &mut Purse, _: &mut Context<Purse>) -> Result<(), Rejection> {
        purse.coins += self.coins;
        Ok(())
    }
}

/// Empties the purse. Rejects an empty purse, and panics if exactly 13 coins were spent before.
#[derive(Serialize, Deserialize)]
struct SpendAll;

impl Event for SpendAll {
    type State = Purse;
    const NAME: &'static str = "spend_all";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        assert_ne!(purse.spent, 13, "an unlucky purse");
        if purse.coins == 0 {
            return Err(Rejection::conflict("the purse is empty"));
        }
        purse.spent += std::mem::take(&mut purse.coins);
        context.after(|_| async {
            WORKED.fetch_add(1, Ordering::SeqCst);
        });
        Ok(())
    }
}

static WORKED: AtomicUsize = AtomicUsize::new(0);

fn purses(cap: usize) -> Arc<StateRegistry> {
    StateRegistry::builder()
        .max_instances(cap)
        .state::<Purse>(StateConfig::session().access(Access::public()), |state| {
            state.event::<Put>().event::<SpendAll>()
        })
        .build()
        .unwrap()
}

fn purse(registry: &Arc<StateRegistry>, session: u8) -> Handle<Purse> {
    registry.handle(&Viewer::session(SessionId::from_bytes([session; 16])), None).unwrap()
}

#[tokio::test]
async fn law_03_repeat_is_recognised_before_apply_refuses_or_panics() {
    let registry = purses(100);
    for coins in [5, 13] {
        let purse = purse(&registry, u8::try_from(coins).unwrap());
        purse.send(Put { coins }).await.unwrap();
        let spend = || purse.send_as(SpendAll, Viewer::application(), id("spend"));
        let before = WORKED.load(Ordering::SeqCst);
        assert_eq!(spend().await.unwrap().answer, Applied::Changed);
        registry.settle().await;
        for _ in 0..3 {
            assert_eq!(spend().await.unwrap().answer, Applied::Repeated, "with {coins}");
        }
        registry.settle().await;
        assert_eq!(WORKED.load(Ordering::SeqCst), before + 1, "a repeat starts no background work");
        assert_eq!(purse.read().await.unwrap().spent, coins);
    }
}

#[tokio::test]
async fn law_03_rejected_event_can_be_sent_again() {
    let registry = purses(100);
    let purse = purse(&registry, 200);
    let spend = || purse.send_as(SpendAll, Viewer::application(), id("spend"));
    assert!(matches!(spend().await, Err(Error::Rejected(_))));
    assert!(
        matches!(spend().await, Err(Error::Rejected(_))),
        "a rejected event was not applied, so it is no repeat"
    );
    purse.send(Put { coins: 2 }).await.unwrap();
    assert_eq!(spend().await.unwrap().answer, Applied::Changed);
    assert_eq!(spend().await.unwrap().answer, Applied::Repeated);
    assert_eq!(purse.read().await.unwrap().spent, 2);
}

#[tokio::test]
async fn law_03_repeat_is_recognised_after_eviction_and_deletion() {
    let registry = purses(1);
    let (first, second) = (purse(&registry, 1), purse(&registry, 2));
    let put = || first.send_as(Put { coins: 1 }, Viewer::application(), id("put"));
    assert_eq!(put().await.unwrap().answer, Applied::Changed);
    // There is room for one instance, so the second one evicts the first.
    crate::board::until("the second purse finds room", async || second.read().await.is_ok()).await;
    crate::board::until("the first purse finds room", async || first.read().await.is_ok()).await;
    assert_eq!(put().await.unwrap().answer, Applied::Repeated, "evicted");
    assert_eq!(first.read().await.unwrap().coins, 1);
    first.delete().await.unwrap();
    assert_eq!(put().await.unwrap().answer, Applied::Repeated, "deleted");
    assert_eq!(first.read().await.unwrap().coins, 0);
}

#[tokio::test(start_paused = true)]
async fn law_03_receipt_is_kept_for_ten_minutes() {
    let registry = registry();
    let board = board(&registry);
    let send = || board.send_as(Add { amount: 1 }, Viewer::application(), id("once"));
    assert_eq!(send().await.unwrap().answer, Applied::Changed);
    tokio::time::sleep(Duration::from_secs(595)).await;
    assert_eq!(send().await.unwrap().answer, Applied::Repeated);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(send().await.unwrap().answer, Applied::Changed, "receipts do not accumulate");
}

#[tokio::test(start_paused = true)]
async fn law_03_unknown_outcome_is_resolved_and_never_applied_twice() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(Arc::clone(&memory));
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    let send = |name: &'static str| board.send_as(Add { amount: 1 }, Viewer::application(), id(name));
    let mut count = 0;
    for (name, fault, known) in [
        ("fail", StoreFault::Fail, true),
        ("fail-after", StoreFault::FailAfter, true),
        ("hang", StoreFault::Hang, false),
        ("hang-after", StoreFault::HangAfter, false),
    ] {
        store.next_saves([fault]);
        let arrived = Instant::now();
        let outcome = send(name).await;
        assert!(arrived.elapsed() <= Duration::from_secs(2), "{fault:?} took {:?}", arrived.elapsed());
        if !known {
            assert!(matches!(outcome, Err(Error::OutcomeUnknown)), "{fault:?}: {outcome:?}");
        } else {
            assert!(outcome.is_ok(), "{fault:?}: {outcome:?}");
        }
        count += 1;
        for _ in 0..3 {
            send(name).await.unwrap();
            assert_eq!(board.read().await.unwrap().count, count, "after {fault:?}");
        }
        assert_eq!(send(name).await.unwrap().answer, Applied::Repeated);
    }
}
