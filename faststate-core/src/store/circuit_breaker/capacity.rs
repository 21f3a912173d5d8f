//! Whether a store has capacity for more records.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::{SaveOutcome, StoreError};

/// The time for which a store counts as full if no further save is made. It is limited, because a load balancer may
/// send no traffic, and so no saves, to a node whose store has been repaired until the store counts as healthy.
const FULL_FOR: Duration = Duration::from_secs(30);

/// Records whether the last save found the store full.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    /// Whether `full_since` is set, so that a successful save takes no lock.
    ///
    /// Relaxed: a save that reads an old value leaves the store marked as full until the next save.
    is_full: AtomicBool,
    full_since: Mutex<Option<Instant>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the last save found the store full: make room, or raise its limits")]
struct NoCapacity;

impl Capacity {
    /// Records the outcome of a save.
    pub(super) fn record(&self, saved: &Result<SaveOutcome, StoreError>) {
        match saved {
            Ok(SaveOutcome::Saved) if self.is_full.load(Ordering::Relaxed) => self.set(None),
            Err(StoreError::Full(_)) => self.set(Some(Instant::now())),
            _ => {}
        }
    }

    /// Returns an error while the store counts as full.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match *self.full_since.lock() {
            Some(at) if at.elapsed() < FULL_FOR => Err(StoreError::Full(NoCapacity.into())),
            _ => Ok(()),
        }
    }

    fn set(&self, full_since: Option<Instant>) {
        let mut present = self.full_since.lock();
        *present = full_since;
        self.is_full.store(full_since.is_some(), Ordering::Relaxed);
    }
}
