use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn all_at_once() -> Wakers {
    Wakers::new(usize::MAX, Duration::ZERO)
}

#[test]
fn only_the_armed_are_woken_and_only_once() {
    let wakers = all_at_once();
    let counts: Vec<_> = (0..200).map(|_| Arc::new(Count::default())).collect();
    let slots: Vec<_> = counts.iter().map(|_| wakers.enter()).collect();
    for (slot, count) in slots.iter().zip(&counts).step_by(2) {
        wakers.arm(*slot, &Arc::clone(count).into());
    }
    assert_eq!((wakers.wake(), wakers.wake()), (NextBatch::Nobody, NextBatch::Nobody));
    let woken: Vec<_> = counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect();
    assert!(woken.iter().enumerate().all(|(at, woken)| *woken == usize::from(at % 2 == 0)), "{woken:?}");
}

#[test]
fn law_06_a_quiet_topic_keeps_nothing_of_those_who_left() {
    let wakers = all_at_once();
    for _ in 0..10_000 {
        let count = Arc::new(Count::default());
        let slot = wakers.enter();
        wakers.arm(slot, &Arc::clone(&count).into());
        assert_eq!(wakers.leave(slot), 0);
        assert_eq!(Arc::strong_count(&count), 1, "the waker is dropped with its follower");
    }
    assert_eq!(wakers.inner.lock().armed.len(), 1);
}

/// What happens to a topic's wakers.
#[derive(Clone, Debug)]
enum Step {
    Change,
    More,
    /// A follower comes.
    Enter,
    Leave(usize),
    /// Whoever was woken looks.
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Change),
        6 => Just(Step::More),
        2 => Just(Step::Enter),
        1 => any::<usize>().prop_map(Step::Leave),
        2 => Just(Step::Look),
    ];
    prop::collection::vec(step, 0..150)
}

/// A follower of the test: its slot, and the change that it has seen last.
struct One {
    slot: usize,
    seen: usize,
    woken: Arc<Count>,
}

impl One {
    fn of(wakers: &Wakers, seen: usize) -> Self {
        let one = Self { slot: wakers.enter(), seen, woken: Arc::default() };
        wakers.arm(one.slot, &Arc::clone(&one.woken).into());
        one
    }

