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
use self::{batcher::Batcher, connection::keep_line, envelope::Envelope, interests::Interests};
use super::{BroadcastError, Broadcaster, Change, Inbox, Interest, MAX_PEER_MESSAGE_BYTES};
use crate::{BoxError, Key};

/// A [`Broadcaster`] over any publish/subscribe service.
///
/// It keeps one line to the service, with a channel for each key that is joined on this node, one for all
/// nodes and one of its own. A letter is sent to that one every second and has to come back: a line on
/// which nothing arrives any more is noticed within 4 s, whatever the connection itself says. A line that
/// ends is replaced after a pause that doubles up to a second, with jitter; then every key is joined again
/// and the node hears [`Inbox::lost`].
///
/// Without a line `publish` and `tell` fail at once, so that the engine can try again, and `join` succeeds
/// at once: whatever is lost is announced.
pub struct Relay {
    shared: Arc<Shared>,
    longest: usize,
    keeper: AbortHandle,
}

struct Shared {
    /// Random, to tell this node's own letters.
    node: u64,
    inbox: OnceLock<Arc<dyn Inbox>>,
    interests: Interests,
    /// Of the line that is up.
    outlet: Mutex<Option<Arc<Batcher>>>,
}

impl Relay {
    /// Connects, and keeps the line from then on, in this tokio runtime.
    ///
    /// # Errors
    /// When there is no connection within 2 s, or the transport refuses.
    pub async fn start(transport: impl Transport) -> Result<Self, BoxError> {
        let node = rand::random();
        let (interests, outlet) = (Interests::default(), Mutex::default());
        let shared = Arc::new(Shared { node, inbox: OnceLock::new(), interests, outlet });
        let longest = transport.max_payload_bytes();
        let first = shared.connect(&transport).await?;
        let keeper = tokio::spawn(keep_line(Arc::clone(&shared), transport, first)).abort_handle();
        Ok(Self { shared, longest, keeper })
    }

    /// Whether the line is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.interests.is_up()
    }

    async fn send(&self, channel: Channel, payload: Bytes) -> Result<(), BroadcastError> {
        let outlet = self.shared.outlet.lock().clone();
        let outlet = outlet.ok_or_else(|| BroadcastError::new(Disconnected))?;
        outlet.send(channel, payload).await.map_err(|_| BroadcastError::new(Disconnected))
    }
}

impl Shared {
    fn tell_inbox(&self, tell: impl FnOnce(&dyn Inbox)) {
        if let Some(inbox) = self.inbox.get() {
            tell(&**inbox);
        }
    }

    fn close_outlet(&self) {
        if let Some(outlet) = self.outlet.lock().take() {
            outlet.close();
        }
    }
}

/// There is no line.
#[derive(Debug, thiserror::Error)]
#[error("there is no connection to the other nodes")]
struct Disconnected;

/// There are too many words.
#[derive(Debug, thiserror::Error)]
#[error("a peer message has at most {MAX_PEER_MESSAGE_BYTES} bytes")]
struct TooLong;

#[async_trait]
impl Broadcaster for Relay {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        let payload = Envelope::change(self.shared.node, change, self.longest);
        self.send(Channel::Key(change.key.clone()), payload).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        if message.len() > MAX_PEER_MESSAGE_BYTES {
            return Err(BroadcastError::new(TooLong));
        }
        let channel = key.map_or(Channel::All, |key| Channel::Key(key.clone()));
        self.send(channel, Envelope::words(self.shared.node, key, &message)).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        let opened = self.shared.interests.join(key);
        // From here on, so that it is left again if nobody waits for the rest.
        let (shared, key) = (Arc::downgrade(&self.shared), key.clone());
        let interest = Interest::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.interests.leave(&key);
            }
        });
        if let Some(opened) = opened {
            // If the line breaks meanwhile, its return is announced.
            let _ = opened.await;
        }
        Ok(interest)
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        // Once, says the contract.
        let _ = self.shared.inbox.set(inbox);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.keeper.abort();
        self.shared.close_outlet();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("connected", &self.is_connected()).finish_non_exhaustive()
    }
}
