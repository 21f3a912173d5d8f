//! Metrics, and traces of events for development.

#[cfg(feature = "metrics")]
pub(super) mod metrics;
#[cfg(feature = "inspector")]
pub(super) mod report;
#[cfg(feature = "inspector")]
pub(crate) mod trace;
