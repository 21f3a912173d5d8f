//! Which followers are woken for a new frame, and when.

use std::{task::Waker, time::Duration};

use parking_lot::Mutex;
use slab::Slab;
use tokio::time::Instant;

/// The wakers of a topic's followers.
///
/// Followers are woken in rounds of batches. No follower is woken twice before every other one has been woken
/// once. At most `batch` wake-ups are outstanding, because waking thousands at once overflows a runtime's
/// queue and starves other tasks. A change during a round reaches the rest of it in this round and the others
/// in the next. A follower that has not polled since it was woken is not armed, so a burst of frames wakes it
/// once.
///
/// Each follower is in one state, whenever and however often it polls:
///
/// | state | bit | entered by | left by |
/// | --- | --- | --- | --- |
/// | armed: waits for the next frame | `armed` | a poll | a wake-up |
/// | awaited: woken, and counted against `batch` | `awaited` | a wake-up | a poll |
/// | absent: has joined and not polled, or is too slow to be awaited | neither | joining; a batch in which no awaited follower polled | a poll |
///
/// Per follower, this takes one waker and two bits.
#[derive(Debug)]
pub(super) struct Wakers {
    inner: Mutex<Inner>,
    /// How many followers are awaited at a time.
    batch: usize,
    /// The shortest time from the start of a round to the start of the next.
    pace: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Slab<Waker>,
    /// One bit per slot.
    armed: Vec<u64>,
    /// One bit per slot; as long as `armed`.
    awaited: Vec<u64>,
    /// The number of bits that are set in `awaited`.
    on_way: usize,
    /// Whether an awaited follower has polled since the last batch.
    came_back: bool,
    /// The next slot to visit.
    next: usize,
    /// The number of slots to visit until every follower has been woken for the newest frame.
    left: usize,
    /// How many of these belong to the present round.
    in_round: usize,
    began: Option<Instant>,
    /// Whether a task wakes the rest.
    going: bool,
}

/// When the rest is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextBatch {
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

    /// Adds a follower, which is neither armed nor awaited.
    pub(super) fn enter(&self) -> usize {
        let mut inner = self.inner.lock();
        let slot = inner.slots.insert(Waker::noop().clone());
        inner.cover(slot);
        slot
    }

    /// Removes a follower; returns how many remain.
    pub(super) fn leave(&self, slot: usize) -> usize {
        let mut inner = self.inner.lock();
        drop(inner.slots.remove(slot));
        clear(&mut inner.armed, slot);
        if clear(&mut inner.awaited, slot) {
            inner.on_way -= 1;
        }
        inner.slots.len()
    }

    /// Wakes `waker` when there is something new. A follower arms at every poll that finds nothing new, also
    /// when something else has woken its task.
    pub(super) fn arm(&self, slot: usize, waker: &Waker) {
        let mut inner = self.inner.lock();
        if !inner.slots[slot].will_wake(waker) {
            inner.slots[slot].clone_from(waker);
        }
        if clear(&mut inner.awaited, slot) {
            inner.on_way -= 1;
            inner.came_back = true;
        }
        inner.armed[slot / 64] |= 1 << (slot % 64);
    }

    /// There is something new. Whoever gets another answer than [`NextBatch::Nobody`] sees to it that
    /// [`wake_more`](Self::wake_more) is called then, until nobody is left.
    pub(super) fn wake(&self) -> NextBatch {
        {
            let mut inner = self.inner.lock();
            inner.left = inner.armed.len() * 64;
            if inner.left == 0 || std::mem::replace(&mut inner.going, true) {
                return NextBatch::Nobody;
            }
        }
        self.wake_more()
    }

    /// Wakes the next of those that are armed, outside the lock.
    pub(super) fn wake_more(&self) -> NextBatch {
        let mut woken = Vec::new();
        let rest = {
            let mut inner = self.inner.lock();
            if let Some(at) = inner.waits(self.pace) {
                return NextBatch::At(at);
            }
            if !std::mem::take(&mut inner.came_back) && inner.on_way > 0 {
                // The awaited followers write to slow clients: the others do not wait for them.
                inner.awaited.fill(0);
                inner.on_way = 0;
            }
            let room = self.batch.saturating_sub(inner.on_way);
            inner.take(room, &mut woken);
            inner.going = inner.left > 0;
            if inner.going { NextBatch::Soon } else { NextBatch::Nobody }
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
    /// Extends the bits to this slot.
    fn cover(&mut self, slot: usize) {
        let words = slot / 64 + 1;
        let new = words.saturating_sub(self.armed.len()) * 64;
        if new == 0 {
            return;
        }
        self.armed.resize(words, 0);
        self.awaited.resize(words, 0);
        // The rest of a round in progress is longer by the new slots.
        if self.left > 0 {
            self.left += new;
        }
        if self.in_round > 0 {
            self.in_round += new;
        }
    }

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
                let bit = 1 << (slot % 64);
                self.armed[word] &= !bit;
                self.awaited[word] |= bit;
                self.on_way += 1;
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

/// Clears a slot's bit; returns whether it was set.
fn clear(bits: &mut [u64], slot: usize) -> bool {
    let (word, bit) = (&mut bits[slot / 64], 1 << (slot % 64));
    let was_set = *word & bit != 0;
    *word &= !bit;
    was_set
}

#[cfg(test)]
mod tests;
