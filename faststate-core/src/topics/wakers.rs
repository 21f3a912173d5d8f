//! Who wants to hear of the next frame.

use std::task::Waker;

use parking_lot::Mutex;
use slab::Slab;

/// A slab of wakers, of which only those are woken whose followers wait.
///
/// A follower that has not looked since the last wake-up is not armed, so a burst of frames wakes it
/// once. Two lists of constant size per follower, whatever happens in between.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Slab<Waker>,
    /// One bit per slot.
    armed: Vec<u64>,
}

impl Wakers {
    /// A place for a new follower; not armed.
    pub(super) fn enter(&self) -> usize {
        self.inner.lock().slots.insert(Waker::noop().clone())
    }

    /// Gives the place back; says how many are left.
    pub(super) fn leave(&self, slot: usize) -> usize {
        let mut inner = self.inner.lock();
        drop(inner.slots.remove(slot));
        if let Some(word) = inner.armed.get_mut(slot / 64) {
            *word &= !(1 << (slot % 64));
        }
        inner.slots.len()
    }

    /// Has `waker` woken at the next [`wake`](Self::wake).
    pub(super) fn arm(&self, slot: usize, waker: &Waker) {
        let mut inner = self.inner.lock();
        if !inner.slots[slot].will_wake(waker) {
            inner.slots[slot].clone_from(waker);
        }
        let word = slot / 64;
        if inner.armed.len() <= word {
            inner.armed.resize(word + 1, 0);
        }
        inner.armed[word] |= 1 << (slot % 64);
    }

    /// Wakes whoever is armed, outside the lock.
    pub(super) fn wake(&self) {
        let woken: Vec<Waker> = {
            let Inner { slots, armed } = &mut *self.inner.lock();
            let mut woken = Vec::new();
            for (at, word) in armed.iter_mut().enumerate() {
                while *word != 0 {
                    let bit = word.trailing_zeros() as usize;
                    *word &= *word - 1;
                    woken.extend(slots.get(at * 64 + bit).cloned());
                }
            }
            woken
        };
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) fn len(&self) -> usize {
        self.inner.lock().slots.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_the_armed_are_woken_and_only_once() {
        let wakers = Wakers::default();
        let counts: Vec<_> = (0..200).map(|_| Arc::new(Count::default())).collect();
        let slots: Vec<_> = counts.iter().map(|_| wakers.enter()).collect();
        for (slot, count) in slots.iter().zip(&counts).step_by(2) {
            wakers.arm(*slot, &Arc::clone(count).into());
        }
        wakers.wake();
        wakers.wake();
        let woken: Vec<_> = counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect();
        assert!(woken.iter().enumerate().all(|(at, woken)| *woken == usize::from(at % 2 == 0)), "{woken:?}");
    }

    #[test]
    fn law_06_a_quiet_topic_keeps_nothing_of_those_who_left() {
        let wakers = Wakers::default();
        for _ in 0..10_000 {
            let count = Arc::new(Count::default());
            let slot = wakers.enter();
            wakers.arm(slot, &Arc::clone(&count).into());
            assert_eq!(wakers.leave(slot), 0);
            assert_eq!(Arc::strong_count(&count), 1, "the waker is dropped with its follower");
        }
        assert_eq!(wakers.inner.lock().armed.len(), 1);
    }
}
