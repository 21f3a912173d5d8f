//! Law 16: a message arrives once, a timer fires once, and a job runs at least once.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use faststate_core::{
    Access, Error, EventId, Handle, MemoryStore, Registry, StateConfig, StateRegistry, Store, Viewer,
    internal::follow_tokio_time, registry::MessageAction,
};
use faststate_testkit::messages::HeldMessages;
use tokio::time::{Instant, sleep};

use crate::bank::{
    Account, CancelTimer, Close, Mail, OPENING_BALANCE, Outbound, RequestMail, SetTimer, Tick, Transfer,
    accounts, persisted,
};

fn bank(store: &Arc<MemoryStore>) -> Arc<StateRegistry> {
    follow_tokio_time();
    accounts(StateRegistry::builder().store(Arc::clone(store)), persisted()).build().unwrap()
}

fn account(registry: &Arc<StateRegistry>, id: &str) -> Handle<Account> {
    registry.record(id).unwrap()
}

fn transfer(to: &str, amount: i64, number: u32) -> Transfer {
    Transfer { to: to.to_owned(), amount, number }
}

/// Returns the time of day in tests with paused time.
fn now() -> SystemTime {
    follow_tokio_time();
    faststate_core::internal::now()
}

#[tokio::test(start_paused = true)]
async fn law_16_message_is_applied_once_and_confirmed() {
    let store = Arc::new(MemoryStore::new());
    let registry = bank(&store);
    let (ann, bob) = (account(&registry, "ann"), account(&registry, "bob"));
    ann.send(transfer("bob", 30, 1)).await.unwrap();
    registry.settle().await;
    let (a, b) = (ann.read().await.unwrap(), bob.read().await.unwrap());
    assert_eq!((a.balance, a.sent, a.accepted, a.refused), (OPENING_BALANCE - 30, 1, 1, 0));
    assert_eq!((b.balance, b.received), (OPENING_BALANCE + 30, 1));
    assert_eq!(store.pending(9).await.unwrap(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn law_16_rejection_of_the_target_is_an_answer() {
    let registry = bank(&Arc::new(MemoryStore::new()));
    let (ann, bob) = (account(&registry, "ann"), account(&registry, "bob"));
    bob.send(Close {}).await.unwrap();
    ann.send(transfer("bob", 30, 1)).await.unwrap();
    registry.settle().await;
    let a = ann.read().await.unwrap();
    assert_eq!((a.balance, a.accepted, a.refused), (OPENING_BALANCE, 0, 1));
    assert_eq!(a.last_reason, "the account is closed");
}

#[tokio::test(start_paused = true)]
async fn law_16_messages_to_one_target_arrive_in_order() {
    let registry = bank(&Arc::new(MemoryStore::new()));
    let (ann, bob) = (account(&registry, "ann"), account(&registry, "bob"));
    for number in 0..50 {
        ann.send(transfer("bob", 1, number)).await.unwrap();
    }
    registry.settle().await;
    assert_eq!(bob.read().await.unwrap().numbers, (0..50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn law_16_message_of_a_dead_node_is_delivered_by_another() {
    let store = Arc::new(MemoryStore::new());
    let first = bank(&store);
    let ann = account(&first, "ann");
    ann.send(transfer("bob", 30, 1)).await.unwrap();
    drop((ann, first));
    let second = bank(&store);
    sleep(Duration::from_secs(10)).await;
    second.settle().await;
    let (a, b) =
        (account(&second, "ann").read().await.unwrap(), account(&second, "bob").read().await.unwrap());
    assert_eq!((a.balance, a.accepted, b.balance, b.received), (70, 1, 130, 1));
}

#[tokio::test(start_paused = true)]
async fn law_16_timer_fires_once_within_a_second() {
    let at = now() + Duration::from_secs(60);
    let store = Arc::new(MemoryStore::new());
    let registry = bank(&store);
    let ann = account(&registry, "ann");
    ann.send(SetTimer { name: "a".into(), at }).await.unwrap();
    ann.send(SetTimer { name: "gone".into(), at }).await.unwrap();
    ann.send(CancelTimer { name: "gone".into() }).await.unwrap();
    sleep(Duration::from_millis(59_990)).await;
    assert_eq!(ann.read().await.unwrap().ticks, 0);
    let due = Instant::now();
    while ann.read().await.unwrap().ticks == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(due.elapsed() < Duration::from_secs(1), "{:?}", due.elapsed());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ann.read().await.unwrap().ticks, 1);
}

#[tokio::test(start_paused = true)]
async fn law_16_timer_due_during_downtime_fires_at_startup() {
    let at = now() + Duration::from_secs(60);
    let store = Arc::new(MemoryStore::new());
    {
        let registry = bank(&store);
        account(&registry, "ann").send(SetTimer { name: "a".into(), at }).await.unwrap();
        registry.leave().await;
    }
    sleep(Duration::from_secs(600)).await;
    let registry = bank(&store);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(account(&registry, "ann").read().await.unwrap().ticks, 1);
}

#[tokio::test(start_paused = true)]
async fn law_16_job_is_retried_under_one_id_and_parked_when_it_gives_up() {
    let store = Arc::new(MemoryStore::new());
    let registry = bank(&store);
    let ann = account(&registry, "ann");
    let ids = || ann.resource::<Outbound>().unwrap().0.lock().clone();
    ann.send(RequestMail { failures: 3, gives_up: false }).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ids().len(), 4);
    assert!(ids().iter().all(|id| *id == ids()[0]));
    ann.send(RequestMail { failures: 1, gives_up: true }).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ids().len(), 5);
    let pending = store.pending(9).await.unwrap();
    assert_eq!((pending.waiting, pending.parked), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn law_16_state_without_declaration_sends_nothing() {
    let store = Arc::new(MemoryStore::new());
    let config = StateConfig::record().access(Access::public()).persist();
    let registry = StateRegistry::builder()
        .store(Arc::clone(&store))
        .state::<Account>(config, |state| state.event::<Transfer>().message::<crate::bank::Deposit>())
        .build()
        .unwrap();
    let ann = account(&registry, "ann");
    let refused = ann.send(transfer("bob", 30, 1)).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
    assert_eq!(ann.read().await.unwrap().balance, OPENING_BALANCE);
}

#[tokio::test(start_paused = true)]
async fn law_16_repeated_event_sends_its_message_once() {
    let registry = bank(&Arc::new(MemoryStore::new()));
    let (ann, bob) = (account(&registry, "ann"), account(&registry, "bob"));
    let id: EventId = "once".parse().unwrap();
    for _ in 0..3 {
        ann.send_as(transfer("bob", 10, 1), Viewer::application(), id.clone()).await.unwrap();
    }
    registry.settle().await;
    assert_eq!((ann.read().await.unwrap().balance, bob.read().await.unwrap().balance), (90, 110));
}

#[tokio::test(start_paused = true)]
async fn law_16_parked_job_is_retried_or_dropped_by_an_operator() {
    let store = Arc::new(MemoryStore::new());
    let registry = bank(&store);
    let ann = account(&registry, "ann");
    let ids = || ann.resource::<Outbound>().unwrap().0.lock().clone();
    for _ in 0..2 {
        ann.send(RequestMail { failures: 1, gives_up: true }).await.unwrap();
    }
    registry.settle().await;
    let parked = registry.unfinished_messages(9).await.unwrap();
    assert_eq!(parked.len(), 2);
    assert_eq!((&*parked[0].kind, parked[0].parked.as_deref()), ("job mail", Some("no such address")));
    let attempts = ids().len();
    registry.resolve_message(&parked[0], MessageAction::Retry).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ids().len(), attempts + 1, "the retried job runs once more");
    registry.resolve_message(&parked[1], MessageAction::Drop).await.unwrap();
    let gone = registry.resolve_message(&parked[1], MessageAction::Drop).await;
    assert!(matches!(gone, Err(Error::Unknown)), "{gone:?}");
    assert_eq!(registry.unfinished_messages(9).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn law_16_application_schedules_timers_and_requests_jobs() {
    let at = now() + Duration::from_secs(5);
    let store = Arc::new(MemoryStore::new());
    let registry = bank(&store);
    let ann = account(&registry, "ann");
    ann.schedule("a", at, Tick {}).await.unwrap();
    ann.schedule("b", at, Tick {}).await.unwrap();
    ann.cancel("b").await.unwrap();
    registry.run(Mail::new(0)).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(ann.read().await.unwrap().ticks, 1);
    assert_eq!(ann.resource::<Outbound>().unwrap().0.lock().len(), 1);
    let health = registry.health().await.messages.unwrap();
    assert_eq!((health.pending, health.parked, health.oldest_ms), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn law_16_duplicated_and_lost_deliveries_apply_a_message_once() {
    follow_tokio_time();
    let messages = HeldMessages::new();
    let store = Arc::new(MemoryStore::new());
    let builder = messages.hold(StateRegistry::builder().store(Arc::clone(&store)));
    let registry = accounts(builder, persisted()).build().unwrap();
    let (ann, bob) = (account(&registry, "ann"), account(&registry, "bob"));
    ann.send(transfer("bob", 10, 1)).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    messages.assert_pending(&["message to Key(account/r/bob)"]);
    messages.lose_next().await;
    messages.lose_next_answer().await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bob.read().await.unwrap().balance, 110);
    messages.duplicate_next().await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!((ann.read().await.unwrap().accepted, bob.read().await.unwrap().balance), (1, 110));
    messages.assert_pending(&[]);

    // A refusal is kept as well, although the account is opened in the meantime.
    bob.send(Close {}).await.unwrap();
    ann.send(transfer("bob", 10, 2)).await.unwrap();
    messages.lose_next_answer().await;
    sleep(Duration::from_millis(1)).await;
    bob.update(|bob| {
        bob.closed = false;
        Ok(())
    })
    .await
    .unwrap();
    messages.deliver_next().await;
    registry.settle().await;
    let a = ann.read().await.unwrap();
    assert_eq!((a.refused, a.balance, bob.read().await.unwrap().balance), (1, 90, 110));
}
