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
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn unbounded() -> Wakers {
    Wakers::new(usize::MAX, Duration::ZERO)
}

#[test]
fn armed_followers_are_woken_once() {
    let wakers = unbounded();
    let counts: Vec<_> = (0..200).map(|_| Arc::new(WakeCount::default())).collect();
    let slots: Vec<_> = counts.iter().map(|_| wakers.enter()).collect();
    for (slot, count) in slots.iter().zip(&counts).step_by(2) {
        wakers.arm(*slot, &Arc::clone(count).into());
    }
    assert_eq!((wakers.wake(), wakers.wake()), (NextBatch::Done, NextBatch::Done));
    let woken: Vec<_> = counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect();
    assert!(woken.iter().enumerate().all(|(at, woken)| *woken == usize::from(at % 2 == 0)), "{woken:?}");
}

#[test]
fn law_06_topic_keeps_no_waker_of_followers_that_left() {
    let wakers = unbounded();
    for _ in 0..10_000 {
        let count = Arc::new(WakeCount::default());
        let slot = wakers.enter();
        wakers.arm(slot, &Arc::clone(&count).into());
        assert_eq!(wakers.leave(slot), 0);
        assert_eq!(Arc::strong_count(&count), 1, "the waker is dropped with the follower");
    }
    assert_eq!(wakers.slots.lock().armed.len(), 1);
}

/// One operation on the wakers of a topic.
#[derive(Clone, Debug)]
enum Step {
    Change,
    More,
    /// 40 followers join.
    Enter,
    Leave(usize),
    /// Every follower that was woken polls.
    Poll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Change),
        6 => Just(Step::More),
        2 => Just(Step::Enter),
        1 => any::<usize>().prop_map(Step::Leave),
        2 => Just(Step::Poll),
    ];
    prop::collection::vec(step, 0..150)
}

/// A follower: its slot, and the newest change that it has seen.
struct TestFollower {
    slot: usize,
    seen: usize,
    woken: Arc<WakeCount>,
}

impl TestFollower {
    fn join(wakers: &Wakers, seen: usize) -> Self {
        let one = Self { slot: wakers.enter(), seen, woken: Arc::default() };
        wakers.arm(one.slot, &Arc::clone(&one.woken).into());
        one
    }

