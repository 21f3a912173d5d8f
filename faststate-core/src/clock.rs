//! The time of day.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

/// Whether [`now`] follows tokio's clock. Relaxed, because a test sets it before the events whose dates it compares.
static FOLLOWS_TOKIO: AtomicBool = AtomicBool::new(false);

/// Makes the time of day follow tokio's clock for the rest of the process. In a test that pauses tokio's time, the
/// dates of events then advance together with timers, receipts and lifetimes in a [`MemoryStore`](crate::MemoryStore).
pub fn follow_tokio_time() {
    FOLLOWS_TOKIO.store(true, Ordering::Relaxed);
}

/// Returns the time of day.
pub fn now() -> SystemTime {
    static START: LazyLock<(SystemTime, Instant)> = LazyLock::new(|| (SystemTime::now(), Instant::now()));

    if !FOLLOWS_TOKIO.load(Ordering::Relaxed) {
        return SystemTime::now();
    }
    let (time, start) = *START;
    let now = tokio::time::Instant::now().into_std();
    // If tokio's time was paused before the first call, it may be earlier than `start`.
    now.checked_duration_since(start).map_or_else(|| time - start.duration_since(now), |later| time + later)
}
