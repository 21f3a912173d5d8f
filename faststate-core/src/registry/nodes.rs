//! Membership of the cluster, and the messages between its nodes.

mod members;
mod outbox;
mod pieces;
mod revocations;
mod words;

use std::{
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(super) use self::words::PeerMessage;
use self::{
    members::Members,
    outbox::{Outbox, publish_all},
    pieces::Pieces,
    revocations::Revocations,
    words::MessageElements,
};
use super::{Error, StateRegistry};
use crate::{
    BoxError, Elements, Key, Revocation, Version,
    broadcast::{Broadcaster, Change, Interest},
    store::StoreError,
};

/// Interval between a node's heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Timeout for sending one message to the other nodes.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before a message that the transport refused is sent again.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Maximum time that [`Nodes::settle`] waits for changes that the transport refuses.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval at which [`Nodes::settle`] checks whether everything is published.
const SETTLE_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// This node's connection to the rest of the cluster.
///
/// # Locking
/// `outbox`, `pieces` and `members` are independent: no code holds two of them at once, or one of them across an await.
pub(super) struct Nodes {
    broadcaster: Arc<dyn Broadcaster>,
    outbox: Arc<Mutex<Outbox>>,
    revocations: Arc<Revocations>,
    /// Messages from other nodes of which only some pieces have arrived.
    pieces: Mutex<Pieces>,
    /// Identifies this node. Random, so that a node that restarts counts as a new one.
    pub(super) id: u64,
    members: Mutex<Members>,
    /// Whether this node has sent its goodbye message.
    left: AtomicBool,
}

impl Nodes {
    pub(super) fn new(broadcaster: Arc<dyn Broadcaster>) -> Self {
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
    pub(super) fn publish(&self, change: Change) {
        self.outbox.lock().push(change);
    }

    /// Queues elements for the key's followers on other nodes. They are sent before any change that is queued later.
    pub(super) fn send_elements(&self, key: &Key, version: Option<Version>, elements: &[Elements]) {
        let elements = elements.iter().map(MessageElements::from).collect();
        let message = PeerMessage::Elements { node: self.id, version: version.map(Into::into), elements };
        match pieces::split(&message) {
            Some(pieces) => self.outbox.lock().push_elements(key, pieces),
            None => tracing::warn!(?key, "elements were not sent to the other nodes: they are too long"),
        }
    }

    /// Waits until the outbox is empty, or until [`SETTLE_TIMEOUT`] has passed because the transport refuses changes.
    pub(super) async fn settle(&self) {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while !self.outbox.lock().is_idle() && Instant::now() < deadline {
            tokio::time::sleep(SETTLE_POLL_INTERVAL).await;
        }
    }

    /// Returns a future that publishes the outbox, unless the outbox is empty or another task is publishing it.
    pub(super) fn publishing(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let begins = self.outbox.lock().begin();
        begins.then(|| publish_all(Arc::clone(&self.broadcaster), Arc::clone(&self.outbox)))
    }

    /// Subscribes this node to the changes of a key.
    pub(super) async fn join(&self, key: &Key, deadline: Instant) -> Result<Interest, Error> {
        let joined = match tokio::time::timeout_at(deadline, self.broadcaster.join(key)).await {
            Ok(joined) => joined.map_err(BoxError::from),
            Err(elapsed) => Err(elapsed.into()),
        };
        joined.map_err(|error| Error::Unavailable(StoreError::Unavailable(error)))
    }

    /// Sends a message to all other nodes, or to those that have joined `key`. Returns whether it was sent.
    pub(super) async fn send(&self, key: Option<&Key>, message: &PeerMessage) -> bool {
        send(&*self.broadcaster, key, message).await
    }

    /// Sends a revocation to the other nodes, and returns whether it was sent by the deadline. If it was not, a
    /// background task keeps trying.
    pub(super) async fn revoke(&self, revocation: Revocation, deadline: Instant) -> bool {
        self.revocations.send(&self.broadcaster, revocation, deadline).await
    }

    /// Sends the goodbye message, unless changes are still queued: the other nodes must then treat this node as dead
    /// and reload what they follow.
    pub(super) async fn leave(&self) {
        if self.outbox.lock().is_idle() && !self.left.swap(true, Ordering::Relaxed) {
            self.send(None, &PeerMessage::Goodbye { node: self.id }).await;
        }
    }

    /// Records a heartbeat. Returns whether the node is new.
    pub(super) fn heartbeat(&self, node: u64, name: &str) -> bool {
        self.members.lock().heartbeat(node, name, Instant::now())
    }

    /// Restarts the timeouts of all nodes: this node's own transport failed, so their silence does not mean that they
    /// are dead.
    pub(super) fn restart_timeouts(&self) {
        self.members.lock().restart_timeouts(Instant::now());
    }

    /// The names of the other nodes, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.members.lock().names()
    }
}

/// Sends heartbeats and detects dead nodes, for as long as the registry lives.
///
/// A node that dies may have saved changes without publishing them. The other nodes therefore reload what they follow;
/// otherwise they would not learn of such a change before the key's next one.
pub(super) async fn maintain_membership(registry: Weak<StateRegistry>) {
    let mut last_sent = true;
    loop {
        {
            let Some(registry) = registry.upgrade() else { return };
            let Some(nodes) = &registry.shared.nodes else { return };
            if nodes.left.load(Ordering::Relaxed) {
                return;
            }
            let heartbeat = PeerMessage::Heartbeat { node: nodes.id, name: registry.shared.node.to_string() };
            // A node that cannot send probably does not receive either.
            let sent = nodes.send(None, &heartbeat).await;
            if !(sent && last_sent) {
                nodes.restart_timeouts();
            }
            last_sent = sent;
            let dead = nodes.members.lock().dead(Instant::now());
            if !dead.is_empty() {
                let names: Vec<_> = dead.iter().map(|(_, name)| name).collect();
                tracing::warn!(nodes = ?names, "nodes are dead: they have sent no heartbeat");
                let ids: Vec<_> = dead.into_iter().map(|(node, _)| node).collect();
                registry.states.values().for_each(|states| states.nodes_died(&ids));
            }
        }
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
    }
}

/// Sends a message to all other nodes, or to those that have joined `key`. Returns whether it was sent.
async fn send(broadcaster: &dyn Broadcaster, key: Option<&Key>, message: &PeerMessage) -> bool {
    let Some(pieces) = pieces::split(message) else {
        tracing::warn!(?key, "a message was not sent to the other nodes: it is too long");
        return false;
    };
    let sent = try_join_all(pieces.into_iter().map(|piece| broadcaster.notify(key, piece)));
    matches!(tokio::time::timeout(SEND_TIMEOUT, sent).await, Ok(Ok(_)))
}

/// Handles a message from another node. Runs in the transport's reader, so slow work gets its own task.
pub(super) fn receive(registry: &Arc<StateRegistry>, key: Option<&Key>, bytes: &Bytes) {
    let Some(nodes) = &registry.shared.nodes else { return };
    let mut decoded = PeerMessage::from_bytes(bytes);
    if let Some((PeerMessage::Piece { message, part, parts }, content)) = decoded {
        let Some(whole) = nodes.pieces.lock().add(message, part, parts, content) else { return };
        decoded = PeerMessage::from_bytes(&whole);
    }
    let states = key.and_then(|key| registry.states.get(key.state()));
    match (decoded.map(|(message, _)| message), key) {
        (Some(PeerMessage::Heartbeat { node, name }), None) => {
            if nodes.heartbeat(node, &name) {
                in_task(registry, |registry| registry.states.values().for_each(|states| states.node_came()));
            }
        }
        (Some(PeerMessage::Goodbye { node }), None) => {
            nodes.members.lock().leave(node);
            in_task(registry, move |registry| {
                registry.states.values().for_each(|states| states.node_left(node));
            });
        }
        (Some(PeerMessage::FollowerCount { node, count, wants_reply }), Some(key)) => {
            if let Some(states) = states {
                states.present_elsewhere(key, node, count, wants_reply);
            }
        }
        (Some(PeerMessage::Audience { node, audience, wants_reply }), Some(key)) => {
            if let Some(states) = states {
                states.audience_elsewhere(key, node, audience, wants_reply);
            }
        }
        (Some(PeerMessage::Elements { node, version, elements }), Some(key)) => {
            if let Some(states) = states.filter(|_| node != nodes.id) {
                let elements = elements.into_iter().filter_map(MessageElements::into_elements).collect();
                states.elements_elsewhere(key, version.map(Into::into), elements);
            }
        }
        (Some(PeerMessage::Revoke { revocation }), None) => {
            in_task(registry, move |registry| registry.shared.close_streams(&revocation));
        }
        (Some(PeerMessage::RecheckStreams), None) => {
            in_task(registry, |registry| registry.shared.doubt_streams())
        }
        (Some(PeerMessage::ChangesDropped), None) => {
            in_task(registry, |registry| registry.states.values().for_each(|states| states.lost()));
        }
        // A node with a newer version may send messages that this version does not know.
        _ => tracing::debug!("ignored an unknown message from another node"),
    }
}

/// Handles a failure of the transport, which may have lost messages from other nodes. Runs in the transport's reader.
pub(super) fn lost(registry: &Arc<StateRegistry>) {
    if let Some(nodes) = &registry.shared.nodes {
        nodes.restart_timeouts();
    }
    in_task(registry, |registry| {
        registry.shared.doubt_streams();
        registry.states.values().for_each(|states| states.lost());
    });
}

/// Runs `work`, which visits all instances or streams, in its own task instead of the transport's reader.
fn in_task(registry: &Arc<StateRegistry>, work: impl FnOnce(&StateRegistry) + Send + 'static) {
    let registry = Arc::clone(registry);
    tokio::spawn(async move { work(&registry) });
}
