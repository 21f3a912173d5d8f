//! Who wants to hear of the next frame, and when.

use std::{task::Waker, time::Duration};

use parking_lot::Mutex;
use slab::Slab;
use tokio::time::Instant;

/// A slab of wakers, of which only those are woken whose followers wait.
///
/// They are woken in rounds, some at a time, each before anybody twice: thousands that are woken at once
/// would stand in the way of everything else, and those woken again in the way of those that still wait.
/// So no more are woken than have looked since: a runtime's queue that overflows is no queue any more.
/// What comes while a round goes on, the rest of the round hears of in it and the others after it. A
/// follower that has not looked since it was woken is not armed, so a burst of frames wakes it once.
///
/// Two lists of constant size per follower, whatever happens in between.
#[derive(Debug)]
pub(super) struct Wakers {
    inner: Mutex<Inner>,
    /// How many are on their way at a time, from being woken to waiting again.
    batch: usize,
    /// How long after the beginning of a round the next begins, at the least.
    pace: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Slab<Waker>,
    /// One bit per slot.
    armed: Vec<u64>,
    /// The slot that is next.
    next: usize,
    /// How many slots are to be gone through until everybody has heard of the newest frame.
    left: usize,
    /// How many of these belong to the present round.
    in_round: usize,
    /// How many were woken that do not wait again yet.
    on_way: usize,
    /// Whether anybody waits again since it was last looked.
    came_back: bool,
    began: Option<Instant>,
    /// Whether somebody sees to it that the rest is woken.
    going: bool,
}

/// When the rest is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// There is none, or somebody else sees to it.
    Nobody,
    /// Once others had their turn.
    Soon,
    /// Not before this moment.
    At(Instant),
}

impl Wakers {
    pub(super) fn new(batch: usize, pace: Duration) -> Self {
        Self { inner: Mutex::default(), batch, pace }
    }

    /// A place for a new follower; not armed.
    pub(super) fn enter(&self) -> usize {
        self.inner.lock().slots.insert(Waker::noop().clone())
    }

    /// Gives the place back; says how many are left.
    pub(super) fn leave(&self, slot: usize) -> usize {
        let mut inner = self.inner.lock();
        drop(inner.slots.remove(slot));
        let bit = 1 << (slot % 64);
        match inner.armed.get_mut(slot / 64) {
            Some(word) if *word & bit != 0 => *word &= !bit,
            _ => inner.on_way = inner.on_way.saturating_sub(1),
        }
        inner.slots.len()
    }

    /// Has `waker` woken when there is something new.
    pub(super) fn arm(&self, slot: usize, waker: &Waker) {
        let mut inner = self.inner.lock();
        if !inner.slots[slot].will_wake(waker) {
            inner.slots[slot].clone_from(waker);
        }
        inner.on_way = inner.on_way.saturating_sub(1);
        inner.came_back = true;
        let word = slot / 64;
        if inner.armed.len() <= word {
            let new = (word + 1 - inner.armed.len()) * 64;
            inner.armed.resize(word + 1, 0);
            // What goes on is longer by so much.
            if inner.left > 0 {
                inner.left += new;
            }
            if inner.in_round > 0 {
                inner.in_round += new;
            }
        }
        inner.armed[word] |= 1 << (slot % 64);
    }

    /// There is something new. Whoever gets another answer than [`Rest::Nobody`] sees to it that
    /// [`wake_more`](Self::wake_more) is called then, until nobody is left.
    pub(super) fn wake(&self) -> Rest {
        {
            let mut inner = self.inner.lock();
            inner.left = inner.armed.len() * 64;
            if inner.left == 0 || std::mem::replace(&mut inner.going, true) {
                return Rest::Nobody;
            }
        }
        self.wake_more()
    }

    /// Wakes the next of those that are armed, outside the lock.
    pub(super) fn wake_more(&self) -> Rest {
        let mut woken = Vec::new();
        let rest = {
            let mut inner = self.inner.lock();
            if let Some(at) = inner.waits(self.pace) {
                return Rest::At(at);
            }
            if !std::mem::take(&mut inner.came_back) {
                // Whoever is not back by now writes to somebody slow, and is not waited for.
                inner.on_way = 0;
            }
            let room = self.batch.saturating_sub(inner.on_way);
            inner.take(room, &mut woken);
            inner.on_way += woken.len();
            inner.going = inner.left > 0;
            if inner.going { Rest::Soon } else { Rest::Nobody }
        };
        woken.into_iter().for_each(Waker::wake);
        rest
    }

    /// Wakes all that are left at once.
    pub(super) fn wake_rest(&self) {
        let mut woken = Vec::new();
        {
            let mut inner = self.inner.lock();
            inner.in_round = inner.left;
            inner.take(usize::MAX, &mut woken);
            inner.going = false;
        }
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) fn len(&self) -> usize {
        self.inner.lock().slots.len()
    }
}