    fn looks(&mut self, wakers: &Wakers, newest: usize) {
        if self.woken.0.swap(0, Ordering::Relaxed) > 0 {
            self.seen = newest;
            wakers.arm(self.slot, &Arc::clone(&self.woken).into());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn law_04_everybody_hears_of_the_last_change_and_nobody_twice_before_others_once(
        first in 0_usize..250,
        steps in steps(),
    ) {
        let wakers = Wakers::new(64, Duration::ZERO);
        let mut changes = 0;
        let mut rest = NextBatch::Nobody;
        let mut all: Vec<One> = (0..first).map(|_| One::of(&wakers, 0)).collect();
        for step in steps {
            match step {
                Step::Change => {
                    changes += 1;
                    let then = wakers.wake();
                    prop_assert!(rest == NextBatch::Nobody || then == NextBatch::Nobody, "one goes on");
                    rest = if rest == NextBatch::Nobody { then } else { rest };
                }
                Step::More if rest == NextBatch::Nobody => {}
                Step::More => rest = wakers.wake_more(),
                Step::Enter => all.extend((0..40).map(|_| One::of(&wakers, changes))),
                Step::Leave(_) if all.is_empty() => {}
                Step::Leave(which) => {
                    let left = all.swap_remove(which % all.len());
                    wakers.leave(left.slot);
                }
                Step::Look => all.iter_mut().for_each(|one| one.looks(&wakers, changes)),
            }
            let twice = all.iter().any(|one| one.woken.0.load(Ordering::Relaxed) > 1);
            prop_assert!(!twice, "who has not looked is not woken again");
        }
        while rest != NextBatch::Nobody {
            rest = wakers.wake_more();
        }
        all.iter_mut().for_each(|one| one.looks(&wakers, changes));
        prop_assert!(all.iter().all(|one| one.seen == changes));
    }
}

#[test]
fn a_round_reaches_everybody_before_anybody_twice() {
    let wakers = Wakers::new(64, Duration::ZERO);
    let mut all: Vec<_> = (0..1_000).map(|_| One::of(&wakers, 0)).collect();
    let mut heard = vec![0; all.len()];
    let mut rest = wakers.wake();
    // A change between any two batches, as when events never cease.
    for _ in 0..200 {
        for (one, heard) in all.iter_mut().zip(&mut heard) {
            *heard += one.woken.0.load(Ordering::Relaxed);
            one.looks(&wakers, 0);
        }
        let (least, most) = (heard.iter().min().unwrap(), heard.iter().max().unwrap());
        assert!(most - least <= 1, "{heard:?}");
        assert_eq!((wakers.wake(), rest), (NextBatch::Nobody, NextBatch::Soon));
        rest = wakers.wake_more();
    }
    assert!(heard.iter().all(|heard| *heard >= 10), "{heard:?}");
}

#[test]
fn no_more_are_on_their_way_than_a_batch_and_who_is_slow_is_not_waited_for() {
    let wakers = Wakers::new(64, Duration::ZERO);
    let mut all: Vec<_> = (0..1_000).map(|_| One::of(&wakers, 0)).collect();
    let woken = |all: &[One]| all.iter().filter(|one| one.woken.0.load(Ordering::Relaxed) > 0).count();
    assert_eq!((wakers.wake(), woken(&all)), (NextBatch::Soon, 64));
    all.iter_mut().take(10).for_each(|one| one.looks(&wakers, 1));
    assert_eq!((wakers.wake_more(), woken(&all)), (NextBatch::Soon, 54 + 10));
    assert_eq!((wakers.wake_more(), woken(&all)), (NextBatch::Soon, 64 + 64), "nobody came back");
    // The last 64 that were woken are awaited: ten of them leave, and one comes back.
    for one in all.drain(80..90) {
        wakers.leave(one.slot);
    }
    all.iter_mut().skip(80).take(1).for_each(|one| one.looks(&wakers, 1));
    assert_eq!(
        (wakers.wake_more(), woken(&all)),
        (NextBatch::Soon, 117 + 11),
        "who leaves is not waited for"
    );
}

#[tokio::test(start_paused = true)]
async fn a_paced_round_begins_at_once_where_it_was_quiet_and_never_too_soon() {
    let pace = Duration::from_millis(5);
    let wakers = Wakers::new(1_000, pace);
    let mut one = One::of(&wakers, 0);
    let start = Instant::now();
    assert_eq!(wakers.wake(), NextBatch::Nobody, "at once");
    one.looks(&wakers, 1);
    assert_eq!(one.seen, 1);
    assert_eq!(wakers.wake(), NextBatch::At(start + pace));
    assert_eq!((wakers.wake(), wakers.wake_more()), (NextBatch::Nobody, NextBatch::At(start + pace)));
    let _more: Vec<_> = (0..64).map(|_| One::of(&wakers, 2)).collect();
    assert_eq!(wakers.wake_more(), NextBatch::At(start + pace), "whoever comes does not hasten it");
    tokio::time::advance(pace).await;
    assert_eq!(wakers.wake_more(), NextBatch::Nobody);
    one.looks(&wakers, 3);
    assert_eq!(one.seen, 3, "one round for both");
    tokio::time::advance(pace * 2).await;
    assert_eq!(wakers.wake(), NextBatch::Nobody, "at once again");
}

#[tokio::test(start_paused = true)]
async fn the_rest_is_woken_at_once_by_whoever_cannot_go_on() {
    let wakers = Wakers::new(1, Duration::from_secs(1));
    let all: Vec<_> = (0..200).map(|_| One::of(&wakers, 0)).collect();
    assert_eq!(wakers.wake(), NextBatch::Soon);
    wakers.wake_rest();
    assert!(all.iter().all(|one| one.woken.0.load(Ordering::Relaxed) == 1));
    assert!(matches!(wakers.wake(), NextBatch::Nobody | NextBatch::At(_)));
}

/// A follower's state, as the table of [`Wakers`] lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Armed,
    Awaited,
    Absent,
}

impl Wakers {
    fn state(&self, slot: usize) -> State {
        let inner = self.inner.lock();
        let is_set = |bits: &[u64]| bits[slot / 64] & (1 << (slot % 64)) != 0;
        match (is_set(&inner.armed), is_set(&inner.awaited)) {
            (true, false) => State::Armed,
            (false, true) => State::Awaited,
            (false, false) => State::Absent,
            (true, true) => panic!("slot {slot} is armed and awaited"),
        }
    }

