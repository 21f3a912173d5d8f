//! What a relay asks of a publish/subscribe service.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{Shared, envelope::Envelope};
use crate::{BoxError, Key};

/// A publish/subscribe service: Redis, PostgreSQL, NATS.
///
/// # Contract
/// A [`Relay`](super::Relay) has one line at a time. When it breaks, or when nothing arrives any more, the
/// relay drops it and connects again.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Connects. What arrives on the line's channels goes to `ear`, and so does the line's end.
    ///
    /// # Errors
    /// When there is no connection. Bounded by the relay to 2 s.
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError>;

    /// How many bytes a payload may have: a change that would have more goes without its data.
    fn max_payload_bytes(&self) -> usize;
}

/// A connection. Its three calls are made at the same time, and one of each; the relay's probes are sent
/// whatever else is on its way.
///
/// # Errors
/// Any error ends the line, and so does a call that takes over 2 s.
#[async_trait]
pub trait RelayConnection: Send + Sync + 'static {
    /// Subscribes; returns when whatever is sent from now on arrives.
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BoxError>;

    /// Ends subscriptions.
    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BoxError>;

    /// Sends payloads; returns when the service has all of them.
    async fn send(&self, letters: &[(Channel, Bytes)]) -> Result<(), BoxError>;

    /// Which of the channels [`Channel::Node`] of this node the relay probes (the first): where the service
    /// is made of several, one on each.
    fn probes(&self, node: u64) -> Vec<u32> {
        let _ = node;
        vec![0]
    }
}

/// What can be subscribed to. Its `Display` names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Channel {
    /// What concerns every node.
    All,
    /// One node's own, for its probes: the node's random number, and which of its probes.
    Node(u64, u32),
    /// What concerns the followers of a key.
    Key(Key),
}

/// Unique for each channel: `all`, `node/9f3c../0` or `key/` and the key's text.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Node(node, probe) => write!(f, "node/{node:016x}/{probe}"),
            Self::Key(key) => write!(f, "key/{key}"),
        }
    }
}

/// Where a line puts what arrives.
#[derive(Clone)]
pub struct Receiver {
    shared: Arc<Shared>,
    pub(super) news: Arc<News>,
}

/// What a line has said of itself.
#[derive(Default)]
pub(super) struct News {
    pub(super) cut: Notify,
    /// When each probe arrived last.
    pub(super) probed: Mutex<HashMap<u32, Instant>>,
    /// Whether something arrived that cannot be read.
    pub(super) illegible: AtomicBool,
}

impl Receiver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, news: Arc::default() }
    }

    /// A payload has arrived. Does not block.
    pub fn receive(&self, payload: Bytes) {
        match Envelope::read(payload) {
            Ok((node, Envelope::Probe(probe))) if node == self.shared.node => {
                self.news.probed.lock().insert(probe, Instant::now());
            }
            Ok((node, _)) if node == self.shared.node => {}
            Ok((_, Envelope::Probe(_))) => {}
            Ok((_, Envelope::Change(change))) => self.shared.tell_inbox(|inbox| inbox.change(change)),
            Ok((_, Envelope::Words(key, message))) => {
                self.shared.tell_inbox(|inbox| inbox.notified(key, message))
            }
            Err(_) => self.news.illegible.store(true, Ordering::Relaxed),
        }
    }

    /// The line has ended.
    pub fn disconnected(&self) {
        self.news.cut.notify_one();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
