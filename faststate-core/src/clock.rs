//! The time of day.

use std::time::{Instant, SystemTime};

/// The time of day at which an event arrives.
///
/// If a test has paused tokio's time, it stops and advances with it, as timers, receipts and the lifetimes of a
/// [`MemoryStore`](crate::MemoryStore) do. Otherwise both clocks are the same.
pub(crate) fn now() -> SystemTime {
    let (wall, clock, paused) = (SystemTime::now(), Instant::now(), tokio::time::Instant::now().into_std());
    match paused.checked_duration_since(clock) {
        Some(ahead) => wall + ahead,
        None => wall - clock.duration_since(paused),
    }
}