    fn on_way(&self) -> usize {
        self.inner.lock().on_way
    }
}

#[test]
fn polls_of_followers_that_were_not_woken_free_no_place() {
    let wakers = Wakers::new(64, Duration::ZERO);
    let all: Vec<_> = (0..1_000).map(|_| One::of(&wakers, 0)).collect();
    let outstanding = || all.iter().filter(|one| one.woken.0.load(Ordering::Relaxed) > 0).count();
    assert_eq!((wakers.wake(), outstanding()), (NextBatch::Soon, 64));
    // One follower comes back; another topic wakes the tasks of 63 that this one has not woken.
    for one in all.iter().take(1).chain(all.iter().rev().take(63)) {
        one.woken.0.store(0, Ordering::Relaxed);
        wakers.arm(one.slot, &Arc::clone(&one.woken).into());
    }
    assert_eq!((wakers.wake_more(), outstanding()), (NextBatch::Soon, 64));
}

#[test]
fn a_slow_follower_that_returns_frees_no_place() {
    let wakers = Wakers::new(64, Duration::ZERO);
    let all: Vec<_> = (0..1_000).map(|_| One::of(&wakers, 0)).collect();
    assert_eq!((wakers.wake(), wakers.wake_more()), (NextBatch::Soon, NextBatch::Soon));
    assert_eq!(wakers.on_way(), 64, "the first 64 are not awaited any more");
    for one in &all[..64] {
        wakers.arm(one.slot, &Arc::clone(&one.woken).into());
    }
    assert_eq!(wakers.on_way(), 64);
}

/// A follower of the model: what its state has to be.
struct Modelled {
    slot: usize,
    state: State,
    woken: Arc<Count>,
}

/// All followers of a topic, and what has to become of them.
struct Model {
    wakers: Wakers,
    all: Vec<Modelled>,
    /// Whether an awaited follower has polled since the last batch.
    came_back: bool,
    rest: NextBatch,
}

impl Model {
    const BATCH: usize = 8;

    fn new() -> Self {
        let wakers = Wakers::new(Self::BATCH, Duration::ZERO);
        Self { wakers, all: Vec::new(), came_back: false, rest: NextBatch::Nobody }
    }

    fn joins(&mut self) {
        let slot = self.wakers.enter();
        self.all.push(Modelled { slot, state: State::Absent, woken: Arc::default() });
    }

    fn polls(&mut self, which: usize) {
        let one = &mut self.all[which];
        self.came_back |= one.state == State::Awaited;
        one.state = State::Armed;
        self.wakers.arm(one.slot, &Arc::clone(&one.woken).into());
    }

    fn leaves(&mut self, which: usize) {
        let one = self.all.swap_remove(which);
        assert_eq!(self.wakers.leave(one.slot), self.all.len());
    }

    fn wakes(&mut self, is_change: bool) {
        if is_change && self.rest != NextBatch::Nobody {
            assert_eq!(self.wakers.wake(), NextBatch::Nobody, "one task wakes the rest");
            return;
        }
        if !std::mem::take(&mut self.came_back) {
            for one in self.all.iter_mut().filter(|one| one.state == State::Awaited) {
                one.state = State::Absent;
            }
        }
        self.rest = if is_change { self.wakers.wake() } else { self.wakers.wake_more() };
        for one in &mut self.all {
            match one.woken.0.swap(0, Ordering::Relaxed) {
                0 => {}
                1 if one.state == State::Armed => one.state = State::Awaited,
                times => panic!("woken {times} times while {:?}", one.state),
            }
        }
    }

    fn check(&self) {
        for one in &self.all {
            assert_eq!(self.wakers.state(one.slot), one.state);
        }
        let count = |state| self.all.iter().filter(|one| one.state == state).count();
        assert_eq!(self.wakers.on_way(), count(State::Awaited));
        assert_eq!(self.wakers.on_way() + count(State::Armed) + count(State::Absent), self.wakers.len());
        assert!(self.wakers.on_way() <= Self::BATCH);
    }
}

#[derive(Clone, Debug)]
enum Move {
    Join,
    Poll(usize),
    Leave(usize),
    Change,
    More,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn law_04_followers_that_poll_at_any_moment_are_counted_once(
        moves in prop::collection::vec(prop_oneof![
            2 => Just(Move::Join),
            5 => any::<usize>().prop_map(Move::Poll),
            1 => any::<usize>().prop_map(Move::Leave),
            1 => Just(Move::Change),
            3 => Just(Move::More),
        ], 0..300),
    ) {
        let mut model = Model::new();
        (0..70).for_each(|_| model.joins());
        for step in moves {
            match step {
                Move::Join => model.joins(),
                Move::Poll(_) | Move::Leave(_) if model.all.is_empty() => {}
                Move::Poll(which) => model.polls(which % model.all.len()),
                Move::Leave(which) => model.leaves(which % model.all.len()),
                Move::Change => model.wakes(true),
                Move::More if model.rest == NextBatch::Nobody => {}
                Move::More => model.wakes(false),
            }
            model.check();
        }
        // Every follower that is armed when a change comes is woken for it.
        (0..model.all.len()).for_each(|which| model.polls(which));
        model.wakes(true);
        while model.rest != NextBatch::Nobody {
            model.wakes(false);
        }
        prop_assert!(model.all.iter().all(|one| one.state != State::Armed));
    }
}