    fn poll_if_woken(&mut self, wakers: &Wakers, newest: usize) {
        if self.woken.0.swap(0, Ordering::Relaxed) > 0 {
            self.seen = newest;
            wakers.arm(self.slot, &Arc::clone(&self.woken).into());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn law_04_every_follower_is_woken_for_the_last_change(
        first in 0_usize..250,
        steps in steps(),
    ) {
        let wakers = Wakers::new(64, Duration::ZERO);
        let mut changes = 0;
        let mut next = NextBatch::Done;
        let mut all: Vec<TestFollower> = (0..first).map(|_| TestFollower::join(&wakers, 0)).collect();
        for step in steps {
            match step {
                Step::Change => {
                    changes += 1;
                    let then = wakers.wake();
                    prop_assert!(next == NextBatch::Done || then == NextBatch::Done, "there is one driver");
                    next = if next == NextBatch::Done { then } else { next };
                }
                Step::More if next == NextBatch::Done => {}
                Step::More => next = wakers.wake_next_batch(),
                Step::Enter => all.extend((0..40).map(|_| TestFollower::join(&wakers, changes))),
                Step::Leave(_) if all.is_empty() => {}
                Step::Leave(which) => {
                    let left = all.swap_remove(which % all.len());
                    wakers.leave(left.slot);
                }
                Step::Poll => all.iter_mut().for_each(|one| one.poll_if_woken(&wakers, changes)),
            }
            let twice = all.iter().any(|one| one.woken.0.load(Ordering::Relaxed) > 1);
            prop_assert!(!twice, "a follower that has not polled is not woken again");
        }
        while next != NextBatch::Done {
            next = wakers.wake_next_batch();
        }
        all.iter_mut().for_each(|one| one.poll_if_woken(&wakers, changes));
        prop_assert!(all.iter().all(|one| one.seen == changes));
    }
}

#[test]
fn every_follower_is_woken_once_before_any_is_woken_twice() {
    let wakers = Wakers::new(64, Duration::ZERO);
    let mut all: Vec<_> = (0..1_000).map(|_| TestFollower::join(&wakers, 0)).collect();
    let mut wakes = vec![0; all.len()];
    let mut next = wakers.wake();
    // A change comes between any two batches, as with an unbroken series of events.
    for _ in 0..200 {
        for (one, wakes) in all.iter_mut().zip(&mut wakes) {
            *wakes += one.woken.0.load(Ordering::Relaxed);
            one.poll_if_woken(&wakers, 0);
        }
        let (least, most) = (wakes.iter().min().unwrap(), wakes.iter().max().unwrap());
        assert!(most - least <= 1, "{wakes:?}");
        assert_eq!((wakers.wake(), next), (NextBatch::Done, NextBatch::Yield));
        next = wakers.wake_next_batch();
    }
    assert!(wakes.iter().all(|wakes| *wakes >= 10), "{wakes:?}");
}

#[test]
fn at_most_a_batch_is_awaited_and_slow_followers_are_not() {
    let wakers = Wakers::new(64, Duration::ZERO);
    let mut all: Vec<_> = (0..1_000).map(|_| TestFollower::join(&wakers, 0)).collect();
    let woken =
        |all: &[TestFollower]| all.iter().filter(|one| one.woken.0.load(Ordering::Relaxed) > 0).count();
    assert_eq!((wakers.wake(), woken(&all)), (NextBatch::Yield, 64));
    all.iter_mut().take(10).for_each(|one| one.poll_if_woken(&wakers, 1));
    assert_eq!((wakers.wake_next_batch(), woken(&all)), (NextBatch::Yield, 54 + 10));
    assert_eq!(
        (wakers.wake_next_batch(), woken(&all)),
        (NextBatch::Yield, 64 + 64),
        "no awaited follower has polled"
    );
    // The last 64 that were woken are awaited: ten of them leave, and one polls.
    for one in all.drain(80..90) {
        wakers.leave(one.slot);
    }
    all.iter_mut().skip(80).take(1).for_each(|one| one.poll_if_woken(&wakers, 1));
    assert_eq!(
        (wakers.wake_next_batch(), woken(&all)),
        (NextBatch::Yield, 117 + 11),
        "followers that left are not awaited"
    );
}

#[tokio::test(start_paused = true)]
async fn round_starts_at_once_or_after_the_interval() {
    let interval = Duration::from_millis(5);
    let wakers = Wakers::new(1_000, interval);
    let mut one = TestFollower::join(&wakers, 0);
    let start = Instant::now();
    assert_eq!(wakers.wake(), NextBatch::Done, "at once");
    one.poll_if_woken(&wakers, 1);
    assert_eq!(one.seen, 1);
    assert_eq!(wakers.wake(), NextBatch::At(start + interval));
    assert_eq!((wakers.wake(), wakers.wake_next_batch()), (NextBatch::Done, NextBatch::At(start + interval)));
    let _more: Vec<_> = (0..64).map(|_| TestFollower::join(&wakers, 2)).collect();
    assert_eq!(
        wakers.wake_next_batch(),
        NextBatch::At(start + interval),
        "a follower that joins does not start the round earlier"
    );
    tokio::time::advance(interval).await;
    assert_eq!(wakers.wake_next_batch(), NextBatch::Done);
    one.poll_if_woken(&wakers, 3);
    assert_eq!(one.seen, 3, "one round for both changes");
    tokio::time::advance(interval * 2).await;
    assert_eq!(wakers.wake(), NextBatch::Done, "at once again");
}

#[tokio::test(start_paused = true)]
async fn remaining_followers_are_woken_at_once_without_a_driver() {
    let wakers = Wakers::new(1, Duration::from_secs(1));
    let all: Vec<_> = (0..200).map(|_| TestFollower::join(&wakers, 0)).collect();
    assert_eq!(wakers.wake(), NextBatch::Yield);
    wakers.wake_remaining();
    assert!(all.iter().all(|one| one.woken.0.load(Ordering::Relaxed) == 1));
    assert!(matches!(wakers.wake(), NextBatch::Done | NextBatch::At(_)));
}

/// The state of a follower, as in the table of [`Wakers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Armed,
    Awaited,
    Absent,
}

impl Wakers {
    fn state(&self, slot: usize) -> SlotState {
        let slots = self.slots.lock();
        let is_set = |bits: &[u64]| bits[slot / 64] & (1 << (slot % 64)) != 0;
        match (is_set(&slots.armed), is_set(&slots.awaited)) {
            (true, false) => SlotState::Armed,
            (false, true) => SlotState::Awaited,
            (false, false) => SlotState::Absent,
            (true, true) => panic!("slot {slot} is armed and awaited"),
        }
    }

