//! The time of a store's clock, as far as this node knows it, and the times at which this node looks for due records.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::outbox::millis;
use crate::clock;

/// The most wake-up times that a node remembers. The scheduler finds the others when it polls the store.
const MAX_WAKES: usize = 65_536;

/// The clock of one store.
///
/// # Locking
/// `wakes` is taken alone.
#[derive(Debug, Default)]
pub(in crate::registry) struct StoreTime {
    /// The milliseconds by which the store's clock is ahead of this node's. Relaxed, because it orders no other memory.
    offset: AtomicI64,
    /// The times at which records of this node become due, in milliseconds since the Unix epoch.
    wakes: Mutex<BinaryHeap<Reverse<u64>>>,
    earlier: Notify,
}

impl StoreTime {
    /// Returns the time of the store's clock.
    pub(in crate::registry) fn now(&self) -> SystemTime {
        let (now, offset) = (clock::now(), self.offset.load(Ordering::Relaxed));
        let shift = Duration::from_millis(offset.unsigned_abs());
        if offset < 0 { now - shift } else { now + shift }
    }

    /// Records the time that the store has returned.
    pub(super) fn observe(&self, store_now: SystemTime) {
        let (store, node) = (i64::try_from(millis(store_now)), i64::try_from(millis(clock::now())));
        if let (Ok(store), Ok(node)) = (store, node) {
            self.offset.store(store - node, Ordering::Relaxed);
        }
    }

    /// Makes the scheduler look for due records at this time.
    pub(in crate::registry) fn wake_at(&self, at: SystemTime) {
        let at = millis(at);
        let is_earliest = {
            let mut wakes = self.wakes.lock();
            let is_earliest = wakes.peek().is_none_or(|Reverse(earliest)| at < *earliest);
            if is_earliest || wakes.len() < MAX_WAKES {
                wakes.push(Reverse(at));
            }
            is_earliest
        };
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    /// Waits for the next wake-up time, but at most for `longest`.
    pub(super) async fn next_wake(&self, longest: Duration) {
        let end = tokio::time::Instant::now() + longest;
        loop {
            let now = millis(self.now());
            let next = {
                let mut wakes = self.wakes.lock();
                let mut is_over = false;
                while wakes.peek().is_some_and(|Reverse(at)| *at <= now) {
                    wakes.pop();
                    is_over = true;
                }
                if is_over {
                    return;
                }
                wakes.peek().map(|Reverse(at)| Duration::from_millis(at - now))
            };
            let wake = next.map_or(end, |next| end.min(tokio::time::Instant::now() + next));
            tokio::select! {
                () = tokio::time::sleep_until(wake) => if wake == end { return },
                () = self.earlier.notified() => {}
            }
        }
    }
}
