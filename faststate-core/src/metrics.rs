//! Counters and histograms, and the Prometheus text format.
//!
//! A meter consists of relaxed atomics. One exists from the start for each label value that the code knows, so that
//! an event looks up no name, takes no lock and allocates nothing. Without the feature `metrics`, the primitives
//! are empty types whose methods do nothing, so the code that uses them needs no `cfg`.

#[cfg(not(feature = "metrics"))]
mod disabled;
#[cfg(feature = "metrics")]
mod enabled;
mod meter;
#[cfg(feature = "metrics")]
mod text;

#[cfg(not(feature = "metrics"))]
use self::disabled as primitives;
#[cfg(feature = "metrics")]
use self::enabled as primitives;
#[cfg(feature = "metrics")]
pub(crate) use self::meter::OUTCOMES;
pub use self::primitives::Count;
#[cfg(feature = "metrics")]
pub use self::text::{Exposition, MetricKind};
pub(crate) use self::{
    meter::{EventMeter, StateMeter, StoreMeter},
    primitives::{Durations, Stopwatch},
};
