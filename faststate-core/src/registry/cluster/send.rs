//! Sending one message to the other nodes.

use std::time::Duration;

use futures::future::try_join_all;

use super::{peer_message::PeerMessage, pieces};
use crate::{Key, broadcast::Broadcaster};

/// Timeout for sending one message to the other nodes.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before a message that the transport refused is sent again.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Sends a message to all other nodes, or to those that have joined `key`. Returns whether it was sent.
pub(super) async fn send(broadcaster: &dyn Broadcaster, key: Option<&Key>, message: &PeerMessage) -> bool {
    let Some(pieces) = pieces::split(message) else {
        tracing::warn!(?key, "a message was not sent to the other nodes: it is too long");
        return false;
    };
    let sent = try_join_all(pieces.into_iter().map(|piece| broadcaster.notify(key, piece)));
    matches!(tokio::time::timeout(SEND_TIMEOUT, sent).await, Ok(Ok(_)))
}
