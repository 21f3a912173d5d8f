//! The engine: instances, their turns, and the interface of applications to them.

mod access;
mod any_view;
mod build;
mod cluster;
mod config;
mod deadline;
mod dyn_table;
mod engine;
mod erased_table;
mod error;
mod event;
mod followers;
mod instance;
pub(crate) mod instances;
pub(crate) mod interface;
mod load;
mod maintenance_gate;
pub(crate) mod messages;
pub(crate) mod mistakes;
pub(crate) mod new_sessions;
pub(crate) mod observe;
mod panics;
pub(crate) mod request;
mod shared;
mod tasks;
mod turn;

use async_trait::async_trait;

use self::interface::Engine;
pub(crate) use self::request::ReplyView;
pub use self::{
    access::Access,
    build::{registry::RegistryBuilder, state::StateBuilder},
    config::StateConfig,
    engine::StateRegistry,
    error::{BuildError, Error},
    followers::audience::Audience,
    maintenance_gate::MaintenanceGate,
    messages::operator::{MessageAction, UnfinishedMessage},
    request::{Applied, Call, Outcome, ReplyStream, StateSnapshot},
};
use crate::{Health, Key, Revocation, Viewer};

/// The calls of an application, or of an adapter written by hand, to its states.
///
/// Object-safe: an endpoint and a [`Handle`](crate::Handle) hold an `Arc<dyn Registry>`. [`Handle::of`](crate::Handle::of)
/// gives typed access to one instance, so most applications only name the trait as a type.
///
/// # For implementers
/// [`StateRegistry`] is the engine. Every other implementation wraps a registry: it changes some calls, as
/// [`MaintenanceGate`] does with [`dispatch`](Self::dispatch), and forwards the others, including
/// [`engine`](Self::engine). Handles, pages and streams use `engine` without the wrapper's other methods, so a wrapper
/// changes what it overrides and nothing else.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Returns the key of `state` for this viewer: the owner comes from the viewer, the id from the path.
    ///
    /// The key does not imply that the instance exists or that the viewer may access it.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a state that does not exist or an id that it cannot have,
    /// [`Error::SignIn`] for a user's state without a user, [`Error::Unknown`] for a session's state
    /// without a session.
    fn key(&self, state: &str, viewer: &Viewer, id: Option<&str>) -> Result<Key, Error>;

    /// Returns whether the viewer may read and change this instance.
    fn allows(&self, key: &Key, viewer: &Viewer) -> bool;

    /// Sends an event: decodes the input, checks access, prepares, applies in the key's turn, and replies.
    ///
    /// # Contract
    /// The event gets its place in the key's queue when the future is first polled, unless `prepare` waits.
    /// An accepted event is applied exactly once (laws 2 and 3); any other outcome leaves the state as it
    /// was (law 7).
    ///
    /// # Errors
    /// See [`Error`]. The call returns within the deadline (2 s after arrival by default), however long the queue is.
    ///
    /// # Cancellation
    /// Dropping the future does not stop the event: once queued, it runs to its end.
    async fn dispatch(&self, call: Call) -> Result<Outcome, Error>;

    /// Returns the current state of an instance, and loads it if it is not in memory.
    ///
    /// If the store does not respond, the result is the state that this node has in memory, marked as
    /// [stale](StateSnapshot::stale) (law 13).
    ///
    /// # Errors
    /// [`Error::Unknown`] for a record that does not exist, [`Error::Busy`] if the registry holds its maximum of
    /// instances, [`Error::Unavailable`] if the store does not respond and the instance is not in memory.
    ///
    /// # Cancellation
    /// Dropping the future has no effect on the instance.
    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error>;

    /// Closes a viewer's streams on every node, for logout and revocation (law 8).
    ///
    /// # Contract
    /// When this returns, every endpoint of this registry has closed the streams. Unreachable nodes are notified
    /// later, for up to 5 minutes; each stream is rechecked within that time anyway. If more than 4,096 revocations
    /// are pending, the nodes recheck all of their streams instead. A node that was disconnected rechecks its
    /// streams when it returns.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if other nodes were not notified within the deadline.
    async fn revoke(&self, revocation: Revocation) -> Result<(), Error>;

    /// Returns figures for the status page and the probes.
    ///
    /// Pings each store once and iterates over all instances. Code that serves the public caches the result for a
    /// second, as `/faststate/health` does.
    async fn health(&self) -> Health;

    /// Waits until every accepted event and its background work has ended.
    ///
    /// Also waits until the other nodes have been notified of the changes, but at most 3 s if the transport refuses.
    /// Does not refuse new events: stop the listener first. The caller sets a time limit.
    async fn settle(&self);

    /// Sends a goodbye to the other nodes, which forget this node at once and reload nothing. Call it last, after
    /// [`settle`](Self::settle).
    ///
    /// A node that may have saved a change without notifying the others sends no goodbye: they detect its silence
    /// and reload the keys that they follow.
    async fn leave(&self);

    /// Returns the internal interface of the engine, for endpoints and handles. A wrapper forwards this call.
    ///
    /// No version guarantees the methods of the result.
    #[doc(hidden)]
    fn engine(&self) -> &dyn Engine;
}
