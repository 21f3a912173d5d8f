//! What both transports of the broadcaster share: their limits, and the handling of push messages.

use std::time::Duration;

use bb8_redis::redis::{PushInfo, PushKind, Value};
use faststate_core::broadcast::Receiver;

use crate::dialer::Timeouts;

/// Deadlines of the transports' connections. The relay also bounds each call of a transport to 2 s.
pub(crate) const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_millis(1_500), answer: Duration::from_secs(2) };
/// Maximum payload of a change in bytes. A larger change is published without its data, which each node with
/// followers loads from the store.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Passes a push message from Redis to the receiver: a payload, or the end of the connection. Ignores all
/// others.
pub(crate) fn receive(receiver: &Receiver, mut push: PushInfo) {
    match push.kind {
        PushKind::Message | PushKind::SMessage => {
            if let Some(Value::BulkString(payload)) = push.data.pop() {
                receiver.receive(payload.into());
            }
        }
        PushKind::Disconnection => receiver.disconnected(),
        _ => {}
    }
}
