//! Law 16: nodes that die between two steps of a message, and nodes that deliver the same message at once.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use faststate_core::{
    Handle, Key, MemoryStore, Scope, StateRegistry, Store as _, internal::follow_tokio_time,
    registry::MessageAction, store::PendingSummary,
};
use faststate_testkit::faults::Overridden;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    bank::{Account, Close, Transfer, accounts, persisted},
    connection::{Connection, Intervention, Step},
    office::{
        Chores, Desk, Office, Reaction, Request, Send, Trouble, office_registry, offices, only_unfinished,
        unfinished,
    },
};

/// A node of the bank with its connection.
struct Node {
    registry: Arc<StateRegistry>,
    connection: Arc<Overridden<Connection>>,
}

impl Node {
    fn new(store: &Arc<MemoryStore>) -> Self {
        Self::with_deadline(store, Duration::from_secs(2))
    }

    fn with_deadline(store: &Arc<MemoryStore>, deadline: Duration) -> Self {
        let connection = Connection::new(store);
        let builder = StateRegistry::builder().deadline(deadline).store(Arc::clone(&connection));
        Self { registry: accounts(builder, persisted()).build().unwrap(), connection }
    }

    fn account(&self, id: &str) -> Handle<Account> {
        self.registry.record(id).unwrap()
    }

    /// Sends a transfer of 30 without waiting for its answer.
    fn transfer(&self, number: u32) {
        self.transfer_amount(30, number);
    }

    fn transfer_amount(&self, amount: i64, number: u32) {
        let (ann, event) = (self.account("ann"), Transfer { to: "bob".to_owned(), amount, number });
        tokio::spawn(async move { ann.send(event).await });
    }
}

fn store() -> Arc<MemoryStore> {
    follow_tokio_time();
    Arc::new(MemoryStore::new())
}

async fn stored(store: &MemoryStore, id: &str) -> Account {
    let key = Key::new("account", Scope::Record, None, Some(id)).unwrap();
    let record = store.load(&key, None).await.unwrap().record;
    record.map(|record| serde_json::from_slice(&record.data).unwrap()).unwrap_or_default()
}

/// Checks that exactly one transfer of 30 was sent, and was accepted or refused once.
async fn check(store: &MemoryStore, is_accepted: bool, name: &str) {
    let (ann, bob) = (stored(store, "ann").await, stored(store, "bob").await);
    let moved = if is_accepted { 30 } else { 0 };
    assert_eq!((ann.balance, bob.balance), (100 - moved, 100 + moved), "{name}");
    let counts = (ann.sent, ann.accepted, ann.refused, bob.received);
    let accepted = u32::from(is_accepted);
    assert_eq!(counts, (1, accepted, 1 - accepted, accepted), "{name}");
    assert_eq!(store.pending(9).await.unwrap(), PendingSummary::default(), "{name}");
}

