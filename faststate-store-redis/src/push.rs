//! Limits and push handling that both transports of the broadcaster share.

use std::time::Duration;

use bb8_redis::redis::{PushInfo, PushKind, Value};
use faststate_core::broadcast::Receiver;

use crate::dialer::Timeouts;

/// Deadlines of the transports. The relay bounds each of its calls to 2 s.
pub(crate) const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_millis(1_500), answer: Duration::from_secs(2) };
/// Maximum payload of a change in bytes. Nodes with followers load the data of larger records from the store.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Passes a push message of Redis on to the receiver.
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
