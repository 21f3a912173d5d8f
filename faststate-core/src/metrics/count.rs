//! A number that only increases.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only increases. Without the feature `metrics`, it stays 0.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `more` to the count.
    pub fn add(&self, more: usize) {
        self.add_u64(more as u64);
    }

    pub(super) fn add_u64(&self, more: u64) {
        if cfg!(feature = "metrics") {
            // Relaxed: a sample needs no order relative to other samples or to other memory.
            self.0.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Returns the count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
