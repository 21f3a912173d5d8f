//! Counters and histograms, and the Prometheus text format.
//!
//! A meter consists of relaxed atomics. One exists from the start for each label value that the code knows, so that
//! an event looks up no name, takes no lock and allocates nothing. Without the feature `metrics`, the compiler removes
//! the recording, so the code that records needs no `cfg`.

mod count;
mod durations;
mod meter;
#[cfg(feature = "metrics")]
mod text;

pub use self::count::Count;
#[cfg(feature = "metrics")]
pub(crate) use self::meter::OUTCOMES;
#[cfg(feature = "metrics")]
pub use self::text::{Exposition, MetricKind};
pub(crate) use self::{
    durations::{Durations, Stopwatch},
    meter::{EventMeter, StateMeter, StoreMeter},
};
