//! Law 16: the outcomes of messages that are not applied. None of them stops other messages.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Access, Error, Handle, MemoryStore, Registry as _, StateConfig, StateRegistry, Store as _,
    internal::follow_tokio_time, registry::MessageAction,
};
use faststate_testkit::CapturedLog;
use tokio::time::sleep;

use crate::office::{
    Ball, Chores, Desk, Office, Open, Reaction, Send, SendAll, SendMany, Task, office_registry, offices,
    offices_with, only_unfinished, rewrite_pending, unfinished,
};

/// The time within which a node takes over the messages of a dead node, delivers them and settles them.
const TAKE_OVER: Duration = Duration::from_secs(8);

fn office(registry: &Arc<StateRegistry>) -> Handle<Office> {
    registry.record("office").unwrap()
}

async fn desk(registry: &Arc<StateRegistry>, id: &str) -> Desk {
    let desk: Handle<Desk> = registry.record(id).unwrap();
    (*desk.read().await.unwrap()).clone()
}

/// A store and a registry over it.
fn start() -> (Arc<MemoryStore>, Arc<StateRegistry>) {
    follow_tokio_time();
    let store = Arc::new(MemoryStore::new());
    let registry = office_registry(&store, &Chores::default());
    (store, registry)
}

/// Checks that the office still sends messages.
async fn works(registry: &Arc<StateRegistry>) {
    let before = (desk(registry, "other").await.tasks, office(registry).read().await.unwrap().done);
    office(registry).send(Send::to("other")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let after = (desk(registry, "other").await.tasks, office(registry).read().await.unwrap().done);
    assert_eq!(after, (before.0 + 1, before.1 + 1), "another message is delivered and confirmed");
}

/// Sends an event on a node that dies before it delivers the message.
async fn send_and_die(store: &Arc<MemoryStore>, event: Send) {
    let registry = office_registry(store, &Chores::default());
    office(&registry).send(event).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_16_message_to_a_missing_record_is_parked() {
    let (_, registry) = start();
    office(&registry).send(Send::to("missing")).await.unwrap();
    registry.settle().await;
    let (parked, waiting) = unfinished(&registry).await;
    assert_eq!((parked.len(), waiting), (1, 0));
    assert!(parked[0].contains("does not exist"), "{parked:?}");
    works(&registry).await;
    // It does not stop another message to the same target either.
    office(&registry).send(Send::to("missing")).await.unwrap();
    registry.settle().await;
    assert_eq!(unfinished(&registry).await.0.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn law_16_message_to_an_event_that_a_deployment_removed_is_parked_and_retried() {
    let (store, registry) = start();
    drop(registry);
    send_and_die(&store, Send::to("good")).await;
    // The new version of the application does not have the event `task`.
    let newer = StateRegistry::builder()
        .store(Arc::clone(&store))
        .state::<Office>(StateConfig::record().access(Access::public()).persist().sends_messages(), |state| {
            state.event::<Send>().message::<crate::office::FollowUp>()
        })
        .state::<Desk>(StateConfig::record().access(Access::public()).persist(), |state| state)
        .build()
        .unwrap();
    sleep(TAKE_OVER).await;
    let (parked, _) = unfinished(&newer).await;
    assert!(parked[0].contains("no event named `task`"), "{parked:?}");
    drop(newer);
    // The next one has it again, and an operator retries the message.
    let registry = office_registry(&store, &Chores::default());
    let message = only_unfinished(&registry).await;
    registry.resolve_message(&message, MessageAction::Retry).await.unwrap();
    sleep(TAKE_OVER).await;
    assert_eq!(unfinished(&registry).await, (vec![], 0));
    assert_eq!((desk(&registry, "good").await.tasks, office(&registry).read().await.unwrap().done), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn law_16_message_that_does_not_decode_is_parked() {
    let (store, registry) = start();
    drop(registry);
    send_and_die(&store, Send::to("good")).await;
    let registry = office_registry(&store, &Chores::default());
    let key = office(&registry).key().clone();
    rewrite_pending(&store, &key, |text| text.replace(r#"{"task":"Accept","#, r#"{"work":"Accept","#)).await;
    sleep(TAKE_OVER).await;
    let (parked, waiting) = unfinished(&registry).await;
    assert_eq!((parked.len(), waiting), (1, 0));
    assert!(parked[0].contains("does not decode"), "{parked:?}");
    works(&registry).await;
}

#[tokio::test(start_paused = true)]
async fn law_16_pending_data_that_does_not_decode_stops_no_other_record() {
    let (store, registry) = start();
    drop(registry);
    for _ in 0..2 {
        send_and_die(&store, Send::to("good")).await;
    }
    let registry = office_registry(&store, &Chores::default());
    let key = office(&registry).key().clone();
    rewrite_pending(&store, &key, |_| "[{}]".to_owned()).await;
    let other: Handle<Office> = registry.record("another").unwrap();
    other.send(Send::to("good")).await.unwrap();
    sleep(TAKE_OVER).await;
    assert_eq!(other.read().await.unwrap().done, 1);
    assert!(office(&registry).send(Open {}).await.is_err(), "nothing overwrites the messages");
    assert_eq!(store.pending(9).await.unwrap().waiting, 2);
}

#[tokio::test(start_paused = true)]
async fn law_16_target_that_rejects_is_asked_once() {
    let (_, registry) = start();
    office(&registry).send(Send::to("good").task(Reaction::Reject)).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(office(&registry).read().await.unwrap().refused, 1);
    assert_eq!(unfinished(&registry).await, (vec![], 0));
    works(&registry).await;
}

#[tokio::test(start_paused = true)]
async fn law_16_target_that_panics_is_retried_and_parked_after_the_retention() {
    let (store, registry) = start();
    office(&registry).send(Send::to("bad").task(Reaction::Panic)).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let message = only_unfinished(&registry).await;
    assert_eq!(message.parked, None);
    assert!((4..12).contains(&message.attempts), "{} attempts in a minute", message.attempts);
    works(&registry).await;
    // As if it had been requested more than seven days ago.
    rewrite_pending(&store, office(&registry).key(), |text| {
        let (start, rest) = text.split_once(r#""requested":"#).unwrap();
        let (_, rest) = rest.split_once(',').unwrap();
        format!(r#"{start}"requested":1000,{rest}"#)
    })
    .await;
    sleep(Duration::from_secs(120)).await;
    let (parked, waiting) = unfinished(&registry).await;
    assert_eq!((parked.len(), waiting), (1, 0));
    assert!(parked[0].contains("7 days"), "{parked:?}");
    assert_eq!(desk(&registry, "bad").await.tasks, 0);
}

#[tokio::test(start_paused = true)]
async fn law_16_event_with_too_many_messages_is_refused() {
    let (store, registry) = start();
    let log = CapturedLog::start(tracing::Level::ERROR);
    let refused = office(&registry).send(SendMany { messages: 10_000, bytes: 0 }).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
    assert_eq!(log.count("an event requests at most 256 messages, timers and jobs"), 1);
    office(&registry).send(SendMany { messages: 256, bytes: 0 }).await.unwrap();
    sleep(TAKE_OVER).await;
    assert_eq!(desk(&registry, "good").await.tasks, 256);
    assert_eq!(store.pending(9).await.unwrap().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn law_16_event_with_a_message_over_64_kib_is_refused() {
    let (store, registry) = start();
    let log = CapturedLog::start(tracing::Level::ERROR);
    let refused = office(&registry).send(SendMany { messages: 1, bytes: 64 << 10 }).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
    assert_eq!(log.count("a message has at most 65536 bytes"), 1);
    office(&registry).send(SendMany { messages: 1, bytes: 63 << 10 }).await.unwrap();
    sleep(TAKE_OVER).await;
    assert_eq!(desk(&registry, "good").await.tasks, 1);
    assert_eq!(store.pending(9).await.unwrap().waiting, 0);
    works(&registry).await;
}

#[tokio::test(start_paused = true)]
async fn law_16_states_that_send_to_each_other_stop_after_a_thousand_messages() {
    let (_, registry) = start();
    let ping: Handle<Desk> = registry.record("ping").unwrap();
    ping.send(Ball { from: "ping".into(), to: "pong".into() }).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let (parked, waiting) = unfinished(&registry).await;
    assert_eq!((parked.len(), waiting), (1, 0));
    assert!(parked[0].contains("1000 messages led to one another"), "{parked:?}");
    let returned = desk(&registry, "ping").await.returned + desk(&registry, "pong").await.returned;
    assert_eq!(returned, 1_001, "the event of the application, and 1,000 messages");
    works(&registry).await;
}

#[tokio::test(start_paused = true)]
async fn law_16_follow_up_that_cannot_be_applied_is_parked() {
    for (reaction, reason) in [
        (Reaction::Reject, "no follow-up"),
        (Reaction::Panic, "an internal error"),
        (Reaction::HangInPrepare, "`prepare` took too long"),
        (Reaction::SendToNowhere, "the address of a message"),
        (Reaction::SendTooMuch, "an internal error"),
        (Reaction::SendTooMany, "an internal error"),
        (Reaction::BroadcastTooMuch, "an internal error"),
    ] {
        let (_, registry) = start();
        let office = office(&registry);
        // Other messages, whose follow-ups may be settled in the same turn.
        for desk in ["a", "b", "c"] {
            office.send(Send::to(desk)).await.unwrap();
        }
        office.send(Send::to("good").follow_up(reaction)).await.unwrap();
        office.send(Send::to("d").task(Reaction::Reject)).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        let (parked, waiting) = unfinished(&registry).await;
        assert_eq!((parked.len(), waiting), (1, 0), "{reaction:?}");
        assert!(parked[0].contains(reason), "{reaction:?}: {parked:?}");
        let state = office.read().await.unwrap();
        assert_eq!((state.done, state.refused), (3, 1), "{reaction:?}: the state did not change");
        assert_eq!(desk(&registry, "good").await.tasks, 1, "{reaction:?}");
        works(&registry).await;
        // The target is not asked again.
        sleep(Duration::from_secs(60)).await;
        assert_eq!(desk(&registry, "good").await.tasks, 1, "{reaction:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_follow_ups_of_one_turn_fail_independently() {
    let bad = [Reaction::SendToNowhere, Reaction::Reject, Reaction::SendTooMuch, Reaction::Panic];
    for reactions in [bad, [bad[1], bad[0], bad[3], bad[2]]] {
        let (_, registry) = start();
        let office = office(&registry);
        let sends = reactions.iter().chain(&[Reaction::Accept, Reaction::SendTen]).enumerate();
        let sends = sends.map(|(at, reaction)| Send::to(&at.to_string()).follow_up(*reaction)).collect();
        office.send(SendAll(sends)).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        let (parked, waiting) = unfinished(&registry).await;
        assert_eq!((parked.len(), waiting), (4, 0), "{parked:?}");
        let state = office.read().await.unwrap();
        assert_eq!((state.done, desk(&registry, "good").await.tasks), (2, 10));
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_follow_ups_of_one_turn_may_send_more_messages_than_one_event() {
    let (_, registry) = start();
    let log = CapturedLog::start(tracing::Level::ERROR);
    let office = office(&registry);
    let sending = (0..60).map(|at| {
        let office = office.clone();
        async move { office.send(Send::to(&at.to_string()).follow_up(Reaction::SendTen)).await.unwrap() }
    });
    futures::future::join_all(sending).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(unfinished(&registry).await, (vec![], 0));
    assert_eq!((desk(&registry, "good").await.tasks, office.read().await.unwrap().done), (600, 60));
    assert_eq!(log.text(), "");
}

#[tokio::test(start_paused = true)]
async fn law_16_parked_follow_up_is_applied_once_when_it_is_retried() {
    for task in [Reaction::Accept, Reaction::Reject] {
        let (_, registry) = start();
        let office = office(&registry);
        let send = Send::to("good").task(task).follow_up(Reaction::RejectWhileClosed);
        office.send(send).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        let message = only_unfinished(&registry).await;
        assert_eq!(message.parked.as_deref(), Some("closed"));
        // The state still refuses it.
        registry.resolve_message(&message, MessageAction::Retry).await.unwrap();
        sleep(TAKE_OVER).await;
        assert_eq!(only_unfinished(&registry).await.parked.as_deref(), Some("closed"));
        office.send(Open {}).await.unwrap();
        for _ in 0..2 {
            registry.resolve_message(&message, MessageAction::Retry).await.unwrap();
        }
        sleep(TAKE_OVER).await;
        assert_eq!(unfinished(&registry).await, (vec![], 0));
        let state = office.read().await.unwrap();
        assert_eq!(state.done + state.refused, 1);
        assert_eq!(state.last_rejection.is_empty(), task == Reaction::Accept, "the answer is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_dropped_message_is_gone() {
    let (_, registry) = start();
    office(&registry).send(Send::to("missing")).await.unwrap();
    registry.settle().await;
    let message = only_unfinished(&registry).await;
    registry.resolve_message(&message, MessageAction::Drop).await.unwrap();
    assert_eq!(unfinished(&registry).await, (vec![], 0));
    let state = office(&registry).read().await.unwrap();
    assert_eq!((state.done, state.refused), (0, 0));
    let resolved = registry.resolve_message(&message, MessageAction::Drop).await;
    assert!(matches!(resolved, Err(Error::Unknown)), "{resolved:?}");
}

#[tokio::test(start_paused = true)]
async fn law_16_instance_with_unfinished_messages_cannot_be_deleted() {
    let (store, registry) = start();
    let office = office(&registry);
    office.send(Send::to("bad").task(Reaction::Panic)).await.unwrap();
    let deleted = office.delete().await;
    assert!(matches!(deleted, Err(Error::Busy(_))), "{deleted:?}");
    sleep(Duration::from_secs(10)).await;
    let message = only_unfinished(&registry).await;
    registry.resolve_message(&message, MessageAction::Drop).await.unwrap();
    office.delete().await.unwrap();
    assert!(store.load(office.key(), None).await.unwrap().record.is_none());
    works(&registry).await;
}

#[tokio::test(start_paused = true)]
async fn law_16_record_does_not_expire_while_messages_wait() {
    follow_tokio_time();
    let store = Arc::new(MemoryStore::new());
    let ttl = Duration::from_secs(30);
    let config = StateConfig::record().access(Access::public()).persist().ttl(ttl);
    let builder = StateRegistry::builder().store(Arc::clone(&store));
    let registry = offices_with(builder, &Chores::default(), config).build().unwrap();
    let office = office(&registry);
    let record = async || store.load(office.key(), None).await.unwrap().record;
    office.send(Open {}).await.unwrap();
    assert_eq!(record().await.unwrap().ttl, Some(ttl));
    office.send(Send::to("bad").task(Reaction::Panic)).await.unwrap();
    for _ in 0..40 {
        sleep(ttl / 2).await;
        assert_eq!(record().await.unwrap().ttl, None);
    }
    let message = only_unfinished(&registry).await;
    registry.resolve_message(&message, MessageAction::Drop).await.unwrap();
    assert_eq!(record().await.unwrap().ttl, Some(ttl));
    sleep(ttl * 4).await;
    assert!(record().await.is_none(), "without messages, it expires");
}

#[tokio::test(start_paused = true)]
async fn law_16_message_to_a_state_that_could_lose_it_is_refused() {
    let log = CapturedLog::start(tracing::Level::ERROR);
    let record = || StateConfig::record().access(Access::public()).persist();
    let registry = StateRegistry::builder()
        .store(MemoryStore::new())
        .state::<Office>(record().sends_messages(), |state| {
            state.event::<Send>().message::<crate::office::FollowUp>()
        })
        .state::<Desk>(record().persist_every(Duration::from_secs(1)), |state| state.message::<Task>())
        .build()
        .unwrap();
    let refused = office(&registry).send(Send::to("good")).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
    assert_eq!(log.count("remove `persist_every`"), 1);

    let mistakes = offices_with(
        StateRegistry::builder().store(MemoryStore::new()),
        &Chores::default(),
        record().persist_every(Duration::from_secs(1)),
    );
    let mistakes = mistakes.build().unwrap_err().to_string();
    assert!(mistakes.contains("sends messages, but acknowledges events before it saves them"), "{mistakes}");
    assert!(offices(StateRegistry::builder().store(MemoryStore::new()), &Chores::default()).build().is_ok());
}
