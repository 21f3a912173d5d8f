//! A histogram of durations.

use std::time::Duration;

#[cfg(feature = "metrics")]
use tokio::time::Instant;

use super::Count;

/// The start of a measured duration. Empty without the feature `metrics`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    #[cfg(feature = "metrics")]
    started: Instant,
}

/// A histogram of durations. Without the feature `metrics`, it stays empty.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    buckets: [Count; Self::BOUNDS.len() + 1],
    nanoseconds: Count,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            started: Instant::now(),
        }
    }

    /// Returns the time since the start, or `None` without the feature `metrics`.
    fn elapsed(self) -> Option<Duration> {
        #[cfg(feature = "metrics")]
        return Some(self.started.elapsed());
        #[cfg(not(feature = "metrics"))]
        None
    }
}

impl Durations {
    /// The upper bounds of the buckets in microseconds. One more bucket has no bound.
    pub(crate) const BOUNDS: [u64; 14] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000,
    ];

    /// Records the time since `watch` started.
    pub(crate) fn observe(&self, watch: Stopwatch) {
        let Some(elapsed) = watch.elapsed() else { return };
        let at = Self::BOUNDS.partition_point(|bound| Duration::from_micros(*bound) < elapsed);
        self.buckets[at].add(1);
        self.nanoseconds.add_u64(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Returns the number of durations in each bucket, and the sum of all durations in seconds.
    #[cfg(feature = "metrics")]
    pub(crate) fn get(&self) -> (Vec<u64>, f64) {
        let buckets = self.buckets.iter().map(Count::get).collect();
        (buckets, Duration::from_nanos(self.nanoseconds.get()).as_secs_f64())
    }
}
