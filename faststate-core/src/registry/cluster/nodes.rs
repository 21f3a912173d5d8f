//! Membership of the cluster, and the messages between its nodes.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    membership::Members,
    outbox::{PeerOutbox, publish_all},
    peer_message::{MessageElements, PeerMessage},
    pieces::{self, Pieces},
    revocations::Revocations,
    send::send,
};
use crate::{
    BoxError, Elements, Key, Revocation, Version,
    broadcast::{Broadcaster, Change, Interest},
    registry::Error,
    store::StoreError,
};

/// Maximum time that [`Nodes::settle`] waits for changes that the transport refuses.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval at which [`Nodes::settle`] checks whether everything is published.
const SETTLE_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// This node's connection to the rest of the cluster.
///
/// # Locking
/// `outbox`, `pieces` and `members` are independent: no code holds two of them at once, or one of them across an await.
pub(in crate::registry) struct Nodes {
    pub(super) broadcaster: Arc<dyn Broadcaster>,
    pub(super) outbox: Arc<Mutex<PeerOutbox>>,
    revocations: Arc<Revocations>,
    /// Messages from other nodes of which only some pieces have arrived.
    pub(super) pieces: Mutex<Pieces>,
    /// Identifies this node. Random, so that a node that restarts counts as a new one.
    pub(in crate::registry) id: u64,
    pub(super) members: Mutex<Members>,
    /// Whether this node has sent its goodbye message.
    pub(super) left: AtomicBool,
}

impl Nodes {
    pub(in crate::registry) fn new(broadcaster: Arc<dyn Broadcaster>) -> Self {
        Self {
            broadcaster,
            outbox: Arc::default(),
            revocations: Revocations::new(),
            pieces: Mutex::default(),
            id: rand::random(),
            members: Mutex::default(),
            left: AtomicBool::new(false),
        }
    }

    /// Queues a change for publication.
    pub(in crate::registry) fn publish(&self, change: Change) {
        self.outbox.lock().push(change);
    }

    /// Queues elements for the key's followers on other nodes. They are sent before any change that is queued later.
    pub(in crate::registry) fn send_elements(
        &self,
        key: &Key,
        version: Option<Version>,
        elements: &[Elements],
    ) {
        let elements = elements.iter().map(MessageElements::from).collect();
        let message = PeerMessage::Elements { node: self.id, version: version.map(Into::into), elements };
        match pieces::split(&message) {
            Some(pieces) => self.outbox.lock().push_elements(key, pieces),
            None => tracing::warn!(?key, "elements were not sent to the other nodes: they are too long"),
        }
    }

    /// Waits until the outbox is empty, or until [`SETTLE_TIMEOUT`] has passed because the transport refuses changes.
    pub(in crate::registry) async fn settle(&self) {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while !self.outbox.lock().is_idle() && Instant::now() < deadline {
            tokio::time::sleep(SETTLE_POLL_INTERVAL).await;
        }
    }

    /// Returns a future that publishes the outbox, unless the outbox is empty or another task is publishing it.
    pub(in crate::registry) fn publishing(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let begins = self.outbox.lock().begin();
        begins.then(|| publish_all(Arc::clone(&self.broadcaster), Arc::clone(&self.outbox)))
    }

    /// Subscribes this node to the changes of a key.
    pub(in crate::registry) async fn join(&self, key: &Key, deadline: Instant) -> Result<Interest, Error> {
        let joined = match tokio::time::timeout_at(deadline, self.broadcaster.join(key)).await {
            Ok(joined) => joined.map_err(BoxError::from),
            Err(elapsed) => Err(elapsed.into()),
        };
        joined.map_err(|error| Error::Unavailable(StoreError::Unavailable(error)))
    }

    /// Sends a message to all other nodes, or to those that have joined `key`. Returns whether it was sent.
    pub(in crate::registry) async fn send(&self, key: Option<&Key>, message: &PeerMessage) -> bool {
        send(&*self.broadcaster, key, message).await
    }

    /// Sends a revocation to the other nodes, and returns whether it was sent by the deadline. If it was not, a
    /// background task keeps trying.
    pub(in crate::registry) async fn revoke(&self, revocation: Revocation, deadline: Instant) -> bool {
        self.revocations.send(&self.broadcaster, revocation, deadline).await
    }

    /// Sends the goodbye message, unless changes are still queued: the other nodes must then treat this node as dead
    /// and reload what they follow.
    pub(in crate::registry) async fn leave(&self) {
        if self.outbox.lock().is_idle() && !self.left.swap(true, Ordering::Relaxed) {
            self.send(None, &PeerMessage::Goodbye { node: self.id }).await;
        }
    }

    /// Records a heartbeat. Returns whether the node is new.
    pub(in crate::registry) fn heartbeat(&self, node: u64, name: &str) -> bool {
        self.members.lock().heartbeat(node, name, Instant::now())
    }

    /// Restarts the timeouts of all nodes: this node's own transport failed, so their silence does not mean that they
    /// are dead.
    pub(super) fn restart_timeouts(&self) {
        self.members.lock().restart_timeouts(Instant::now());
    }

    /// The names of the other nodes, sorted.
    pub(in crate::registry) fn names(&self) -> Vec<String> {
        self.members.lock().names()
    }
}