#[tokio::test(start_paused = true)]
async fn law_16_node_that_dies_at_any_step_loses_and_repeats_nothing() {
    let steps = [
        (Step::Send, Intervention::DieAfter),
        (Step::Answer, Intervention::DieBefore),
        (Step::Answer, Intervention::DieAfter),
        (Step::Acknowledge, Intervention::DieBefore),
        (Step::Acknowledge, Intervention::DieAfter),
    ];
    for (step, intervention) in steps {
        for is_closed in [false, true] {
            let name = format!("{intervention:?} {step:?}, closed: {is_closed}");
            let store = store();
            let [first, second] = [Node::new(&store), Node::new(&store)];
            if is_closed {
                second.account("bob").send(Close {}).await.unwrap();
            }
            first.connection.at(step, intervention.clone());
            first.transfer(1);
            sleep(Duration::from_millis(100)).await;
            assert!(first.connection.is_dead.load(SeqCst), "{name}");
            drop(first);
            // A lease, and a poll of the store.
            sleep(Duration::from_secs(7)).await;
            check(&store, !is_closed, &name).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_event_that_dies_before_its_save_sends_nothing() {
    let store = store();
    let [first, second] = [Node::new(&store), Node::new(&store)];
    first.connection.at(Step::Send, Intervention::DieBefore);
    first.transfer(1);
    sleep(Duration::from_secs(10)).await;
    let (ann, bob) = (stored(&store, "ann").await, stored(&store, "bob").await);
    assert_eq!((ann.sent, ann.balance, bob.balance), (0, 100, 100));
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn law_16_node_that_dies_while_it_takes_over_loses_nothing() {
    for intervention in [Intervention::DieBefore, Intervention::DieAfter] {
        let store = store();
        let nodes = [Node::new(&store), Node::new(&store), Node::new(&store)];
        nodes[0].connection.at(Step::Send, Intervention::DieAfter);
        nodes[1].connection.at(Step::Claim, intervention);
        nodes[0].transfer(1);
        sleep(Duration::from_secs(20)).await;
        check(&store, true, "three nodes").await;
    }
}

/// Two nodes deliver one message at once, and the target's state changes in between, so that one accepts and the other
/// rejects. The first answer that is saved counts for both.
async fn race(first_accepts: bool) {
    let store = store();
    // The first node waits longer than its lease for the store.
    let first = Node::with_deadline(&store, Duration::from_secs(60));
    let [second, third] = [Node::new(&store), Node::new(&store)];
    if !first_accepts {
        second.account("bob").send(Close {}).await.unwrap();
    }
    let permission = Arc::new(Notify::new());
    first.connection.at(Step::Answer, Intervention::Hold(Arc::clone(&permission)));
    // So that it does not extend its lease.
    first.transfer(1);
    sleep(Duration::from_millis(10)).await;
    assert!(first.connection.is_held.load(SeqCst));
    first.connection.at(Step::Claim, Intervention::Slow(Duration::from_secs(30)));
    let bob = second.account("bob");
    bob.update(move |bob| {
        bob.closed = first_accepts;
        Ok(())
    })
    .await
    .unwrap();
    // The second node delivers the message and dies before it acknowledges it.
    second.connection.at(Step::Answer, Intervention::DieAfter);
    third.connection.is_dead.store(true, SeqCst);
    sleep(Duration::from_secs(8)).await;
    assert!(second.connection.is_dead.load(SeqCst), "the second node has delivered the message");
    permission.notify_one();
    sleep(Duration::from_secs(60)).await;
    check(&store, !first_accepts, &format!("the first node accepts: {first_accepts}")).await;
}

#[tokio::test(start_paused = true)]
async fn law_16_two_nodes_that_deliver_at_once_report_the_same_answer() {
    race(true).await;
    race(false).await;
}

#[tokio::test(start_paused = true)]
async fn law_16_late_answer_keeps_a_parked_follow_up() {
    let store = store();
    let office = |deadline| {
        let connection = Connection::new(&store);
        let builder = StateRegistry::builder().deadline(deadline).store(Arc::clone(&connection));
        (offices(builder, &Chores::default()).build().unwrap(), connection)
    };
    let [(first, connection), (second, _)] = [60, 2].map(|seconds| office(Duration::from_secs(seconds)));
    let permission = Arc::new(Notify::new());
    connection.at(Step::Answer, Intervention::Hold(Arc::clone(&permission)));
    let sender: Handle<Office> = first.record("office").unwrap();
    let send = Send::to("desk").task(Reaction::Reject).follow_up(Reaction::RejectWhileClosed);
    sender.send(send).await.unwrap();
    connection.at(Step::Claim, Intervention::Slow(Duration::from_secs(10)));
    // The second node takes the message over. The state refuses the event that follows the rejection.
    sleep(Duration::from_secs(8)).await;
    assert_eq!(unfinished(&second).await, (vec!["closed".to_owned()], 0));
    permission.notify_one();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(unfinished(&second).await, (vec!["closed".to_owned()], 0));
    let resolved = second.resolve_message(&only_unfinished(&second).await, MessageAction::Drop).await;
    assert!(resolved.is_ok());
    assert_eq!(unfinished(&first).await, (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn law_16_lease_keeps_other_nodes_from_a_message_in_delivery() {
    for delay in [1, 14] {
        let store = store();
        let nodes = [(); 3].map(|()| Node::with_deadline(&store, Duration::from_secs(60)));
        nodes[0].connection.at(Step::Answer, Intervention::Slow(Duration::from_secs(delay)));
        nodes[0].transfer(1);
        sleep(Duration::from_secs(delay + 10)).await;
        check(&store, true, "a slow delivery").await;
        let answers = nodes.each_ref().map(|node| node.connection.answers.load(SeqCst));
        assert_eq!(answers, [1, 0, 0], "after {delay} s");
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_one_of_several_nodes_takes_over() {
    for delay in [0, 300, 900] {
        let store = store();
        let first = Node::new(&store);
        first.connection.at(Step::Send, Intervention::DieAfter);
        first.transfer(1);
        sleep(Duration::from_millis(100)).await;
        let others = [(); 5].map(|()| Node::new(&store));
        for other in &others {
            other.connection.at(Step::Claim, Intervention::Slow(Duration::from_millis(delay)));
            other.connection.at(Step::Answer, Intervention::Slow(Duration::from_millis(1_500)));
        }
        sleep(Duration::from_secs(10)).await;
        check(&store, true, "five nodes").await;
        let answers: usize = others.iter().map(|node| node.connection.answers.load(SeqCst)).sum();
        assert_eq!(answers, 1, "with claims that take {delay} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_node_that_was_stopped_for_long_repeats_no_message() {
    let store = store();
    let hour = Duration::from_secs(3_600);
    let [first, second] = [Node::with_deadline(&store, hour), Node::new(&store)];
    // The process stops after its save, while another node delivers the message and the target forgets the receipt.
    first.connection.at(Step::Send, Intervention::SlowAnswer(hour / 2));
    first.transfer(1);
    let began = Instant::now();
    sleep(hour / 2 + Duration::from_secs(30)).await;
    check(&store, true, "a stopped node").await;
    assert!(began.elapsed() > hour / 2);
    assert_eq!(first.connection.answers.load(SeqCst), 0, "it does not deliver the message");
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn law_16_receipt_outlives_a_long_outage_of_the_sender() {
    let store = store();
    let first = Node::new(&store);
    first.connection.at(Step::Acknowledge, Intervention::DieBefore);
    first.transfer(1);
    sleep(Duration::from_secs(1)).await;
    drop(first);
    // The store removes what has expired in the meantime.
    for _ in 0..48 {
        sleep(Duration::from_secs(3_600)).await;
        store.sweep(10_000).await.unwrap();
    }
    let second = Node::new(&store);
    sleep(Duration::from_secs(5)).await;
    check(&store, true, "after two days").await;
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn law_16_receipt_is_kept_until_the_acknowledgement_is_saved() {
    let store = store();
    let node = Node::new(&store);
    *node.connection.failing.lock() = Some(Step::Acknowledge);
    node.transfer(1);
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(store.pending(9).await.unwrap().waiting, 1);
    *node.connection.failing.lock() = None;
    sleep(Duration::from_secs(1_800)).await;
    check(&store, true, "an hour without acknowledgements").await;
}

#[tokio::test(start_paused = true)]
async fn law_16_message_waits_for_an_earlier_one_that_failed() {
    let store = store();
    let node = Node::new(&store);
    // The first delivery fails at its deadline.
    node.connection.at(Step::Answer, Intervention::Slow(Duration::from_secs(60)));
    node.transfer_amount(1, 1);
    sleep(Duration::from_secs(1)).await;
    for number in 2..6 {
        node.transfer_amount(1, number);
        sleep(Duration::from_millis(500)).await;
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(stored(&store, "bob").await.numbers, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn law_16_receipt_of_a_finished_message_is_released() {
    let store = Arc::new(MemoryStore::with_limits(100, 100));
    follow_tokio_time();
    let node = Node::new(&store);
    for number in 0..300 {
        node.transfer_amount(0, number);
        sleep(Duration::from_secs(10)).await;
        if number % 10 == 0 {
            store.sweep(10_000).await.unwrap();
        }
    }
    let ann = stored(&store, "ann").await;
    assert_eq!((ann.sent, ann.accepted), (300, 300), "the store is not full of receipts");
}

#[tokio::test(start_paused = true)]
async fn law_16_node_that_dies_during_a_job_leaves_it_to_another() {
    let store = store();
    let chores = Chores::default();
    let first = office_registry(&store, &chores);
    let office: Handle<Office> = first.record("office").unwrap();
    office.send(Request { job: Trouble::Hang }).await.unwrap();
    let desk: Handle<Desk> = first.record("desk").unwrap();
    office.send(Send::to("desk")).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!((chores.counts(), desk.read().await.unwrap().tasks), ((1, 0), 1));
    drop((first, office, desk));
    let second = office_registry(&store, &chores);
    // The dead node's task is dropped with the test only, so its attempt ends by its timeout.
    sleep(Duration::from_secs(70)).await;
    assert!(chores.counts().1 >= 1, "{:?}", chores.counts());
    assert_eq!(store.pending(9).await.unwrap(), PendingSummary::default());
    drop(second);
}
