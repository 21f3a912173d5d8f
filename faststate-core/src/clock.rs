//! The time of day.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

/// Relaxed: a test sets it before the events whose dates it compares.
static FOLLOWS_TOKIO: AtomicBool = AtomicBool::new(false);

/// Counts the time of day from tokio's clock, for the rest of the process. A test that pauses tokio's time then moves
/// the dates of events together with timers, receipts and the lifetimes of a [`MemoryStore`](crate::MemoryStore).
pub fn follow_tokio_time() {
    FOLLOWS_TOKIO.store(true, Ordering::Relaxed);
}

/// The time of day at which an event arrives.
pub(crate) fn now() -> SystemTime {
    static START: LazyLock<(SystemTime, Instant)> = LazyLock::new(|| (SystemTime::now(), Instant::now()));

    if !FOLLOWS_TOKIO.load(Ordering::Relaxed) {
        return SystemTime::now();
    }
    let (time, start) = *START;
    let now = tokio::time::Instant::now().into_std();
    // Time that was paused before the first call is behind it.
    now.checked_duration_since(start).map_or_else(|| time - start.duration_since(now), |later| time + later)
}
