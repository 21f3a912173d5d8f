//! What arrives from the other nodes, and the heartbeats between them.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::peer_message::{MessageElements, PeerMessage};
use crate::{
    Key,
    broadcast::{Change, Inbox},
    registry::StateRegistry,
};

/// Interval between a node's heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// What comes from other nodes.
pub(in crate::registry) struct ClusterInbox(pub(in crate::registry) Weak<StateRegistry>);

impl Inbox for ClusterInbox {
    fn change(&self, change: Change) {
        if let Some(inner) = self.0.upgrade()
            && let Ok(table) = inner.table(change.key.state())
        {
            table.changed(change);
        }
    }

    fn notified(&self, key: Option<Key>, message: Bytes) {
        if let Some(inner) = self.0.upgrade() {
            receive(&inner, key.as_ref(), &message);
        }
    }

    fn lost(&self) {
        if let Some(inner) = self.0.upgrade() {
            transport_failed(&inner);
        }
    }
}

/// Sends heartbeats and detects dead nodes, for as long as the registry lives.
///
/// A node that dies may have saved changes without publishing them. The other nodes therefore reload what they follow;
/// otherwise they would not learn of such a change before the key's next one.
pub(in crate::registry) async fn maintain_membership(registry: Weak<StateRegistry>) {
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
                registry.tables.values().for_each(|table| table.nodes_died(&ids));
            }
        }
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
    }
}

/// Handles a message from another node. Runs in the transport's reader, so slow work gets its own task.
pub(in crate::registry) fn receive(registry: &Arc<StateRegistry>, key: Option<&Key>, bytes: &Bytes) {
    let Some(nodes) = &registry.shared.nodes else { return };
    let mut decoded = PeerMessage::from_bytes(bytes);
    if let Some((PeerMessage::Piece { message, part, parts }, content)) = decoded {
        let Some(whole) = nodes.pieces.lock().add(message, part, parts, content) else { return };
        decoded = PeerMessage::from_bytes(&whole);
    }
    let table = key.and_then(|key| registry.tables.get(key.state()));
    match (decoded.map(|(message, _)| message), key) {
        (Some(PeerMessage::Heartbeat { node, name }), None) => {
            if nodes.heartbeat(node, &name) {
                in_task(registry, |registry| registry.tables.values().for_each(|table| table.node_came()));
            }
        }
        (Some(PeerMessage::Goodbye { node }), None) => {
            nodes.members.lock().leave(node);
            in_task(registry, move |registry| {
                registry.tables.values().for_each(|table| table.node_left(node));
            });
        }
        (Some(PeerMessage::FollowerCount { node, count, wants_reply }), Some(key)) => {
            if let Some(table) = table {
                table.present_elsewhere(key, node, count, wants_reply);
            }
        }
        (Some(PeerMessage::Audience { node, audience, wants_reply }), Some(key)) => {
            if let Some(table) = table {
                table.audience_elsewhere(key, node, audience, wants_reply);
            }
        }
        (Some(PeerMessage::Elements { node, version, elements }), Some(key)) => {
            if let Some(table) = table.filter(|_| node != nodes.id) {
                let elements = elements.into_iter().filter_map(MessageElements::into_elements).collect();
                table.elements_elsewhere(key, version.map(Into::into), elements);
            }
        }
        (Some(PeerMessage::Revoke { revocation }), None) => {
            in_task(registry, move |registry| registry.shared.close_streams(&revocation));
        }
        (Some(PeerMessage::RecheckStreams), None) => {
            in_task(registry, |registry| registry.shared.doubt_streams())
        }
        (Some(PeerMessage::ChangesDropped), None) => {
            in_task(registry, |registry| registry.tables.values().for_each(|table| table.changes_lost()));
        }
        // A node with a newer version may send messages that this version does not know.
        _ => tracing::debug!("ignored an unknown message from another node"),
    }
}

/// Handles a failure of the transport, which may have lost messages from other nodes. Runs in the transport's reader.
pub(in crate::registry) fn transport_failed(registry: &Arc<StateRegistry>) {
    if let Some(nodes) = &registry.shared.nodes {
        nodes.restart_timeouts();
    }
    in_task(registry, |registry| {
        registry.shared.doubt_streams();
        registry.tables.values().for_each(|table| table.changes_lost());
    });
}

/// Runs `work`, which visits all instances or streams, in its own task instead of the transport's reader.
fn in_task(registry: &Arc<StateRegistry>, work: impl FnOnce(&StateRegistry) + Send + 'static) {
    let registry = Arc::clone(registry);
    tokio::spawn(async move { work(&registry) });
}
