//! Laws 4, 5 and 14 hold although followers are woken in rounds, and followers of a paced state at intervals.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use faststate_core::{
    Access, Handle, ReactiveState, Registry, StateConfig, StateRegistry, Viewer, internal::TopicName,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::tab::Tab;

const PACE: Duration = Duration::from_millis(50);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Dial {
    value: i64,
    last: Vec<i64>,
}

impl ReactiveState for Dial {
    const NAME: &'static str = "dial";
}

fn registry(pace: Duration) -> (Arc<StateRegistry>, Handle<Dial>) {
    let registry = StateRegistry::builder()
        .state::<Dial>(StateConfig::global().access(Access::public()).min_frame_interval(pace), |state| state)
        .build()
        .unwrap();
    let dial = registry.global().unwrap();
    (registry, dial)
}

const LAST: i64 = 1_100;

impl Dial {
    fn of(value: i64) -> Self {
        Self { value, last: vec![value; usize::try_from(value % 3).unwrap_or_default()] }
    }
}

async fn turn(dial: &Handle<Dial>, value: i64) {
    let turned = dial.update(move |dial| {
        *dial = Dial::of(value);
        Ok(())
    });
    turned.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_04_paced_state_sends_first_gathered_and_last_changes() {
    let (registry, dial) = registry(PACE);
    let mut tab = Tab::open(&registry, &Viewer::application(), &["dial"]).await;
    // Reads when it is woken, as a stream does.
    let (pieces, mut received) = mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        loop {
            let piece = tab.next().await;
            tab.page.feed(&piece).unwrap();
            let value = tab.page.follows(&tab.key, &serde_json::to_value(Dial::of(LAST)).unwrap());
            pieces.send((Instant::now(), piece)).unwrap();
            if value.is_ok() {
                return;
            }
        }
    });
    tokio::task::yield_now().await;
    let start = Instant::now();
    turn(&dial, 1).await;
    let (at, _) = received.recv().await.unwrap();
    assert_eq!(at, start, "the first change after a quiet time is sent at once");

    for value in 2..=100 {
        turn(&dial, value).await;
    }
    let (at, piece) = received.recv().await.unwrap();
    let waited = at - start;
    assert!(waited >= PACE && waited < PACE + Duration::from_millis(5), "{waited:?}");
    let events = piece.windows(7).filter(|bytes| *bytes == b"event: ").count();
    assert!(events <= 2, "99 changes are one patch, after one that clears maps: {events}");

    // A constantly changing state sends as many frames as its pace allows, including one for the last change.
    let begin = Instant::now();
    for value in 101..=LAST {
        turn(&dial, value).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    reading.await.unwrap();
    let most = begin.elapsed().as_millis() / PACE.as_millis() + 2;
    let mut times = 0;
    while received.try_recv().is_ok() {
        times += 1;
    }
    assert!((15..=most).contains(&times), "{times} frames, at most {most}");
}

/// Runs more followers than are woken at a time, which check that versions never go back, with constant changes.
async fn all_followers_reach_the_truth(pace: Duration) {
    const TABS: usize = 400;
    const CHANGES: i64 = 1_000;
    let (registry, dial) = registry(pace);
    let last = serde_json::to_value(Dial::of(CHANGES)).unwrap();
    let mut reading = JoinSet::new();
    for _ in 0..TABS {
        let mut tab = Tab::open(&registry, &Viewer::application(), &["dial"]).await;
        let last = last.clone();
        reading.spawn(async move {
            while tab.page.follows(&tab.key, &last).is_err() {
                let piece = tab.next().await;
                tab.page.feed(&piece).unwrap();
            }
        });
    }
    for value in 1..=CHANGES {
        turn(&dial, value).await;
    }
    while let Some(read) = reading.join_next().await {
        read.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_05_rounds_bring_all_followers_forward_to_the_truth() {
    all_followers_reach_the_truth(Duration::ZERO).await;
    all_followers_reach_the_truth(Duration::from_millis(5)).await;
}

#[tokio::test]
async fn law_04_rounds_work_on_one_thread() {
    all_followers_reach_the_truth(Duration::ZERO).await;
}

static ENCODED: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Once {
    value: i64,
}

impl ReactiveState for Once {
    const NAME: &'static str = "once";

    fn signals(&self) -> impl Serialize {
        ENCODED.fetch_add(1, SeqCst);
        self
    }
}

#[tokio::test]
async fn law_14_ten_thousand_new_followers_share_one_snapshot() {
    let registry = StateRegistry::builder()
        .state::<Once>(StateConfig::global().access(Access::public()), |state| state)
        .build()
        .unwrap();
    // `build()` encodes the default value once.
    ENCODED.store(0, SeqCst);
    let registry: Arc<dyn Registry> = registry;
    let (topic, viewer) = (TopicName::signals("once"), Viewer::application());
    let mut cx = Context::from_waker(Waker::noop());
    let mut followers = Vec::new();
    let mut first = None;
    for stream in 0..10_000 {
        let mut follower = registry.engine().follow(&topic, &viewer, None, stream).await.unwrap();
        let Poll::Ready(Ok(snapshot)) = follower.poll_frames(&mut cx, false) else {
            panic!("no snapshot arrived");
        };
        assert_eq!(snapshot.as_ptr(), *first.get_or_insert(snapshot.as_ptr()), "the same bytes");
        followers.push(follower);
    }
    assert_eq!(ENCODED.load(SeqCst), 1);
}
