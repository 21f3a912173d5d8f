//! Instances and their turns: the engine.

mod access;
mod any_view;
mod build;
mod cluster;
mod config;
mod deadline;
mod dispatch;
mod dyn_table;
mod engine;
mod error;
mod event;
mod followers;
mod instance;
mod load;
mod maintenance_gate;
mod mistakes;
mod new_sessions;
mod observe;
mod panics;
mod request;
mod shared;
mod turn;

use std::{
    any::{Any, TypeId},
    sync::{Arc, Weak},
};

use async_trait::async_trait;

pub(crate) use self::event::mutation::{Mutation, Update};
#[cfg(feature = "inspector")]
pub use self::observe::trace::{EventObserver, EventTrace};
pub use self::{
    access::Access,
    build::registry::{RegistryBuilder, StateBuilder},
    config::StateConfig,
    engine::StateRegistry,
    error::{BuildError, Error},
    followers::audience::Audience,
    maintenance_gate::MaintenanceGate,
    mistakes::Part,
    new_sessions::{Caps, NewSession, NewSessions},
    request::{
        Applied, Call, Job, Outcome, Rendered, ReplyStream, ReplyView, Route, StateSnapshot, TopicName,
        TopicNameError,
    },
};
use crate::{Health, Key, Revocation, Version, Viewer, topics::Follower};

