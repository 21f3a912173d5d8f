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

use super::{RelayShared, envelope::Envelope};
use crate::{BoxError, Key};

/// The time limit of each call of the transport.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A publish/subscribe service, such as Redis, PostgreSQL or NATS.
///
/// # Contract
/// A [`Relay`](super::Relay) has one connection at a time. If it breaks or its probes no longer return, the relay
/// drops it and connects again.
///
/// # For implementers
/// - In `connect`, spawn the task that reads from the service. It calls [`Receiver::receive`] for each payload, and
///   [`Receiver::disconnected`] when the connection ends. It must end when the connection is dropped.
/// - Do not reconnect or repeat calls. The relay does so, subscribes again, and reports the loss to the node.
/// - Use the `Display` of a [`Channel`] as its name, or a hash of it if the service permits only short names.
/// - Payloads are bytes. If the service carries only text, encode them, and return the maximum size before encoding
///   from [`max_payload_bytes`](Self::max_payload_bytes).
/// - Deliver a node's own payloads to it as well: the relay's probes need this, and it ignores all others.
/// - Run `conformance::broadcaster::all` over three relays in your tests.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Connects, and reports received payloads and the end of the connection to `receiver`.
    ///
    /// # Errors
    /// Fails if there is no connection. The relay bounds this call to 2 s.
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError>;

    /// Returns the maximum size of a change in bytes. A change that would exceed it is sent without its data.
    ///
    /// # Limits
    /// The service must carry payloads of 6,000 bytes in any case: a change without its data has at most 1,660 bytes,
    /// and a peer message at most 5,710.
    fn max_payload_bytes(&self) -> usize;
}

/// A connection to a publish/subscribe service.
///
/// # Contract
/// Up to three calls run concurrently: `subscribe` or `unsubscribe`, the `send` of a batch, and the `send` of a probe.
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

/// Writes the unique name of the channel: `all`, `node/`, the node and the probe, or `key/` and the key's text.
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
    shared: Arc<RelayShared>,
    pub(super) status: Arc<ConnectionStatus>,
}

/// The state of a connection, as its receiver has observed it.
#[derive(Default)]
pub(super) struct ConnectionStatus {
    pub(super) disconnected: Notify,
    /// When each probe last returned.
    pub(super) probed: Mutex<HashMap<u32, Instant>>,
    /// Whether a payload could not be decoded.
    ///
    /// Relaxed: it orders no other memory. The task that sends the probes reads it before each of them.
    pub(super) undecodable: AtomicBool,
}

impl Receiver {
    pub(super) fn new(shared: Arc<RelayShared>) -> Self {
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
