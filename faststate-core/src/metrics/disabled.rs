//! The primitives without the feature `metrics`: empty, and compiled to nothing.

/// A number that only increases; not recorded without the feature `metrics`.
#[derive(Debug, Default)]
pub struct Count;

#[allow(clippy::unused_self, reason = "the methods have the signatures of the recording primitives")]
impl Count {
    /// Does nothing.
    pub const fn add(&self, _more: usize) {}
}

/// The start of a measured duration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch;

impl Stopwatch {
    pub(crate) const fn start() -> Self {
        Self
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Durations;

#[allow(clippy::unused_self, reason = "the methods have the signatures of the recording primitives")]
impl Durations {
    pub(crate) const fn observe(&self, _watch: Stopwatch) {}
}
