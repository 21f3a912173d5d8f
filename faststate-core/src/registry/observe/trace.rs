//! Traces of events, for development tools such as the inspector.

use std::{
    sync::Weak,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use crate::{EventId, Key, Version};

/// The trace of one event, or of a newer state that was adopted from the store or another node.
#[derive(Clone, Debug)]
pub struct EventTrace {
    /// The time at which the event was finished.
    pub at: SystemTime,
    /// The instance.
    pub key: Key,
    /// The event's name, or `(store)` for a state that came from the store or another node.
    pub event: &'static str,
    /// The event's id.
    pub id: Option<EventId>,
    /// The signed-in user that sent the event.
    pub user: Option<String>,
    /// The outcome in one or two words, and the reason for a refusal or failure.
    pub outcome: (&'static str, Option<String>),
    /// The instance's version after the event.
    pub version: Option<Version>,
    /// The stored form of the state before and after the event, if the event changed it.
    pub change: Option<(Bytes, Bytes)>,
    /// The followed topics and their numbers of followers.
    pub recipients: Vec<(String, usize)>,
    /// The duration of the event's turn.
    pub took: Duration,
}

/// Receives a trace of every event. Intended for development.
pub trait EventObserver: Send + Sync + 'static {
    /// Receives one trace. Runs in the instance's turn, so it must not block.
    fn on_event(&self, trace: EventTrace);
}

/// The registered observers, which are held weakly.
#[derive(Default)]
pub(in crate::registry) struct Watchers(parking_lot::RwLock<Vec<Weak<dyn EventObserver>>>);

impl Watchers {
    pub(in crate::registry) fn add(&self, observer: Weak<dyn EventObserver>) {
        let mut observers = self.0.write();
        observers.retain(|observer| observer.strong_count() > 0);
        observers.push(observer);
    }

    /// Sends a trace to all observers. `trace` is called only if there is one.
    pub(in crate::registry) fn notify(&self, trace: impl FnOnce() -> EventTrace) {
        let observers = self.0.read().clone();
        if observers.is_empty() {
            return;
        }
        let trace = trace();
        observers.iter().filter_map(Weak::upgrade).for_each(|observer| observer.on_event(trace.clone()));
    }
}
