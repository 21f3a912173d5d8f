//! Who looks at what becomes of events.

use std::{
    sync::Weak,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use crate::{EventId, Key, Version};

/// What became of one event, or of something else that moved an instance.
#[derive(Clone, Debug)]
pub struct EventTrace {
    /// When it was done.
    pub at: SystemTime,
    /// The instance.
    pub key: Key,
    /// The event's name; `(store)` for what came from the store or another node.
    pub event: &'static str,
    /// The event's id.
    pub id: Option<EventId>,
    /// Who sent it, if somebody is signed in.
    pub user: Option<String>,
    /// What became of it in a word, and why if it was refused.
    pub outcome: (&'static str, Option<String>),
    /// The instance's version after it.
    pub version: Option<Version>,
    /// The state as it was stored before and after it, where that differs.
    pub change: Option<(Bytes, Bytes)>,
    /// Each topic that somebody follows, and how many do.
    pub recipients: Vec<(String, usize)>,
    /// How long its turn took.
    pub took: Duration,
}

/// Somebody who is told what becomes of every event: for development.
pub trait EventObserver: Send + Sync + 'static {
    /// Must not block: it is called in the instance's turn.
    fn saw(&self, seen: EventTrace);
}

/// Those who watch, as long as they live.
#[derive(Default)]
pub(super) struct Watchers(parking_lot::RwLock<Vec<Weak<dyn EventObserver>>>);

impl Watchers {
    pub(super) fn add(&self, watcher: Weak<dyn EventObserver>) {
        let mut watchers = self.0.write();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(watcher);
    }

    /// Tells everybody, if there is somebody.
    pub(super) fn tell(&self, seen: impl FnOnce() -> EventTrace) {
        let watchers = self.0.read().clone();
        if watchers.is_empty() {
            return;
        }
        let seen = seen();
        watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.saw(seen.clone()));
    }
}