/// The interface of the engine for adapters, handles and application code.
///
/// Object-safe: an `Arc<dyn Registry>` is all that the endpoint and [`Handle`](crate::Handle) know. [`StateRegistry`] is
/// the engine. Other implementations wrap a registry, as [`MaintenanceGate`] does, and forward every call that they do
/// not change.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// The key of `state` for this viewer: owner from the viewer, id from the path.
    ///
    /// Says nothing about whether the instance exists or the viewer may see it.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a state that does not exist or an id that it cannot have,
    /// [`Error::SignIn`] for a user's state without a user, [`Error::Unknown`] for a session's state
    /// without a session.
    fn key(&self, state: &str, viewer: &Viewer, id: Option<&str>) -> Result<Key, Error>;

    /// Warns in the log, once for each mistake, if this name can never be found here: a state, event or view that is
    /// not registered, or an id that is missing or superfluous. Does nothing if only the instance does not exist.
    ///
    /// The provided implementation does nothing. A registry that wraps another one passes the call on.
    fn report_mistake(&self, state: &str, has_id: bool, part: Part<'_>) {
        let _ = (state, has_id, part);
    }

    /// Every event that can be called over HTTP.
    fn routes(&self) -> Vec<Route>;

    /// Sends an event: input by type, access, prepare, the key's turn, reply.
    ///
    /// # Contract
    /// The place in the key's queue is taken when the future is first polled, unless `prepare` waits.
    /// The accepted event is applied exactly once (laws 2 and 3); anything else leaves the state as it
    /// was (law 7).
    ///
    /// # Errors
    /// Within the deadline (2 s of arrival by default), whatever the queue: see [`Error`].
    ///
    /// # Cancellation
    /// A dropped future stops nothing: once queued, the event runs to its end.
    async fn dispatch(&self, call: Call) -> Result<Outcome, Error>;

    /// Runs a job of the application in the key's turn, without access checks: what
    /// [`Handle`](crate::Handle) is made of. Same contract, errors and cancellation as `dispatch`.
    async fn run(&self, key: &Key, job: Job) -> Result<Outcome, Error>;

    /// The present state of an instance, loaded if it is not in memory. Where the store does not answer, it
    /// is what this node remembers, and marked as [stale](StateSnapshot::stale) (law 13).
    ///
    /// # Errors
    /// [`Error::Unknown`] for a record that does not exist, [`Error::Busy`] at the cap,
    /// [`Error::Unavailable`] when the store does not answer and nothing is remembered.
    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error>;

    /// Deletes an instance: its followers see the default under a new epoch. No access checks.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    async fn delete(&self, key: &Key) -> Result<(), Error>;

    /// Whether the viewer may see and change this instance.
    fn allows(&self, key: &Key, viewer: &Viewer) -> bool;

    /// What a page shows of a topic at this moment: its signals, or a view's elements.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::Unknown`] also when access is refused or the view is unknown.
    async fn visible(&self, topic: &TopicName, viewer: &Viewer) -> Result<Rendered, Error>;

    /// Joins a topic: nothing, the frames after `cursor`, or a snapshot, and frames from then on.
    ///
    /// `stream` names the connection, so that one that follows several topics of a key counts once.
    /// A cursor of another epoch or ahead of this node makes it read the store first (law 4).
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

    /// The resource of this type that the builder was given, for [`Handle::resource`](crate::Handle::resource).
    ///
    /// Nothing, unless it is implemented: what wraps a registry passes it on.
    fn resource(&self, kind: TypeId) -> Option<Arc<dyn Any + Send + Sync>> {
        let _ = kind;
        None
    }

    /// How many streams follow the key here, whichever of its topics.
    fn followers(&self, key: &Key) -> usize;

    /// Closes a viewer's streams on every node, for logout and revocation (law 8).
    ///
    /// # Contract
    /// Every endpoint of this registry has closed the streams when this returns. Unreachable nodes are notified
    /// later, for up to 5 minutes: by then each stream has been rechecked anyway. If more than 4,096 revocations
    /// are pending, the nodes recheck all of their streams instead. A node that was disconnected rechecks its
    /// streams when it returns.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if other nodes were not notified within the deadline.
    async fn revoke(&self, revocation: Revocation) -> Result<(), Error>;

    /// Registers a listener for revocations from this or any other node. It is held weakly.
    fn register_revoker(&self, revoker: Weak<dyn StreamRevoker>);

    /// The table of sessions whose cookie has not come back, which an endpoint adds its new ones to: it bounds what
    /// they hold.
    ///
    /// Nothing, unless it is implemented: what wraps a registry passes it on.
    fn new_sessions(&self) -> Option<Arc<NewSessions>> {
        None
    }

    /// Whether the store did not answer when it was asked last about the key, so that what this node shows
    /// of it may be stale.
    fn is_stale(&self, key: &Key) -> bool;

    /// Figures for the status page and the probes. Asks each store once and goes over all instances: code that answers
    /// the public keeps them for a second, as `/faststate/health` does.
    async fn health(&self) -> Health;

    /// Figures for Prometheus: text of whole families, which the endpoint adds its own to. Asks each store once.
    ///
    /// Nothing, unless it is implemented: what wraps a registry passes it on.
    #[cfg(feature = "metrics")]
    async fn metrics(&self) -> String {
        String::new()
    }

    /// Registers an observer of every event's outcome, for development. It is held weakly.
    ///
    /// Nothing, unless it is implemented: what wraps a registry passes it on.
    #[cfg(feature = "inspector")]
    fn watch(&self, watcher: Weak<dyn EventObserver>) {
        drop(watcher);
    }

    /// Waits until every accepted event and the work it left behind has ended.
    ///
    /// Also waits until the other nodes have been notified of the changes, but for no more than 3 s where the
    /// transport refuses. Does not refuse new events: stop the listener first. Bounded by the caller.
    async fn settle(&self);

    /// Says goodbye to the other nodes: they forget this node at once and reload nothing. To be called last,
    /// after [`settle`](Self::settle).
    ///
    /// A node that may have saved a change without notifying the others sends no goodbye: they detect its silence
    /// and reload their followed keys.
    ///
    /// Nothing, unless it is implemented: what wraps a registry passes it on.
    async fn leave(&self) {}
}

/// Closes open streams on revocation. Implemented by the endpoint.
pub trait StreamRevoker: Send + Sync + 'static {
    /// Ends the streams that the revocation concerns. Must not block.
    fn revoke(&self, revocation: &Revocation);

    /// Revocations may have been missed: each stream's access is to be checked soon. Must not block.
    fn recheck_soon(&self);
}
