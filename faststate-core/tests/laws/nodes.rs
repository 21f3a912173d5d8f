//! Laws 2 to 5 and 13 between two nodes in one process: two registries share a store and a broadcaster, which may lose,
//! repeat or delay messages, or remove their data.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use faststate_core::{
    Access, LocalBroadcaster, MemoryStore, Registry, StateConfig, StateRegistry, Version, Viewer,
    broadcast::{BroadcastError, Broadcaster, Change, Inbox, Interest},
    registry::Applied,
};
use faststate_testkit::faults::{BroadcastFault, FaultyBroadcaster, FaultyStore, StoreFault};
use futures::future::{join_all, try_join_all};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    board::{Add, Board, Lines, REAL_TIME_DEADLINE, Title, add, board, poll_once, until},
    tab::Tab,
};

struct Node {
    registry: Arc<StateRegistry>,
    broadcaster: Arc<FaultyBroadcaster>,
}

fn node(
    store: &Arc<FaultyStore>,
    broadcaster: impl Broadcaster,
    config: impl Fn(StateConfig) -> StateConfig,
) -> Node {
    node_within(Duration::from_secs(2), store, broadcaster, config)
}

fn node_within(
    deadline: Duration,
    store: &Arc<FaultyStore>,
    broadcaster: impl Broadcaster,
    config: impl Fn(StateConfig) -> StateConfig,
) -> Node {
    let broadcaster = FaultyBroadcaster::new(Arc::new(broadcaster));
    let registry = StateRegistry::builder()
        .deadline(deadline)
        .store(Arc::clone(store))
        .broadcaster(Arc::clone(&broadcaster))
        .state::<Board>(config(StateConfig::global().access(Access::public()).persist()), |state| {
            state.event::<Add>().view(Lines).view(Title)
        })
        .build()
        .unwrap();
    Node { registry, broadcaster }
}

fn store() -> Arc<FaultyStore> {
    FaultyStore::new(Arc::new(MemoryStore::new()))
}

fn nodes(store: &Arc<FaultyStore>) -> [Node; 2] {
    let first = LocalBroadcaster::new();
    let second = first.peer();
    [node(store, first, |config| config), node(store, second, |config| config)]
}

/// Two nodes for tests in real time, with a long deadline.
fn nodes_with_long_deadline(store: &Arc<FaultyStore>) -> [Node; 2] {
    let first = LocalBroadcaster::new();
    let second = first.peer();
    [first, second].map(|broadcaster| node_within(REAL_TIME_DEADLINE, store, broadcaster, |config| config))
}

