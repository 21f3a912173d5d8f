//! Application code that panics or is cancelled.

use super::*;

/// Panics when it is dropped.
#[derive(Serialize, Deserialize)]
struct Bomb;

impl Event for Bomb {
    type State = Board;
    const NAME: &'static str = "bomb";

    fn apply(&self, _: &mut Board, _: &mut Context<Board>) -> Result<(), Rejection> {
        Ok(())
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "the bomb goes off");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_07_event_that_panics_on_drop_leaves_a_working_instance() {
    let registry = with(|builder| builder.deadline(Duration::from_millis(200)), |config| config);
    let board = board(&registry);
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (blocked, begun) = (Mutex::new(blocked), Arc::new(AtomicBool::new(false)));
    let first = tokio::spawn({
        let (board, begun) = (board.clone(), Arc::clone(&begun));
        let change = move |_: &mut Board| {
            begun.store(true, Ordering::SeqCst);
            let _ = blocked.lock().recv();
            Ok(())
        };
        async move { board.update(change).await.map(drop) }
    });
    until("the first begins", async || begun.load(Ordering::SeqCst)).await;
    assert!(matches!(board.send(Bomb).await, Err(Error::TimedOut)));
    drop(release);
    let _ = first.await;
    until("the instance works again", async || add_one(&board).await.is_ok()).await;
}

#[test]
fn runtime_shutdown_in_a_turn_leaves_a_working_instance() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let first = runtime();
    let registry = {
        let _in_runtime = first.enter();
        with(|builder| builder.store(Arc::clone(&store)), |config| config.persist())
    };
    let board = board(&registry);
    store.set(StoreFault::Hang);
    first.block_on(async { assert!(poll_once(&mut Box::pin(add_one(&board))).is_pending()) });
    drop(first);
    store.set(StoreFault::None);
    runtime().block_on(async { assert_eq!(add_one(&board).await.unwrap(), Applied::Changed) });
}

#[derive(Serialize, Deserialize)]
struct Present(usize);

impl Event for Present {
    type State = Note;
    const NAME: &'static str = "present";

    fn apply(&self, note: &mut Note, _: &mut Context<Note>) -> Result<(), Rejection> {
        note.text = self.0.to_string();
        Ok(())
    }
}

#[tokio::test]
async fn follower_can_be_dropped_outside_the_runtime() {
    let registry = StateRegistry::builder()
        .state::<Note>(StateConfig::record().access(Access::public()), |state| {
            state.event::<Write>().presence(Present)
        })
        .build()
        .unwrap();
    let topic = TopicName::signals("note").of("a");
    let viewer = Viewer::application();
    let follower = registry.engine().follow(&topic, &viewer, None, 1).await.unwrap();
    let note = registry.record::<Note>("a").unwrap();
    until("the presence event is applied", async || note.read().await.unwrap().text == "1").await;
    std::thread::spawn(move || drop(follower)).join().unwrap();
    assert_eq!(note.followers(), 0);
}