    fn in_flight(&self) -> usize {
        self.slots.lock().in_flight
    }
}

#[test]
fn polls_of_followers_that_were_not_woken_free_no_place() {
    let wakers = Wakers::new(64, Duration::ZERO);
    let all: Vec<_> = (0..1_000).map(|_| TestFollower::join(&wakers, 0)).collect();
    let outstanding = || all.iter().filter(|one| one.woken.0.load(Ordering::Relaxed) > 0).count();
    assert_eq!((wakers.wake(), outstanding()), (NextBatch::Yield, 64));
    // One woken follower polls; another topic wakes the tasks of 63 followers that this topic has not woken.
    for one in all.iter().take(1).chain(all.iter().rev().take(63)) {
        one.woken.0.store(0, Ordering::Relaxed);
        wakers.arm(one.slot, &Arc::clone(&one.woken).into());
    }
    assert_eq!((wakers.wake_next_batch(), outstanding()), (NextBatch::Yield, 64));
}

#[test]
fn late_poll_of_a_slow_follower_frees_no_place() {
    let wakers = Wakers::new(64, Duration::ZERO);
    let all: Vec<_> = (0..1_000).map(|_| TestFollower::join(&wakers, 0)).collect();
    assert_eq!((wakers.wake(), wakers.wake_next_batch()), (NextBatch::Yield, NextBatch::Yield));
    assert_eq!(wakers.in_flight(), 64, "the first 64 are not awaited any more");
    for one in &all[..64] {
        wakers.arm(one.slot, &Arc::clone(&one.woken).into());
    }
    assert_eq!(wakers.in_flight(), 64);
}

/// A follower of the model, with its expected state.
struct ModelFollower {
    slot: usize,
    state: SlotState,
    woken: Arc<WakeCount>,
}

/// All followers of a topic, with their expected states.
struct Model {
    wakers: Wakers,
    all: Vec<ModelFollower>,
    /// Whether an awaited follower has polled since the last batch.
    progressed: bool,
    next: NextBatch,
}

impl Model {
    const BATCH: usize = 8;

    fn new() -> Self {
        let wakers = Wakers::new(Self::BATCH, Duration::ZERO);
        Self { wakers, all: Vec::new(), progressed: false, next: NextBatch::Done }
    }

    fn join(&mut self) {
        let slot = self.wakers.enter();
        self.all.push(ModelFollower { slot, state: SlotState::Absent, woken: Arc::default() });
    }

    fn poll(&mut self, which: usize) {
        let one = &mut self.all[which];
        self.progressed |= one.state == SlotState::Awaited;
        one.state = SlotState::Armed;
        self.wakers.arm(one.slot, &Arc::clone(&one.woken).into());
    }

    fn leave(&mut self, which: usize) {
        let one = self.all.swap_remove(which);
        assert_eq!(self.wakers.leave(one.slot), self.all.len());
    }

    fn wake(&mut self, is_change: bool) {
        if is_change && self.next != NextBatch::Done {
            assert_eq!(self.wakers.wake(), NextBatch::Done, "one task wakes the remaining followers");
            return;
        }
        if !std::mem::take(&mut self.progressed) {
            for one in self.all.iter_mut().filter(|one| one.state == SlotState::Awaited) {
                one.state = SlotState::Absent;
            }
        }
        self.next = if is_change { self.wakers.wake() } else { self.wakers.wake_next_batch() };
        for one in &mut self.all {
            match one.woken.0.swap(0, Ordering::Relaxed) {
                0 => {}
                1 if one.state == SlotState::Armed => one.state = SlotState::Awaited,
                times => panic!("woken {times} times while {:?}", one.state),
            }
        }
    }

    fn check(&self) {
        for one in &self.all {
            assert_eq!(self.wakers.state(one.slot), one.state);
        }
        let count = |state| self.all.iter().filter(|one| one.state == state).count();
        assert_eq!(self.wakers.in_flight(), count(SlotState::Awaited));
        assert_eq!(
            self.wakers.in_flight() + count(SlotState::Armed) + count(SlotState::Absent),
            self.wakers.len()
        );
        assert!(self.wakers.in_flight() <= Self::BATCH);
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
        (0..70).for_each(|_| model.join());
        for step in moves {
            match step {
                Move::Join => model.join(),
                Move::Poll(_) | Move::Leave(_) if model.all.is_empty() => {}
                Move::Poll(which) => model.poll(which % model.all.len()),
                Move::Leave(which) => model.leave(which % model.all.len()),
                Move::Change => model.wake(true),
                Move::More if model.next == NextBatch::Done => {}
                Move::More => model.wake(false),
            }
            model.check();
        }
        // Every follower that is armed at a change is woken for it.
        (0..model.all.len()).for_each(|which| model.poll(which));
        model.wake(true);
        while model.next != NextBatch::Done {
            model.wake(false);
        }
        prop_assert!(model.all.iter().all(|one| one.state != SlotState::Armed));
    }
}
