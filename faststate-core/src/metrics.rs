//! What there is to measure, and how it is written down.
//!
//! Meters are relaxed atomics that exist from the start, one for each label that the code knows: counting looks
//! nothing up, locks nothing and allocates nothing. Without the feature `metrics` they are empty, and so is
//! everything that uses them.

mod meter;
#[cfg(feature = "metrics")]
mod text;

pub use self::meter::Count;
#[cfg(feature = "metrics")]
pub(crate) use self::meter::{Durations, OUTCOMES};
pub(crate) use self::meter::{EventMeter, StateMeter, Stopwatch, StoreMeter};
#[cfg(feature = "metrics")]
pub use self::text::{Exposition, Kind};
