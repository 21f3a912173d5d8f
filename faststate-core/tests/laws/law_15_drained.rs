//! Law 15 in the engine: accepted events and their background work finish before `settle` returns. (The endpoint's tests
//! cover streams.)

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use faststate_core::{
    Access, Context, Event, MemoryStore, PrepareContext, ReactiveState, Registry, Rejection, StateConfig,
    StateRegistry, Store,
};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::board::{Add, board, poll_once, with};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Job {
    started: u32,
    progress: u32,
}

impl ReactiveState for Job {
    const NAME: &'static str = "job";
}

static PIECES: AtomicUsize = AtomicUsize::new(0);

/// Starts background work: progress through a handle, and a streamed reply without a reader.
#[derive(Serialize, Deserialize)]
struct Start;

impl Event for Start {
    type State = Job;
    const NAME: &'static str = "start";

    async fn prepare(&mut self, _: &PrepareContext) -> Result<(), Rejection> {
        sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    fn apply(&self, job: &mut Job, context: &mut Context<Job>) -> Result<(), Rejection> {
        job.started += 1;
        for _ in 0..2 {
            context.after(|handle| async move {
                for _ in 0..5 {
                    sleep(Duration::from_secs(1)).await;
                    let progress = |job: &mut Job| {
                        job.progress += 1;
                        Ok(())
                    };
                    handle.update(progress).await.unwrap();
                }
            });
        }
        context.stream(|_, reply| async move {
            while reply.signals(&Job::default()).await.is_ok() {
                PIECES.fetch_add(1, SeqCst);
            }
            sleep(Duration::from_secs(1)).await;
        });
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn law_15_settle_waits_for_background_work_of_events() {
    let registry = StateRegistry::builder()
        .state::<Job>(StateConfig::global().access(Access::public()), |state| state.event::<Start>())
        .build()
        .unwrap();
    let job = registry.global::<Job>().unwrap();
    let outcome = job.send(Start).await.unwrap();
    let mut pieces = outcome.stream.expect("a streamed reply");
    assert!(pieces.next().await.is_some());
    drop(pieces);
    let asked = Instant::now();
    registry.settle().await;
    assert!(asked.elapsed() >= Duration::from_secs(4), "settle waits");
    let state = job.read().await.unwrap();
    assert_eq!((state.started, state.progress), (1, 10));
    assert!(PIECES.load(SeqCst) <= 10, "the writer stops when its caller is gone");

    // The registry stays usable, and a second `settle` waits again.
    drop(job.send(Start).await.unwrap());
    registry.settle().await;
    assert_eq!(job.read().await.unwrap().progress, 20);
}

#[tokio::test(start_paused = true)]
async fn law_15_event_finishes_after_its_caller_hung_up() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = FaultyStore::new(memory);
    let registry = StateRegistry::builder()
        .store(Arc::clone(&store))
        .state::<Job>(StateConfig::global().access(Access::public()).persist(), |state| {
            state.event::<Start>()
        })
        .build()
        .unwrap();
    let job = registry.global::<Job>().unwrap();
    // The caller hung up while the event was prepared.
    {
        let mut event = Box::pin(job.send(Start));
        assert!(poll_once(&mut event).is_pending());
    }
    registry.settle().await;
    assert_eq!(job.read().await.unwrap().started, 1);

    // The caller hung up while the change was saved, with more events in the queue.
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    board.read().await.unwrap();
    store.set(StoreFault::Slow(Duration::from_millis(50)));
    for _ in 0..10 {
        let mut event = Box::pin(board.send(Add { amount: 1 }));
        assert!(poll_once(&mut event).is_pending());
    }
    registry.settle().await;
    store.set(StoreFault::None);
    assert_eq!(board.read().await.unwrap().count, 10);
}
