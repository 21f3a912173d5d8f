//! Carries changes between nodes.

mod local;
mod relay;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::{
    local::LocalBroadcaster,
    relay::{Channel, Receiver, Relay, RelayConnection, Transport},
};
use crate::{BoxError, Key, Version};

/// The maximum size of a peer message in bytes.
pub(crate) const MAX_PEER_MESSAGE_BYTES: usize = 4096;

/// Carries changes between nodes, at most once and perhaps out of order.
///
/// # Contract
/// 1. A change that one node publishes reaches the [`Inbox`] of every other node that has joined the
///    key, unless it is lost. It may also reach the publisher's own inbox.
/// 2. If a node may have missed changes (a connection broke, a buffer overflowed), its [`Inbox::lost`] is called.
/// 3. A node that has not joined a key receives few or none of the key's changes.
/// 4. A peer message reaches every other attached node, or every one that has joined the message's key,
///    unless it is lost.
///
/// Losses are permitted: a node that receives a change which does not start at its own version loads the record
/// from the store. The suite `conformance::broadcaster` checks this contract.
///
/// # For implementers
/// - Over a publish/subscribe service, implement [`Transport`] instead: [`Relay`] turns it into a broadcaster with
///   probes, reconnects and loss detection.
/// - Call [`Inbox::lost`] after every reconnect, and whenever a message may have been dropped. A missing call leaves
///   pages stale; a superfluous one costs a reload of every followed instance.
/// - Keep every field of [`Change`], except that `data` may be dropped.
/// - Run `conformance::broadcaster::all` over three connected nodes in your tests.
#[async_trait]
pub trait Broadcaster: fmt::Debug + Send + Sync + 'static {
    /// Sends a change to the other nodes.
    ///
    /// # Errors
    /// Fails if the transport refuses the change. The engine logs this and continues, because the change is saved.
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError>;

    /// Sends a peer message to the nodes that have joined `key`, or to all nodes without one.
    ///
    /// # Limits
    /// `message` has at most 4,096 bytes.
    ///
    /// # Errors
    /// Fails if the message is too long or the transport refuses it.
    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError>;

    /// Subscribes to the changes and peer messages of a key until the interest is dropped.
    ///
    /// # Errors
    /// Fails if the transport refuses. The follower is then rejected.
    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError>;

    /// Attaches the inbox of this node. Called once, before anything is published.
    fn attach(&self, inbox: Arc<dyn Inbox>);
}

#[async_trait]
impl<T: Broadcaster + ?Sized> Broadcaster for Arc<T> {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        (**self).publish(change).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        (**self).notify(key, message).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        (**self).join(key).await
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        (**self).attach(inbox);
    }
}

/// Receives the changes and messages of other nodes. Called inside the tokio runtime of its registry.
pub trait Inbox: Send + Sync + 'static {
    /// Receives a change of another node. Must not block.
    fn change(&self, change: Change);

    /// Receives a peer message about a key that is joined here, or one to all nodes. Must not block.
    fn notified(&self, key: Option<Key>, message: Bytes);

    /// Reports that changes may have been lost, so that every followed instance must be reloaded. Must not block.
    fn lost(&self);
}

/// One committed change of one key.
///
/// Deliberately not `#[non_exhaustive]`: a broadcaster must send every field, so a new field must break it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// The version before the change.
    pub from: Version,
    /// The version after the change.
    pub to: Version,
    /// The `SCHEMA` of the state that wrote it. A node with another schema loads the record from the store.
    pub schema: u32,
    /// The stored JSON after the change, if the transport has room for it. Without it, a node loads the record.
    pub data: Option<Bytes>,
}

/// A node's subscription to a key, which ends when this is dropped.
#[must_use = "the subscription ends when the interest is dropped"]
pub struct Interest {
    leave: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Interest {
    /// Creates an interest that runs `leave` when it is dropped.
    pub fn new(leave: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { leave: Some(Box::new(leave)) }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave();
        }
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interest")
    }
}

/// The transport between nodes failed. This is temporary; the source has the reason.
#[derive(Debug, thiserror::Error)]
#[error("the broadcaster does not answer")]
pub struct BroadcastError(#[source] BoxError);

impl BroadcastError {
    /// Creates an error with this source.
    #[must_use]
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self(source.into())
    }
}