const TOPICS: [&str; 3] = ["board", "board.lines", "board.title"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_02_two_nodes_lose_no_update() {
    let store = store();
    let nodes = nodes_with_long_deadline(&store);
    let mut tabs = Vec::new();
    for node in &nodes {
        tabs.push(Tab::open(&node.registry, &Viewer::application(), &TOPICS).await);
    }
    let tasks = (0..16).map(|task| {
        let board = board(&nodes[task % 2].registry);
        tokio::spawn(async move {
            let mut versions = Vec::new();
            for _ in 0..100 {
                versions.push(board.send(Add { amount: 1 }).await.unwrap().version.seq);
            }
            versions
        })
    });
    let seqs: BTreeSet<_> = try_join_all(tasks).await.unwrap().into_iter().flatten().collect();
    assert_eq!(seqs, (1..=1_600).collect(), "versions have no gaps");
    for (node, tab) in nodes.iter().zip(&mut tabs) {
        tab.catches_up(&store).await;
        assert_eq!(board(&node.registry).read().await.unwrap().count, 1_600, "once the stream is quiet");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_03_event_sent_to_both_nodes_at_once_applies_once() {
    let store = store();
    let nodes = nodes_with_long_deadline(&store);
    let key = nodes[0].registry.key("board", &Viewer::application(), None).unwrap();
    for round in 0..50 {
        let id = format!("click-{round}");
        let calls = (0..10).map(|at| {
            let (registry, call) = (Arc::clone(&nodes[at % 2].registry), add(&key, 1, Some(&id)));
            tokio::spawn(async move { registry.dispatch(call).await.unwrap().answer })
        });
        let answers = try_join_all(calls).await.unwrap();
        assert_eq!(answers.iter().filter(|answer| **answer == Applied::Changed).count(), 1, "{answers:?}");
    }
    for node in &nodes {
        assert_eq!(board(&node.registry).read().await.unwrap().count, 50);
    }
}

#[tokio::test]
async fn law_03_node_that_is_behind_reloads_before_it_refuses() {
    let store = store();
    let nodes = nodes(&store);
    let boards = nodes.each_ref().map(|node| board(&node.registry));
    boards[0].read().await.unwrap();
    boards[1].send(Add { amount: 5 }).await.unwrap();
    // The first node still has a count of 0 in memory.
    let outcome = boards[0].send(Add { amount: -3 }).await.unwrap();
    assert_eq!(outcome.answer, Applied::Changed);
    boards[1].send(Add { amount: -2 }).await.unwrap();
    assert!(boards[0].send(Add { amount: -1 }).await.is_err(), "the count is 0 again");
    assert_eq!(boards[0].read().await.unwrap().count, 0);
}

/// Moves tabs between nodes while both nodes write and the transport fails.
async fn storm(seed: u64, deletes: bool) {
    let store = store();
    let nodes = nodes(&store);
    let mut dice = StdRng::seed_from_u64(seed);
    for (at, node) in (0..).zip(&nodes) {
        let mut dice = StdRng::seed_from_u64(seed * 100 + at);
        node.broadcaster.set(move |_| match dice.random_range(0..8) {
            0 => BroadcastFault::Lose,
            1 => BroadcastFault::Repeat,
            2 => BroadcastFault::Delay,
            3 => BroadcastFault::Strip,
            _ => BroadcastFault::None,
        });
    }
    let mut tabs = Vec::new();
    for node in &nodes {
        tabs.push(Tab::open(&node.registry, &Viewer::application(), &TOPICS).await);
        tabs.push(Tab::open(&node.registry, &Viewer::application(), &["board.lines"]).await);
    }
    for round in 0..300 {
        for _ in 0..dice.random_range(1..5) {
            let seed = dice.random();
            let board = board(&nodes[dice.random_range(0..2)].registry);
            board
                .update(move |board: &mut Board| {
                    board.shake(&mut StdRng::seed_from_u64(seed));
                    Ok(())
                })
                .await
                .unwrap();
            tokio::task::yield_now().await;
        }
        if deletes && dice.random_range(0..30) == 0 {
            board(&nodes[dice.random_range(0..2)].registry).delete().await.unwrap();
        }
        for tab in &mut tabs {
            if let Some(piece) = tab.piece() {
                let cut = if dice.random_range(0..10) == 0 {
                    dice.random_range(0..=piece.len())
                } else {
                    piece.len()
                };
                tab.page
                    .feed(&piece[..cut])
                    .unwrap_or_else(|failure| panic!("seed {seed}, round {round}: {failure}"));
                if cut < piece.len() || dice.random_range(0..10) == 0 {
                    tab.connect(&nodes[dice.random_range(0..2)].registry).await;
                }
            }
        }
        if dice.random_range(0..20) == 0 {
            // The transport must notify every node that may have lost a message.
            for node in &nodes {
                node.broadcaster.release();
                node.broadcaster.announce_loss();
            }
            for tab in &mut tabs {
                tab.catches_up(&store).await;
            }
        }
    }
    for node in &nodes {
        node.broadcaster.release();
        node.broadcaster.announce_loss();
    }
    for tab in &mut tabs {
        tab.catches_up(&store).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_04_tabs_move_between_nodes_over_a_faulty_transport() {
    for seed in 0..5 {
        storm(seed, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_04_tabs_move_between_nodes_despite_deletions() {
    for seed in 10..15 {
        storm(seed, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_04_deletion_is_seen_on_the_other_node() {
    let store = store();
    let nodes = nodes(&store);
    board(&nodes[0].registry).send(Add { amount: 3 }).await.unwrap();
    let mut tab = Tab::open(&nodes[1].registry, &Viewer::application(), &TOPICS).await;
    board(&nodes[0].registry).delete().await.unwrap();
    tab.catches_up(&store).await;
    tab.shows(&Board::default()).unwrap();
    board(&nodes[1].registry).send(Add { amount: 4 }).await.unwrap();
    tab.catches_up(&store).await;
    assert_eq!(board(&nodes[0].registry).read().await.unwrap().count, 4);
}

#[tokio::test(start_paused = true)]
async fn law_04_change_of_unknown_outcome_reaches_the_other_node() {
    for fault in [StoreFault::FailAfter, StoreFault::HangAfter] {
        let store = store();
        let nodes = nodes(&store);
        let mut tab = Tab::open(&nodes[1].registry, &Viewer::application(), &TOPICS).await;
        let mut own = Tab::open(&nodes[0].registry, &Viewer::application(), &TOPICS).await;
        store.next_saves([fault]);
        let _ = board(&nodes[0].registry).send(Add { amount: 3 }).await;
        sleep(Duration::from_secs(5)).await;
        for tab in [&mut own, &mut tab] {
            tab.read();
            tab.shows(&Board { count: 3, ..Board::default() })
                .unwrap_or_else(|failure| panic!("after {fault:?}: {failure}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn law_04_many_changes_end_at_the_truth_on_the_other_node() {
    for seed in 0..4 {
        let store = store();
        let first = LocalBroadcaster::new();
        let second = first.peer();
        let nodes = [
            // The transport is slower than the writer,
            node(&store, Slow(first, Duration::from_micros(100 * seed)), |config| config),
            // and the reader's queue is short.
            node(&store, second, |config| config.max_queued_events(4)),
        ];
        let mut dice = StdRng::seed_from_u64(seed);
        nodes[1].broadcaster.set(move |_| match dice.random_range(0..4) {
            0 => BroadcastFault::Strip,
            1 => BroadcastFault::Repeat,
            _ => BroadcastFault::None,
        });
        let mut tab = Tab::open(&nodes[1].registry, &Viewer::application(), &TOPICS).await;
        let writer = board(&nodes[0].registry);
        for _ in 0..10_000 {
            writer.send(Add { amount: 1 }).await.unwrap();
        }
        store.set(StoreFault::Slow(Duration::from_millis(3)));
        for _ in 0..100 {
            writer.send(Add { amount: 1 }).await.unwrap();
        }
        sleep(Duration::from_secs(30)).await;
        tab.read();
        tab.shows(&Board { count: 10_100, ..Board::default() }).unwrap();
    }
}

/// A broadcaster that publishes slowly.
#[derive(Debug)]
struct Slow(LocalBroadcaster, Duration);

#[async_trait::async_trait]
impl Broadcaster for Slow {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        sleep(self.1).await;
        self.0.publish(change).await
    }

    async fn notify(&self, key: Option<&faststate_core::Key>, message: Bytes) -> Result<(), BroadcastError> {
        self.0.notify(key, message).await
    }

    async fn join(&self, key: &faststate_core::Key) -> Result<Interest, BroadcastError> {
        sleep(self.1).await;
        self.0.join(key).await
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.0.attach(inbox);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_04_node_gets_changes_while_followers_come_and_go() {
    let store = store();
    let nodes = nodes_with_long_deadline(&store);
    let writer = board(&nodes[0].registry);
    for round in 1..=200 {
        let comers = (0..8).map(|_| {
            let registry = Arc::clone(&nodes[1].registry);
            tokio::spawn(async move {
                let viewer = Viewer::application();
                for _ in 0..5 {
                    drop(Tab::open(&registry, &viewer, &["board"]).await);
                }
                Tab::open(&registry, &viewer, &["board"]).await
            })
        });
        let mut tabs: Vec<_> = join_all(comers).await.into_iter().map(Result::unwrap).collect();
        // All followers but the newest leave.
        let mut stays = tabs.pop().unwrap();
        drop(tabs);
        writer.send(Add { amount: 1 }).await.unwrap();
        until(&format!("the change of round {round} arrives"), async || {
            stays.read();
            stays.shows(&Board { count: round, ..Board::default() }).is_ok()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_04_follower_that_joins_while_the_last_leaves_gets_changes() {
    let store = store();
    let nodes = nodes(&store);
    let viewer = Viewer::application();
    board(&nodes[0].registry).send(Add { amount: 1 }).await.unwrap();
    let last = Tab::open(&nodes[1].registry, &viewer, &["board"]).await;
    // A cursor from the future makes the joining follower load the record, which is slow.
    let mut joins = Tab::rendered(&nodes[1].registry, &viewer, &["board"]).await;
    store.set(StoreFault::Slow(Duration::from_millis(50)));
    {
        let future = joins.cursor(None).map(|held| Version { seq: held.seq + 5, ..held });
        let mut joining = Box::pin(joins.connect_at(&nodes[1].registry, move |_, _| future));
        assert!(poll_once(&mut joining).is_pending());
        drop(last);
        joining.await;
    }
    store.set(StoreFault::None);
    joins.read();
    board(&nodes[0].registry).send(Add { amount: 1 }).await.unwrap();
    joins.catches_up(&store).await;
}

#[tokio::test(start_paused = true)]
async fn law_05_page_without_a_cursor_is_not_led_back_by_a_late_node() {
    let store = store();
    let nodes = nodes(&store);
    let viewer = Viewer::application();
    // The second node has a follower, but receives no message from the first.
    let _other = Tab::open(&nodes[1].registry, &viewer, &["board"]).await;
    nodes[1].broadcaster.set(|_| BroadcastFault::Lose);
    let mut tab = Tab::open(&nodes[0].registry, &viewer, &["board"]).await;
    board(&nodes[0].registry).send(Add { amount: 1 }).await.unwrap();
    tab.read();
    tab.connect_at(&nodes[1].registry, |_, _| None).await;
    tab.catches_up(&store).await;
}

#[tokio::test(start_paused = true)]
async fn law_13_loss_announced_during_an_outage_is_repaired() {
    for fault in [StoreFault::Hang, StoreFault::Fail] {
        let store = store();
        let nodes = nodes(&store);
        let mut tab = Tab::open(&nodes[1].registry, &Viewer::application(), &TOPICS).await;
        let lost = Arc::new(AtomicBool::new(false));
        let notified = Arc::clone(&lost);
        nodes[1].broadcaster.set(move |_| {
            notified.store(true, SeqCst);
            BroadcastFault::Lose
        });
        board(&nodes[0].registry).send(Add { amount: 3 }).await.unwrap();
        until("the change is lost", async || lost.load(SeqCst)).await;
        store.set(fault);
        nodes[1].broadcaster.announce_loss();
        sleep(Duration::from_secs(20)).await;
        store.set(StoreFault::None);
        sleep(Duration::from_secs(5)).await;
        tab.read();
        tab.shows(&Board { count: 3, ..Board::default() })
            .unwrap_or_else(|failure| panic!("after {fault:?}: {failure}"));
    }
}