impl Inner {
    /// Begins a round if none goes on, or says when that may be.
    fn waits(&mut self, pace: Duration) -> Option<Instant> {
        if self.in_round > 0 {
            return None;
        }
        if !pace.is_zero() {
            let now = Instant::now();
            let due = self.began.map(|began| began + pace);
            if due.is_some_and(|due| due > now) {
                return due;
            }
            self.began = Some(now);
        }
        self.in_round = self.left;
        None
    }

    /// Takes so many of those that are armed, in their order, to the end of the round.
    fn take(&mut self, most: usize, woken: &mut Vec<Waker>) {
        while self.in_round > 0 && woken.len() < most {
            let (word, bit) = (self.next / 64, self.next % 64);
            let armed = self.armed[word] >> bit;
            let idle = (armed.trailing_zeros() as usize).min(64 - bit).min(self.in_round);
            self.pass(idle);
            if armed != 0 && self.in_round > 0 {
                let slot = word * 64 + bit + idle;
                self.armed[word] &= !(1 << (slot % 64));
                woken.extend(self.slots.get(slot).cloned());
                self.pass(1);
            }
        }
    }

    fn pass(&mut self, slots: usize) {
        self.next = (self.next + slots) % (self.armed.len() * 64);
        self.left -= slots;
        self.in_round -= slots;
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!((wakers.wake(), wakers.wake()), (Rest::Nobody, Rest::Nobody));
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
            let mut rest = Rest::Nobody;
            let mut all: Vec<One> = (0..first).map(|_| One::of(&wakers, 0)).collect();
            for step in steps {
                match step {
                    Step::Change => {
                        changes += 1;
                        let then = wakers.wake();
                        prop_assert!(rest == Rest::Nobody || then == Rest::Nobody, "one goes on");
                        rest = if rest == Rest::Nobody { then } else { rest };
                    }
                    Step::More if rest == Rest::Nobody => {}
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
            while rest != Rest::Nobody {
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
            assert_eq!((wakers.wake(), rest), (Rest::Nobody, Rest::Soon));
            rest = wakers.wake_more();
        }
        assert!(heard.iter().all(|heard| *heard >= 10), "{heard:?}");
    }

    #[test]
    fn no_more_are_on_their_way_than_a_batch_and_who_is_slow_is_not_waited_for() {
        let wakers = Wakers::new(64, Duration::ZERO);
        let mut all: Vec<_> = (0..1_000).map(|_| One::of(&wakers, 0)).collect();
        let woken = |all: &[One]| all.iter().filter(|one| one.woken.0.load(Ordering::Relaxed) > 0).count();
        assert_eq!((wakers.wake(), woken(&all)), (Rest::Soon, 64));
        all.iter_mut().take(10).for_each(|one| one.looks(&wakers, 1));
        assert_eq!((wakers.wake_more(), woken(&all)), (Rest::Soon, 54 + 10));
        assert_eq!((wakers.wake_more(), woken(&all)), (Rest::Soon, 64 + 64), "nobody came back");
        for one in all.drain(10..20) {
            wakers.leave(one.slot);
        }
        all.iter_mut().skip(10).take(1).for_each(|one| one.looks(&wakers, 1));
        assert_eq!((wakers.wake_more(), woken(&all)), (Rest::Soon, 117 + 11), "who leaves is not waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_paced_round_begins_at_once_where_it_was_quiet_and_never_too_soon() {
        let pace = Duration::from_millis(5);
        let wakers = Wakers::new(1_000, pace);
        let mut one = One::of(&wakers, 0);
        let start = Instant::now();
        assert_eq!(wakers.wake(), Rest::Nobody, "at once");
        one.looks(&wakers, 1);
        assert_eq!(one.seen, 1);
        assert_eq!(wakers.wake(), Rest::At(start + pace));
        assert_eq!((wakers.wake(), wakers.wake_more()), (Rest::Nobody, Rest::At(start + pace)));
        let _more: Vec<_> = (0..64).map(|_| One::of(&wakers, 2)).collect();
        assert_eq!(wakers.wake_more(), Rest::At(start + pace), "whoever comes does not hasten it");
        tokio::time::advance(pace).await;
        assert_eq!(wakers.wake_more(), Rest::Nobody);
        one.looks(&wakers, 3);
        assert_eq!(one.seen, 3, "one round for both");
        tokio::time::advance(pace * 2).await;
        assert_eq!(wakers.wake(), Rest::Nobody, "at once again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_woken_at_once_by_whoever_cannot_go_on() {
        let wakers = Wakers::new(1, Duration::from_secs(1));
        let all: Vec<_> = (0..200).map(|_| One::of(&wakers, 0)).collect();
        assert_eq!(wakers.wake(), Rest::Soon);
        wakers.wake_rest();
        assert!(all.iter().all(|one| one.woken.0.load(Ordering::Relaxed) == 1));
        assert!(matches!(wakers.wake(), Rest::Nobody | Rest::At(_)));
    }
}
