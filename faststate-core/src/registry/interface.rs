//! The engine's interface for endpoints, handles and the testkit.

use std::{
    any::{Any, TypeId},
    sync::{Arc, Weak},
};

use async_trait::async_trait;

#[cfg(feature = "inspector")]
use super::observe::trace::EventObserver;
use super::{
    Error,
    instances::Instances,
    messages::operator::{MessageAction, UnfinishedMessage},
    mistakes::Part,
    new_sessions::NewSessions,
    request::{Rendered, Route, TopicName},
};
use crate::{Key, Revocation, Version, Viewer, topics::Follower};

/// The calls of the endpoint, of handles and of the testkit to the engine.
///
/// Hidden, and so sealed in effect: [`StateRegistry`](crate::StateRegistry) implements it, and registries in tests that
/// change one of these calls. A wrapper of another crate returns the engine of the registry that it wraps.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Logs a warning, once for each mistake, if this name can never be found here: a state, event or view that is
    /// not registered, or an id that is missing or superfluous. Does nothing if only the instance does not exist.
    fn report_mistake(&self, state: &str, has_id: bool, part: Part<'_>);

    /// Returns every event that can be called over HTTP.
    fn routes(&self) -> Vec<Route>;

    /// Returns the instances of a state.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a state that does not exist.
    fn instances(&self, state: &str) -> Result<&dyn Instances, Error>;

    /// Returns the initial content of a topic in a page: its signals, or a view's elements.
    ///
    /// # Errors
    /// Those of [`Registry::read`](crate::Registry::read); [`Error::Unknown`] also if access is refused or the view is
    /// unknown.
    async fn visible(&self, topic: &TopicName, viewer: &Viewer) -> Result<Rendered, Error>;

    /// Joins a topic. The follower receives nothing, the frames after `cursor`, or a snapshot, and all later frames.
    ///
    /// `stream` identifies the connection, so that a connection that follows several topics of a key counts once.
    /// A cursor of another epoch or ahead of this node makes the node load the record first (law 4).
    ///
    /// # Errors
    /// As [`visible`](Self::visible).
    async fn follow(
        &self,
        topic: &TopicName,
        viewer: &Viewer,
        cursor: Option<Version>,
        stream: u64,
    ) -> Result<Follower, Error>;

    /// Returns at most `limit` unfinished messages, timers and jobs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if a store does not answer.
    async fn unfinished_messages(&self, limit: usize) -> Result<Vec<UnfinishedMessage>, Error>;

    /// Retries or drops an unfinished message, timer or job. `id` is that of [`UnfinishedMessage`].
    ///
    /// # Errors
    /// [`Error::Unknown`] if it is finished.
    async fn resolve_message(&self, sender: &Key, id: &str, action: MessageAction) -> Result<(), Error>;

    /// Returns the resource of this type that the builder was given.
    fn resource(&self, kind: TypeId) -> Option<Arc<dyn Any + Send + Sync>>;

    /// Returns how many streams of this node follow any topic of the key.
    fn followers(&self, key: &Key) -> usize;

    /// Registers a listener for revocations from this or any other node. It is held weakly.
    fn register_revoker(&self, revoker: Weak<dyn StreamRevoker>);

    /// Returns the table of sessions whose cookie has not come back, which limits the memory that they use. An
    /// endpoint adds its new sessions to it.
    fn new_sessions(&self) -> Arc<NewSessions>;

    /// Returns whether the store did not respond to the last call for this key, so that this node's state may be stale.
    fn is_stale(&self, key: &Key) -> bool;

    /// Returns complete metric families in Prometheus' text format, to which the endpoint adds its own. Pings each
    /// store once.
    ///
    /// Provided, because a test's registry does not know whether another crate enables the feature.
    #[cfg(feature = "metrics")]
    async fn metrics(&self) -> String {
        String::new()
    }

    /// Registers an observer of every event's outcome, for development. It is held weakly.
    ///
    /// Provided for the reason given at `metrics`.
    #[cfg(feature = "inspector")]
    fn watch(&self, observer: Weak<dyn EventObserver>) {
        drop(observer);
    }
}

/// Closes open streams on revocation. The endpoint implements it.
pub trait StreamRevoker: Send + Sync + 'static {
    /// Ends the streams that the revocation concerns. Must not block.
    fn revoke(&self, revocation: &Revocation);

    /// Schedules a check of each stream's access, because revocations may have been missed. Must not block.
    fn recheck_soon(&self);
}
