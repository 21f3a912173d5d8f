//! Law 3: an event that changes nothing is also applied at most once.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Context, Event, EventId, Handle, MemoryStore, Rejection, StateRegistry, Store, Viewer, registry::Applied,
    store::SaveOutcome,
};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    board::{Add, Board, board, with},
    tab::Tab,
};

/// Empties the tags.
#[derive(Serialize, Deserialize)]
struct Clear;

impl Event for Clear {
    type State = Board;
    const NAME: &'static str = "clear";

    fn apply(&self, board: &mut Board, _: &mut Context<Board>) -> Result<(), Rejection> {
        board.tags.clear();
        Ok(())
    }
}

fn id(text: &str) -> EventId {
    text.parse().unwrap()
}

async fn clear(board: &Handle<Board>, name: &str) -> Applied {
    board.send_as(Clear, Viewer::application(), id(name)).await.unwrap().answer
}

async fn tag(board: &Handle<Board>, name: &'static str) {
    let tag = board.update(move |board| {
        board.tags.insert(name.to_owned(), 1);
        Ok(())
    });
    tag.await.unwrap();
}

fn faulty() -> (Arc<StateRegistry>, Handle<Board>, Arc<FaultyStore>) {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    (registry, board, store)
}

#[tokio::test]
async fn law_03_repeat_of_an_event_that_changed_nothing_is_not_applied() {
    for is_stored in [false, true] {
        let (_registry, board, _store) = faulty();
        if is_stored {
            board.send(Add { amount: 1 }).await.unwrap();
        }
        assert_eq!(clear(&board, "clear-1").await, Applied::Unchanged);
        tag(&board, "tea").await;
        assert_eq!(clear(&board, "clear-1").await, Applied::Repeated, "stored before: {is_stored}");
        assert_eq!(board.read().await.unwrap().tags.len(), 1);
        assert_eq!(clear(&board, "clear-2").await, Applied::Changed);
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_unknown_outcome_of_an_unchanged_event_is_resolved() {
    for fault in [StoreFault::Fail, StoreFault::FailAfter] {
        for is_stored in [false, true] {
            let (_registry, board, store) = faulty();
            if is_stored {
                board.send(Add { amount: 1 }).await.unwrap();
            }
            store.next_saves([fault]);
            assert_eq!(clear(&board, "clear-1").await, Applied::Unchanged, "{fault:?}");
            tag(&board, "tea").await;
            assert_eq!(clear(&board, "clear-1").await, Applied::Repeated, "{fault:?}");
            assert_eq!(board.read().await.unwrap().tags.len(), 1);
        }
    }
}

#[tokio::test]
async fn law_14_only_an_unchanged_event_with_an_outside_id_costs_a_save() {
    let (_registry, board, store) = faulty();
    board.send(Add { amount: 1 }).await.unwrap();
    let cost = || (store.loads(), store.saves());
    let before = cost();
    board.send(Clear).await.unwrap();
    board.update(|_| Ok(())).await.unwrap();
    assert_eq!(cost(), before, "the application's own id");
    clear(&board, "clear-1").await;
    assert_eq!(cost(), (before.0, before.1 + 1), "one save, and no load before it");
    let rejected = board.send_as(Add { amount: -9 }, Viewer::application(), id("less")).await;
    assert!(rejected.is_err());
    assert_eq!(store.saves(), before.1 + 1, "a rejection leaves no receipt");
    board.send_as(Add { amount: 1 }, Viewer::application(), id("more")).await.unwrap();
    assert_eq!(store.saves(), before.1 + 2, "a change still costs one save");
}

#[tokio::test(start_paused = true)]
async fn law_14_unchanged_event_is_sent_to_no_follower_and_no_node() {
    use faststate_core::LocalBroadcaster;
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = LocalBroadcaster::new();
    let there_store = FaultyStore::new(Arc::clone(&memory));
    let here = with(|builder| builder.store(Arc::clone(&memory)).broadcaster(hub.peer()), |c| c.persist());
    let there =
        with(|builder| builder.store(Arc::clone(&there_store)).broadcaster(hub.peer()), |c| c.persist());
    let (board_here, board_there) = (board(&here), board(&there));
    tag(&board_here, "tea").await;
    clear(&board_here, "clear-1").await;
    let mut tabs = [
        Tab::open(&here, &Viewer::application(), &["board", "board.lines"]).await,
        Tab::open(&there, &Viewer::application(), &["board", "board.lines"]).await,
    ];
    for tab in &mut tabs {
        tab.read();
    }
    let version = board_here.read().await.unwrap().version();
    let loads = there_store.loads();
    for n in 0..10 {
        assert_eq!(clear(&board_here, &format!("again-{n}")).await, Applied::Unchanged);
    }
    sleep(Duration::from_secs(2)).await;
    for tab in &mut tabs {
        assert_eq!(tab.read(), 0, "nothing is sent");
    }
    assert_eq!(there_store.loads(), loads, "another node loads nothing");
    assert_eq!(board_here.read().await.unwrap().version(), version);
    // The precondition of the other node's save is still right.
    let before = there_store.loads();
    board_there.send(Add { amount: 1 }).await.unwrap();
    assert_eq!(there_store.loads(), before, "its first save succeeds");
    assert_eq!(clear(&board_there, "again-3").await, Applied::Repeated);
}

#[tokio::test]
async fn law_03_two_nodes_apply_an_event_that_changes_nothing_once() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = faststate_core::LocalBroadcaster::new();
    let nodes = [(); 2].map(|()| {
        with(|builder| builder.store(Arc::clone(&memory)).broadcaster(hub.peer()), |c| c.persist())
    });
    let boards = nodes.each_ref().map(board);
    boards[1].read().await.unwrap();
    assert_eq!(clear(&boards[0], "clear-1").await, Applied::Unchanged);
    tag(&boards[0], "tea").await;
    assert_eq!(
        clear(&boards[1], "clear-1").await,
        Applied::Repeated,
        "on a node that had not received the event"
    );
    assert_eq!(boards[1].read().await.unwrap().tags.len(), 1);
    let record = memory.load(boards[0].key(), None).await.unwrap().record.unwrap();
    let same = faststate_core::store::Precondition::Version(record.version);
    assert_eq!(memory.save(boards[0].key(), &record, same, None).await.unwrap(), SaveOutcome::Saved);
}
