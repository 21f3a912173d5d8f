//! Law 6: queues, instances, logs, stores and background work are bounded, and a call beyond a limit is refused at once.
//! (`footprint.rs` measures the memory of followers that read nothing, in a separate process.)

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use faststate_core::{
    Access, Context, Error, Event, Handle, LocalBroadcaster, MemoryStore, ReactiveState, Registry, Rejection,
    SessionId, StateConfig, StateRegistry, Store, Viewer, internal::TopicName, store::StoreError,
};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    board::{Add, Board, Lines, board, poll_once, until, with},
    tab::Tab,
};

fn viewer(session: u32) -> Viewer {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&session.to_le_bytes());
    Viewer::session(SessionId::from_bytes(id))
}

/// A registry of session boards with at most `cap` instances in memory.
fn boards(cap: usize) -> Arc<StateRegistry> {
    StateRegistry::builder()
        .max_instances(cap)
        .state::<Board>(StateConfig::session().access(Access::public()), |state| {
            state.event::<Add>().view(Lines)
        })
        .state::<Note>(StateConfig::global().access(Access::public()), |state| state.event::<Write>())
        .build()
        .unwrap()
}

fn board_of(registry: &Arc<StateRegistry>, session: u32) -> Handle<Board> {
    registry.handle(&viewer(session), None).unwrap()
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Note {
    text: String,
}

impl ReactiveState for Note {
    const NAME: &'static str = "note";
}

/// Starts background work that runs until `DONE` is set.
#[derive(Serialize, Deserialize)]
struct Write {
    text: String,
}

static DONE: AtomicBool = AtomicBool::new(false);

impl Event for Write {
    type State = Note;
    const NAME: &'static str = "write";

    fn apply(&self, note: &mut Note, context: &mut Context<Note>) -> Result<(), Rejection> {
        note.text.clone_from(&self.text);
        context.after(|_| async {
            while !DONE.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn law_06_full_queue_refuses_at_once() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(memory);
    let registry =
        with(|builder| builder.store(Arc::clone(&store)), |config| config.persist().max_queued_events(4));
    let board = board(&registry);
    board.send(Add { amount: 1 }).await.unwrap();

    store.set(StoreFault::Slow(Duration::from_millis(100)));
    let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(board.send(Add { amount: 1 }))).collect();
    waiting.iter_mut().for_each(|event| assert!(poll_once(event).is_pending()));
    let asked = Instant::now();
    for _ in 0..10 {
        let refused = board.send(Add { amount: 1 }).await;
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
    }
    assert_eq!(asked.elapsed(), Duration::ZERO, "a full queue refuses without delay");
    for outcome in join_all(waiting).await {
        outcome.unwrap();
    }
    assert_eq!(board.read().await.unwrap().count, 6, "only the queued events are applied");
}

#[tokio::test]
async fn law_06_full_memory_refuses_and_keeps_followed_instances() {
    let registry = boards(10);
    let mut tabs = Vec::new();
    for session in 0..10 {
        board_of(&registry, session).send(Add { amount: i64::from(session) }).await.unwrap();
        tabs.push(Tab::open(&registry, &viewer(session), &["board"]).await);
    }
    for session in 10..100 {
        let refused = board_of(&registry, session).send(Add { amount: 1 }).await;
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        let topic = TopicName::signals("board");
        assert!(matches!(registry.engine().visible(&topic, &viewer(session)).await, Err(Error::Busy(_))));
        let followed = registry.engine().follow(&topic, &viewer(session), None, 1).await;
        assert!(matches!(followed, Err(Error::Busy(_))), "{followed:?}");
    }
    assert!(registry.health().await.instances <= 10);
    for (session, tab) in tabs.iter_mut().enumerate() {
        let board = board_of(&registry, u32::try_from(session).unwrap());
        board.send(Add { amount: 1 }).await.unwrap();
        tab.read();
        tab.shows(&board.read().await.unwrap()).unwrap();
    }

    // When one tab leaves, its place can be used by another instance.
    tabs.pop();
    until("there is room again", async || board_of(&registry, 50).send(Add { amount: 3 }).await.is_ok())
        .await;
    let gone = board_of(&registry, 9);
    until("there is room again", async || gone.read().await.is_ok()).await;
    assert_eq!(gone.read().await.unwrap().count, 10, "an evicted state is not lost");
}

#[tokio::test]
async fn law_06_idle_instances_of_one_state_make_room_for_another() {
    let registry = boards(10);
    for session in 0..10 {
        board_of(&registry, session).send(Add { amount: 1 }).await.unwrap();
    }
    let note = registry.global::<Note>().unwrap();
    until("idle sessions make room for the note", async || note.read().await.is_ok()).await;
    assert!(registry.health().await.instances <= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_06_requests_for_missing_records_leave_no_instance() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    // The turn and its caller end on different threads, in either order.
    store.set(StoreFault::Slow(Duration::from_micros(100)));
    let registry = StateRegistry::builder()
        .store(Arc::clone(&store))
        .state::<Board>(StateConfig::record().access(Access::public()).persist(), |state| {
            state.event::<Add>().initial(|_| async { None })
        })
        .build()
        .unwrap();
    let requests = (0..1_000).map(|id| {
        let (registry, topic) = (Arc::clone(&registry), TopicName::signals("board").of(id.to_string()));
        tokio::spawn(async move {
            let (viewer, board) = (Viewer::application(), registry.record::<Board>(&id.to_string()).unwrap());
            match id % 4 {
                0 => assert!(matches!(board.read().await, Err(Error::Unknown))),
                1 => assert!(matches!(board.send(Add { amount: 1 }).await, Err(Error::Unknown))),
                2 => assert!(matches!(registry.engine().visible(&topic, &viewer).await, Err(Error::Unknown))),
                _ => assert!(matches!(
                    registry.engine().follow(&topic, &viewer, None, id).await,
                    Err(Error::Unknown)
                )),
            }
        })
    });
    join_all(requests).await.into_iter().for_each(Result::unwrap);
    registry.settle().await;
    assert_eq!(registry.health().await.instances, 0);
    // Records that cannot be loaded leave no instance either.
    store.set(StoreFault::Fail);
    for id in 0..100 {
        assert!(registry.record::<Board>(&id.to_string()).unwrap().read().await.is_err());
    }
    registry.settle().await;
    assert_eq!(registry.health().await.instances, 0);
}

#[tokio::test]
async fn law_06_unknown_keys_do_not_fill_the_memory() {
    let registry = StateRegistry::builder()
        .max_instances(100)
        .state::<Board>(StateConfig::record().access(Access::public()), |state| {
            state.event::<Add>().initial(|_| async { None })
        })
        .build()
        .unwrap();
    for id in 0..1_000 {
        let board = registry.record::<Board>(&id.to_string()).unwrap();
        assert!(
            matches!(board.read().await, Err(Error::Unknown)),
            "unknown keys would otherwise reach the limit"
        );
        assert!(matches!(board.send(Add { amount: 1 }).await, Err(Error::Unknown)));
    }
    assert_eq!(registry.health().await.instances, 0);
}

#[tokio::test]
async fn law_06_full_store_refuses_and_nothing_changes() {
    let memory = MemoryStore::with_limits(2, 3);
    let registry = StateRegistry::builder()
        .store(memory)
        .state::<Board>(StateConfig::session().access(Access::public()).persist(), |state| {
            state.event::<Add>()
        })
        .build()
        .unwrap();
    for session in 0..2 {
        board_of(&registry, session).send(Add { amount: 1 }).await.unwrap();
    }
    let full = |refused: Result<_, Error>| {
        assert!(matches!(refused, Err(Error::Unavailable(StoreError::Full(_)))), "{refused:?}");
    };
    let third = board_of(&registry, 3);
    full(third.send(Add { amount: 1 }).await);
    assert_eq!(third.read().await.unwrap().count, 0);

    let first = board_of(&registry, 0);
    for id in ["a", "b", "c"] {
        first.send_as(Add { amount: 1 }, viewer(0), id.parse().unwrap()).await.unwrap();
    }
    full(first.send_as(Add { amount: 1 }, viewer(0), "d".parse().unwrap()).await);
    assert_eq!(first.read().await.unwrap().count, 4);
    first.send(Add { amount: 1 }).await.unwrap();
    third.read().await.unwrap();
    first.delete().await.unwrap();
    third.send(Add { amount: 1 }).await.unwrap();
}

#[tokio::test]
async fn law_06_event_beyond_the_background_limit_is_refused() {
    let registry = StateRegistry::builder()
        .max_background(2)
        .state::<Note>(StateConfig::global().access(Access::public()), |state| state.event::<Write>())
        .build()
        .unwrap();
    let note = registry.global::<Note>().unwrap();
    for text in ["a", "b"] {
        note.send(Write { text: text.to_owned() }).await.unwrap();
    }
    let refused = note.send(Write { text: "c".to_owned() }).await;
    assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
    assert_eq!(note.read().await.unwrap().text, "b", "a refused event changes nothing");
    DONE.store(true, Ordering::SeqCst);
    registry.settle().await;
    note.send(Write { text: "d".to_owned() }).await.unwrap();
    registry.settle().await;
}

#[tokio::test]
async fn law_06_frame_larger_than_the_log_is_sent_as_a_snapshot() {
    let registry = with(|builder| builder, |config| config.replay_buffer_bytes(1_000));
    let board = board(&registry);
    let mut tab = Tab::open(&registry, &Viewer::application(), &["board"]).await;
    for size in [10, 5_000, 100_000, 3] {
        board
            .update(move |board: &mut Board| {
                board.title = "x".repeat(size);
                Ok(())
            })
            .await
            .unwrap();
        let piece = tab.next().await;
        assert!(piece.len() < size + 2_000, "{} bytes for a title of {size}", piece.len());
        tab.page.feed(&piece).unwrap();
        tab.shows(&board.read().await.unwrap()).unwrap();
    }
}

/// A state with a presence event.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Room {
    present: usize,
}

impl ReactiveState for Room {
    const NAME: &'static str = "room";
}

#[derive(Serialize, Deserialize)]
struct Present {
    count: usize,
}

impl Event for Present {
    type State = Room;
    const NAME: &'static str = "present";

    fn apply(&self, room: &mut Room, _: &mut Context<Room>) -> Result<(), Rejection> {
        room.present = self.count;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_06_closed_streams_leave_no_follower_topic_or_task() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let registry = StateRegistry::builder()
        .store(store)
        .broadcaster(LocalBroadcaster::new())
        .state::<Board>(StateConfig::global().access(Access::public()).persist(), |state| {
            state.event::<Add>().view(Lines)
        })
        .state::<Room>(StateConfig::global().access(Access::public()).persist(), |state| {
            state.presence(|count| Present { count })
        })
        .build()
        .unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let connecting = (0..10_u64).map(|task| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let viewer = Viewer::application();
            for at in 0..1_000 {
                let stream = task * 1_000 + at;
                let mut followers = Vec::new();
                for topic in ["board", "board.lines", "room"] {
                    let follower =
                        registry.engine().follow(&topic.parse().unwrap(), &viewer, None, stream).await;
                    followers.push(follower.unwrap());
                }
                if at % 100 == 0 {
                    board(&registry).send(Add { amount: 1 }).await.unwrap();
                }
            }
        })
    });
    for task in connecting.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    for state in ["board", "room"] {
        assert_eq!(
            registry.engine().followers(&registry.key(state, &Viewer::application(), None).unwrap()),
            0
        );
    }
    let health = registry.health().await;
    assert_eq!((health.topics, health.followers), (0, 0));
    let room = registry.global::<Room>().unwrap();
    until("the room has a count of 0", async || room.read().await.unwrap().present == 0).await;
    registry.settle().await;
    until("no task is left", async || tasks() <= before).await;
}
