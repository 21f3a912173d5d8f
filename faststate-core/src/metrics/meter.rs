//! The meters of events, states and stores.

use std::sync::Arc;

use super::{Count, Durations, Stopwatch};
use crate::{
    Error,
    registry::{Applied, Outcome},
};

/// The label values for the outcome of an event.
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

/// The meter of one event type of one state.
#[derive(Debug, Default)]
pub(crate) struct EventMeter {
    /// The number of events with each of the [`OUTCOMES`].
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

/// The meter of one state.
#[derive(Debug, Default)]
pub(crate) struct StateMeter {
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only the metrics page reads it"))]
    pub(crate) events: Vec<(&'static str, Arc<EventMeter>)>,
    /// Encoded frames. A frame counts once, however many followers receive it.
    pub(crate) frames: Count,
    pub(crate) frame_bytes: Count,
}

/// The meter of one store.
#[derive(Debug, Default)]
pub(crate) struct StoreMeter {
    pub(crate) loads: Durations,
    pub(crate) saves: Durations,
    pub(crate) failed_loads: Count,
    pub(crate) failed_saves: Count,
}
