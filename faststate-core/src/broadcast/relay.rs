//! A broadcaster over any publish/subscribe service.

mod batcher;
mod connection;
mod envelope;
mod interests;
mod transport;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

pub use self::transport::{Channel, Receiver, RelayConnection, Transport};
use self::{batcher::Batcher, connection::keep_connected, envelope::Envelope, interests::Interests};
use super::{BroadcastError, Broadcaster, Change, Inbox, Interest, MAX_PEER_MESSAGE_BYTES};
use crate::{BoxError, Key};

/// A [`Broadcaster`] over any publish/subscribe service.
///
/// It keeps one connection to the service and subscribes to one channel for each key that is joined on this node, one
/// for all nodes, and one of its own. Every second it sends a probe to its own channel. If no probe returns for 3 s,
/// the connection counts as dead, whatever the connection itself reports. A connection that ends is replaced after a
/// pause that doubles up to one second, with jitter. Then every key is subscribed again, and [`Inbox::lost`] is called.
///
/// Without a connection, `publish` and `notify` fail at once, so that the engine can retry, and `join` succeeds at
/// once, because the loss is reported after the reconnect.
///
/// # Locking
/// `batcher` protects only the handle of the present connection. `interests` and the batcher have locks of their own.
/// None of them is held while another one is taken, nor across an await.
pub struct Relay {
    shared: Arc<RelayShared>,
    max_payload_bytes: usize,
    keeper: AbortHandle,
}

/// The part of a relay that the task of its connection shares.
struct RelayShared {
    /// A random number that identifies this node's own envelopes.
    node: u64,
    inbox: OnceLock<Arc<dyn Inbox>>,
    interests: Interests,
    /// The batcher of the present connection.
    batcher: Mutex<Option<Arc<Batcher>>>,
}

impl Relay {
    /// Connects, and spawns the task that keeps the connection in this tokio runtime.
    ///
    /// # Errors
    /// Fails if the transport refuses or takes more than 2 s.
    pub async fn start(transport: impl Transport) -> Result<Self, BoxError> {
        let node = rand::random();
        let (interests, batcher) = (Interests::default(), Mutex::default());
        let shared = Arc::new(RelayShared { node, inbox: OnceLock::new(), interests, batcher });
        let max_payload_bytes = transport.max_payload_bytes();
        let first = shared.connect(&transport).await?;
        let keeper = tokio::spawn(keep_connected(Arc::clone(&shared), transport, first)).abort_handle();
        Ok(Self { shared, max_payload_bytes, keeper })
    }

    /// Returns whether every joined key is subscribed.
    #[must_use]
    #[doc(hidden)]
    pub fn is_connected(&self) -> bool {
        self.shared.interests.is_up()
    }

    async fn send(&self, channel: Channel, payload: Bytes) -> Result<(), BroadcastError> {
        let batcher = self.shared.batcher.lock().clone();
        let batcher = batcher.ok_or_else(|| BroadcastError::new(Disconnected))?;
        batcher.send(channel, payload).await.map_err(|_| BroadcastError::new(Disconnected))
    }
}

impl RelayShared {
    fn with_inbox(&self, call: impl FnOnce(&dyn Inbox)) {
        if let Some(inbox) = self.inbox.get() {
            call(&**inbox);
        }
    }

    fn close_batcher(&self) {
        if let Some(batcher) = self.batcher.lock().take() {
            batcher.close();
        }
    }
}

/// There is no connection to the service.
#[derive(Debug, thiserror::Error)]
#[error("there is no connection to the other nodes")]
struct Disconnected;

/// The peer message exceeds [`MAX_PEER_MESSAGE_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("a peer message has at most {MAX_PEER_MESSAGE_BYTES} bytes")]
struct TooLong;

#[async_trait]
impl Broadcaster for Relay {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        let payload = Envelope::change(self.shared.node, change, self.max_payload_bytes);
        self.send(Channel::Key(change.key.clone()), payload).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        if message.len() > MAX_PEER_MESSAGE_BYTES {
            return Err(BroadcastError::new(TooLong));
        }
        let channel = key.map_or(Channel::All, |key| Channel::Key(key.clone()));
        self.send(channel, Envelope::peer_message(self.shared.node, key, &message)).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        let opened = self.shared.interests.join(key);
        // Created before the await, so that a caller that drops this future leaves the key.
        let (shared, key) = (Arc::downgrade(&self.shared), key.clone());
        let interest = Interest::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.interests.leave(&key);
            }
        });
        if let Some(opened) = opened {
            // If the connection breaks in the meantime, the reconnect reports the loss.
            let _ = opened.await;
        }
        Ok(interest)
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        // The contract permits only one call; a second one has no effect.
        let _ = self.shared.inbox.set(inbox);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.keeper.abort();
        self.shared.close_batcher();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("connected", &self.is_connected()).finish_non_exhaustive()
    }
}
