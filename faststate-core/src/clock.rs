//! The time of day.

use std::time::SystemTime;

/// The time of day at which an event arrives.
///
/// Builds with the feature `testing` count it from tokio's clock. So a test that pauses tokio's time moves it
/// together with timers, and with the receipts and lifetimes of a [`MemoryStore`](crate::MemoryStore).
#[cfg(feature = "testing")]
pub(crate) fn now() -> SystemTime {
    use std::{sync::LazyLock, time::Instant};

    static START: LazyLock<(SystemTime, Instant)> = LazyLock::new(|| (SystemTime::now(), Instant::now()));
    let (time, start) = *START;
    let now = tokio::time::Instant::now().into_std();
    // Time that was paused before the first call is behind it.
    now.checked_duration_since(start).map_or_else(|| time - start.duration_since(now), |later| time + later)
}

/// The time of day at which an event arrives.
#[cfg(not(feature = "testing"))]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
