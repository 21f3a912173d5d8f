//! Counters and histograms.

#[cfg(feature = "metrics")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::{sync::Arc, time::Duration};

#[cfg(feature = "metrics")]
use tokio::time::Instant;

use crate::{
    Error,
    registry::{Applied, Outcome},
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(#[cfg(feature = "metrics")] AtomicU64);

impl Count {
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    /// Counts `more` events.
    pub fn add(&self, more: usize) {
        #[cfg(feature = "metrics")]
        self.0.fetch_add(more as u64, Ordering::Relaxed);
        #[cfg(not(feature = "metrics"))]
        let _ = more;
    }

    #[cfg(feature = "metrics")]
    /// The count so far; 0 without the feature `metrics`.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// When something began; nothing without the feature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(#[cfg(feature = "metrics")] Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(
            #[cfg(feature = "metrics")]
            Instant::now(),
        )
    }

    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    fn elapsed(self) -> Duration {
        #[cfg(feature = "metrics")]
        return self.0.elapsed();
        #[cfg(not(feature = "metrics"))]
        Duration::ZERO
    }
}

/// How many took how long.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    #[cfg(feature = "metrics")]
    buckets: [AtomicU64; Self::BOUNDS.len() + 1],
    #[cfg(feature = "metrics")]
    nanoseconds: AtomicU64,
}

impl Durations {
    /// The buckets' upper bounds, in microseconds; one more is open.
    #[cfg(feature = "metrics")]
    pub(crate) const BOUNDS: [u64; 14] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000,
    ];

    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    pub(crate) fn observe(&self, watch: Stopwatch) {
        let took = watch.elapsed();
        #[cfg(feature = "metrics")]
        {
            let at = Self::BOUNDS.partition_point(|bound| Duration::from_micros(*bound) < took);
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
            let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        }
        #[cfg(not(feature = "metrics"))]
        let _ = took;
    }

    /// How many fell into each bucket, and seconds in all.
    #[cfg(feature = "metrics")]
    pub(crate) fn get(&self) -> (Vec<u64>, f64) {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        (buckets, Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64())
    }
}

/// What can become of an event.
pub(crate) const OUTCOMES: [&str; 11] = [
    "changed",
    "unchanged",
    "repeated",
    "rejected",
    "input",
    "unknown",
    "busy",
    "unavailable",
    "timed_out",
    "outcome_unknown",
    "internal",
];

/// One event of one state.
#[derive(Debug, Default)]
pub(crate) struct EventMeter {
    pub(crate) outcomes: [Count; OUTCOMES.len()],
    pub(crate) took: Durations,
}

impl EventMeter {
    pub(crate) fn count(&self, outcome: &Result<Outcome, Error>, watch: Stopwatch) {
        let at = match outcome.as_ref().map(|outcome| outcome.answer) {
            Ok(Applied::Changed) => 0,
            Ok(Applied::Unchanged) => 1,
            Ok(Applied::Repeated) => 2,
            Err(Error::Rejected(_)) => 3,
            Err(Error::Input(_)) => 4,
            Err(Error::Unknown | Error::SignIn | Error::Host(_)) => 5,
            Err(Error::Busy(_)) => 6,
            Err(Error::Unavailable(_)) => 7,
            Err(Error::TimedOut) => 8,
            Err(Error::OutcomeUnknown) => 9,
            Err(Error::Internal { .. }) => 10,
        };
        self.outcomes[at].add(1);
        self.took.observe(watch);
    }
}

/// One state.
#[derive(Debug, Default)]
pub(crate) struct StateMeter {
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "they measure nothing"))]
    pub(crate) events: Vec<(&'static str, Arc<EventMeter>)>,
    /// Frames that were encoded, once for all who follow.
    pub(crate) frames: Count,
    pub(crate) frame_bytes: Count,
}

/// One store.
#[derive(Debug, Default)]
pub(crate) struct StoreMeter {
    pub(crate) loads: Durations,
    pub(crate) saves: Durations,
    pub(crate) failed_loads: Count,
    pub(crate) failed_saves: Count,
}
