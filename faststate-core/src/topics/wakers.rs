//! The wakers of a topic's followers, and the order and pace in which they are woken.

use std::{task::Waker, time::Duration};

use parking_lot::Mutex;
use slab::Slab;
use tokio::time::Instant;

/// The wakers of a topic's followers.
///
/// Followers are woken in rounds of batches. No follower is woken twice before every other one has been woken once. At
/// most `batch` wake-ups are outstanding, because waking thousands at once overflows a runtime's queue and starves
/// other tasks. A change during a round reaches the followers that are still to be woken in this round, and the others
/// in the next round. A follower that has not polled since it was woken is not armed, so a burst of frames wakes it
/// once.
///
/// Each follower is in exactly one state, whenever and however often it polls:
///
/// | state | bit | entered by | left by |
/// | --- | --- | --- | --- |
/// | armed: waits for the next frame | `armed` | a poll | a wake-up |
/// | awaited: woken, and counted against `batch` | `awaited` | a wake-up | a poll |
/// | absent: has joined but not polled, or is too slow to be awaited | neither | joining; a batch before which no awaited follower polled | a poll |
///
/// Each follower takes one waker and two bits.
///
/// # Locking
/// One lock protects everything. Wakers are cloned under it and run outside it, because a waker may poll its follower,
/// which arms again.
#[derive(Debug)]
pub(super) struct Wakers {
    slots: Mutex<WakerSlots>,
    /// The maximum number of awaited followers.
    batch: usize,
    /// The shortest time from the start of a round to the start of the next.
    min_interval: Duration,
}

#[derive(Debug, Default)]
struct WakerSlots {
    wakers: Slab<Waker>,
    /// One bit per slot.
    armed: Vec<u64>,
    /// One bit per slot; as long as `armed`.
    awaited: Vec<u64>,
    /// The number of bits that are set in `awaited`.
    in_flight: usize,
    /// Whether an awaited follower has polled since the last batch.
    progressed: bool,
    /// The next slot to visit.
    next: usize,
    /// The number of slots to visit until every follower has been woken for the newest frame.
    remaining: usize,
    /// How many of these belong to the current round.
    in_round: usize,
    /// The start of the current or last round.
    round_start: Option<Instant>,
    /// Whether a task, or the caller of [`Wakers::wake`], is waking the remaining followers.
    driver_active: bool,
}

/// When the caller must wake the next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextBatch {
    /// Never: all followers have been woken, or another task wakes the rest.
    Done,
    /// After it has yielded to other tasks.
    Yield,
    /// At this moment.
    At(Instant),
}

impl Wakers {
    pub(super) fn new(batch: usize, min_interval: Duration) -> Self {
        Self { slots: Mutex::default(), batch, min_interval }
    }

    /// Adds a follower, which is neither armed nor awaited.
    pub(super) fn enter(&self) -> usize {
        let mut slots = self.slots.lock();
        let slot = slots.wakers.insert(Waker::noop().clone());
        slots.cover(slot);
        slot
    }

    /// Removes a follower; returns the number of followers that remain.
    pub(super) fn leave(&self, slot: usize) -> usize {
        let mut slots = self.slots.lock();
        drop(slots.wakers.remove(slot));
        clear(&mut slots.armed, slot);
        if clear(&mut slots.awaited, slot) {
            slots.in_flight -= 1;
        }
        slots.wakers.len()
    }

    /// Registers `waker` for the next frame. A follower arms at every poll that finds no frame, even if something
    /// else has woken its task.
    pub(super) fn arm(&self, slot: usize, waker: &Waker) {
        let mut slots = self.slots.lock();
        if !slots.wakers[slot].will_wake(waker) {
            slots.wakers[slot].clone_from(waker);
        }
        if clear(&mut slots.awaited, slot) {
            slots.in_flight -= 1;
            slots.progressed = true;
        }
        slots.armed[slot / 64] |= 1 << (slot % 64);
    }

