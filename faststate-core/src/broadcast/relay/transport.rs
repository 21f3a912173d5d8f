//! The interface between a relay and a publish/subscribe service.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Shared, envelope::Envelope};
use crate::{BoxError, Key};

/// The time limit of each call of the transport.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A publish/subscribe service, such as Redis, PostgreSQL or NATS.
///
/// # Contract
/// A [`Relay`](super::Relay) has one connection at a time. If it breaks or its probes no longer return, the relay
/// drops it and connects again.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Connects, and reports received payloads and the end of the connection to `receiver`.
    ///
    /// # Errors
    /// Fails if there is no connection. The relay bounds this call to 2 s.
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError>;

    /// The maximum size of a payload in bytes. A change that would exceed it is sent without its data.
    fn max_payload_bytes(&self) -> usize;
}

/// A connection to a publish/subscribe service.
///
/// # Contract
/// The relay may call `subscribe` or `unsubscribe` and two `send`s (a batch and a probe) concurrently.
///
/// # Errors
/// Any error ends the connection, and so does a call that takes more than 2 s.
#[async_trait]
pub trait RelayConnection: Send + Sync + 'static {
    /// Subscribes to channels. Returns once every later payload on them will be received.
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BoxError>;

    /// Ends subscriptions.
    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BoxError>;

    /// Sends payloads. Returns once the service has accepted all of them.
    async fn send(&self, payloads: &[(Channel, Bytes)]) -> Result<(), BoxError>;

    /// Returns the numbers of this node's [`Channel::Node`]s that the relay probes (by default the first one only).
    ///
    /// A service that consists of several servers returns one channel on each of them.
    fn probes(&self, node: u64) -> Vec<u32> {
        let _ = node;
        vec![0]
    }
}

/// A channel of the service; its `Display` is its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Channel {
    /// Messages to every node.
    All,
    /// The probes of one node: the node's random number, and the number of the probe.
    Node(u64, u32),
    /// Changes and messages of one key.
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

/// Receives the payloads of a connection, and its end.
#[derive(Clone)]
pub struct Receiver {
    shared: Arc<Shared>,
    pub(super) status: Arc<ConnectionStatus>,
}

/// What a receiver has learned about its connection.
#[derive(Default)]
pub(super) struct ConnectionStatus {
    pub(super) disconnected: Notify,
    /// When each probe last returned.
    pub(super) probed: Mutex<HashMap<u32, Instant>>,
    /// Whether a payload could not be decoded.
    ///
    /// Relaxed: the flag alone matters, and the next probe reads it.
    pub(super) undecodable: AtomicBool,
}

impl Receiver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, status: Arc::default() }
    }

    /// Receives a payload. Does not block.
    pub fn receive(&self, payload: Bytes) {
        match Envelope::decode(payload) {
            Ok((node, Envelope::Probe(probe))) if node == self.shared.node => {
                self.status.probed.lock().insert(probe, Instant::now());
            }
            Ok((node, _)) if node == self.shared.node => {}
            Ok((_, Envelope::Probe(_))) => {}
            Ok((_, Envelope::Change(change))) => self.shared.with_inbox(|inbox| inbox.change(change)),
            Ok((_, Envelope::PeerMessage(key, message))) => {
                self.shared.with_inbox(|inbox| inbox.notified(key, message))
            }
            Err(_) => self.status.undecodable.store(true, Ordering::Relaxed),
        }
    }

    /// Reports the end of the connection.
    pub fn disconnected(&self) {
        self.status.disconnected.notify_one();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

/// Awaits a call of the transport for at most [`CALL_TIMEOUT`].
pub(super) async fn with_timeout<T>(call: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}
