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

/// How many bytes words may have that one node tells others.
pub(crate) const MAX_PEER_MESSAGE_BYTES: usize = 4096;

/// Carries changes between nodes, at most once and perhaps out of order.
///
/// # Contract
/// 1. A change that one node publishes reaches the [`Inbox`] of every other node that has joined the
///    key, unless it is lost; the publisher's own inbox may see it too.
/// 2. A node that may have missed changes (a connection broke, a buffer ran over) hears
///    [`Inbox::lost`].
/// 3. A node that has not joined a key hears nothing of it, or little.
/// 4. Words that one node tells reach every other attached node, or those that have joined the key that
///    they are about, unless they are lost.
///
/// Loss is fine: followers notice that a change does not start where they are, and read the store.
/// The suite `conformance::broadcaster` checks it.
#[async_trait]
pub trait Broadcaster: fmt::Debug + Send + Sync + 'static {
    /// Sends a change to the other nodes.
    ///
    /// # Errors
    /// When the transport refuses; the engine logs it and goes on, since the change is saved.
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError>;

    /// Tells the other nodes something: those that have joined `key`, or all of them.
    ///
    /// # Limits
    /// At most 4,096 bytes.
    ///
    /// # Errors
    /// When the transport refuses.
    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError>;

    /// Asks for the changes of a key, and for what is told of it, until the interest is dropped.
    ///
    /// # Errors
    /// When the transport refuses; the follower is then turned away.
    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError>;

    /// Connects a node. Called once, before anything is published.
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

/// A node's ear. Called inside the tokio runtime of its registry.
pub trait Inbox: Send + Sync + 'static {
    /// A change of another node. Must not block.
    fn change(&self, change: Change);

    /// What another node told: of a key that was joined here, or all nodes. Must not block.
    fn notified(&self, key: Option<Key>, message: Bytes);

    /// Changes may have been lost: whatever is followed here must be read again. Must not block.
    fn lost(&self);
}

/// One committed step of one key. Whatever carries it carries every field of it, so another one would break
/// broadcasters on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// The version before.
    pub from: Version,
    /// The version after.
    pub to: Version,
    /// The `SCHEMA` of the state that wrote it: a node of another one reads the store.
    pub schema: u32,
    /// The stored JSON after it, if the transport carries it; without it a node reads the store.
    pub data: Option<Bytes>,
}

/// A node's interest in a key: left when dropped.
#[must_use = "an interest is left when it is dropped"]
pub struct Interest {
    leave: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Interest {
    /// An interest that runs `leave` when it is dropped.
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

/// The transport between nodes refused: temporary, and the source says why.
#[derive(Debug, thiserror::Error)]
#[error("the broadcaster does not answer")]
pub struct BroadcastError(#[source] BoxError);

impl BroadcastError {
    /// The refusal for this reason.
    #[must_use]
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self(source.into())
    }
}