    /// Wakes the first batch for a new frame.
    ///
    /// Unless this returns [`NextBatch::Done`], the caller becomes the driver: it must call
    /// [`wake_next_batch`](Self::wake_next_batch) at the returned times until that returns [`NextBatch::Done`].
    pub(super) fn wake(&self) -> NextBatch {
        {
            let mut slots = self.slots.lock();
            slots.remaining = slots.armed.len() * 64;
            if slots.remaining == 0 || std::mem::replace(&mut slots.driver_active, true) {
                return NextBatch::Done;
            }
        }
        self.wake_next_batch()
    }

    /// Wakes the next batch of armed followers.
    pub(super) fn wake_next_batch(&self) -> NextBatch {
        let mut woken = Vec::new();
        let next = {
            let mut slots = self.slots.lock();
            if let Some(at) = slots.begin_round(self.min_interval) {
                return NextBatch::At(at);
            }
            if !std::mem::take(&mut slots.progressed) && slots.in_flight > 0 {
                // All awaited followers write to slow clients; the others do not wait for them.
                slots.awaited.fill(0);
                slots.in_flight = 0;
            }
            let room = self.batch.saturating_sub(slots.in_flight);
            slots.take(room, &mut woken);
            slots.driver_active = slots.remaining > 0;
            if slots.driver_active { NextBatch::Yield } else { NextBatch::Done }
        };
        woken.into_iter().for_each(Waker::wake);
        next
    }

    /// Wakes all remaining followers at once.
    pub(super) fn wake_remaining(&self) {
        let mut woken = Vec::new();
        {
            let mut slots = self.slots.lock();
            slots.in_round = slots.remaining;
            slots.take(usize::MAX, &mut woken);
            slots.driver_active = false;
        }
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) fn len(&self) -> usize {
        self.slots.lock().wakers.len()
    }
}

impl WakerSlots {
    /// Extends the bits to this slot.
    fn cover(&mut self, slot: usize) {
        let words = slot / 64 + 1;
        let new = words.saturating_sub(self.armed.len()) * 64;
        if new == 0 {
            return;
        }
        self.armed.resize(words, 0);
        self.awaited.resize(words, 0);
        // The new slots belong to the rest of a round in progress.
        if self.remaining > 0 {
            self.remaining += new;
        }
        if self.in_round > 0 {
            self.in_round += new;
        }
    }

    /// Begins a round unless one is in progress. Returns the earliest permitted start if that is in the future.
    fn begin_round(&mut self, min_interval: Duration) -> Option<Instant> {
        if self.in_round > 0 {
            return None;
        }
        if !min_interval.is_zero() {
            let now = Instant::now();
            let due = self.round_start.map(|start| start + min_interval);
            if due.is_some_and(|due| due > now) {
                return due;
            }
            self.round_start = Some(now);
        }
        self.in_round = self.remaining;
        None
    }

    /// Moves at most `limit` armed followers into `woken`, in slot order, until the end of the round.
    fn take(&mut self, limit: usize, woken: &mut Vec<Waker>) {
        while self.in_round > 0 && woken.len() < limit {
            let (word, bit) = (self.next / 64, self.next % 64);
            let armed = self.armed[word] >> bit;
            let idle = (armed.trailing_zeros() as usize).min(64 - bit).min(self.in_round);
            self.advance(idle);
            if armed != 0 && self.in_round > 0 {
                let slot = word * 64 + bit + idle;
                let bit = 1 << (slot % 64);
                self.armed[word] &= !bit;
                self.awaited[word] |= bit;
                self.in_flight += 1;
                woken.extend(self.wakers.get(slot).cloned());
                self.advance(1);
            }
        }
    }

    /// Advances by this number of slots.
    fn advance(&mut self, slots: usize) {
        self.next = (self.next + slots) % (self.armed.len() * 64);
        self.remaining -= slots;
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
