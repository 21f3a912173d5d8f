//! Whether a store has room for what is saved.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::{SaveOutcome, StoreError};

/// How long a store counts as full without another save: a store that is repaired has to become healthy without
/// traffic, as a load balancer may send none before.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Whether the last save found the store full.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Whether `full` is set: all that a save looks at.
    is_full: AtomicBool,
    full: Mutex<Option<Instant>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the last save found no room; make some")]
struct NoRoom;

impl Room {
    /// Notes what became of a save.
    pub(super) fn note(&self, saved: &Result<SaveOutcome, StoreError>) {
        match saved {
            Ok(SaveOutcome::Saved) if self.is_full.load(Ordering::Relaxed) => self.set(None),
            Err(StoreError::Full(_)) => self.set(Some(Instant::now())),
            _ => {}
        }
    }

    /// Fails while the store counts as full.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match *self.full.lock() {
            Some(at) if at.elapsed() < REMEMBERED => Err(StoreError::Full(NoRoom.into())),
            _ => Ok(()),
        }
    }

    fn set(&self, full: Option<Instant>) {
        let mut present = self.full.lock();
        *present = full;
        self.is_full.store(full.is_some(), Ordering::Relaxed);
    }
}
