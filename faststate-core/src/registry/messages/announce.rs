//! The start of the messages, timers and jobs that a commit has added.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    outbox::{Outbox, time},
    store_time::StoreTime,
};
use crate::{Key, registry::shared::Shared};

/// Claims the new messages and jobs for this node, after a save that began at `asked`, and makes the scheduler look for
/// the new timers in time.
pub(in crate::registry) fn announce(
    shared: &Arc<Shared>,
    store_time: &StoreTime,
    key: &Key,
    before: Option<&Outbox>,
    after: &Outbox,
    asked: Instant,
) {
    let is_new = |id| before.is_none_or(|before| before.get(id).is_none());
    let mut claimed = Vec::new();
    // New entries are at the end, so an event that requests nothing looks at one entry.
    let new = after.entries().iter().rev().take_while(|entry| is_new(entry.id));
    for entry in new.filter(|entry| entry.parked.is_none()) {
        if entry.is_timer() {
            store_time.wake_at(time(entry.from));
        } else {
            claimed.push(entry.id);
        }
    }
    if !claimed.is_empty() {
        shared.claim_messages(key, claimed, asked);
    }
}
