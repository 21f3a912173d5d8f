//! Law 15, as far as the engine goes: accepted events and the work they leave behind finish before
//! `settle` returns. (Streams are the endpoint's.)

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

/// Leaves work behind: progress through a handle, and a streamed reply that nobody reads.
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
async fn law_15_settle_waits_for_the_work_that_events_leave_behind() {
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
    assert!(asked.elapsed() >= Duration::from_secs(4), "it waits");
    let state = job.read().await.unwrap();
    assert_eq!((state.started, state.progress), (1, 10));
    assert!(PIECES.load(SeqCst) <= 10, "a writer whose caller is gone stops");

    // It can be used again, and a second settle waits again.
    drop(job.send(Start).await.unwrap());
    registry.settle().await;
    assert_eq!(job.read().await.unwrap().progress, 20);
}

#[tokio::test(start_paused = true)]
async fn law_15_an_event_whose_caller_hung_up_is_finished() {
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
    // It hung up while the event was prepared.
    {
        let mut event = Box::pin(job.send(Start));
        assert!(poll_once(&mut event).is_pending());
    }
    registry.settle().await;
    assert_eq!(job.read().await.unwrap().started, 1);

    // It hung up while the change was saved, with more in the queue.
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
