//! The counts of an instance's followers, on this node and on the others.

use std::{collections::HashMap, time::Duration};

/// Delay between a change of the followers and the event; it covers all changes in the meantime.
const COUNT_DELAY: Duration = Duration::from_millis(200);
/// Additional delay per node, so that one node updates the state before the others check it.
const NODE_STAGGER: Duration = Duration::from_millis(50);
/// Maximum number of nodes whose delays differ.
const STAGGERED_NODES: usize = 8;

/// What is counted of an instance's followers: their number (`usize`) or their users (`Audience`).
pub(in crate::registry) trait Census:
    Clone + Default + PartialEq + Send + Sync + 'static
{
    /// Whether no stream is counted.
    fn is_zero(&self) -> bool;
    /// Adds the count of another node.
    fn add(&mut self, other: &Self);
}

/// The counts of one instance's followers.
pub(in crate::registry) struct Counts<C> {
    /// Whether a count is scheduled.
    pub(super) scheduled: bool,
    /// The total that was last sent to the state.
    pub(super) sent_total: Option<C>,
    /// This node's count as it was last sent to the other nodes.
    pub(super) sent_local: Option<C>,
    /// Whether another node waits for this node's count.
    reply_owed: bool,
    /// The counts of the other nodes, by node id, while this node has an interest in the key.
    pub(in crate::registry) others: HashMap<u64, C>,
}

/// The result of counting an instance's followers.
pub(in crate::registry) struct Counted<C> {
    pub(in crate::registry) local: C,
    /// Set if the count must be sent to the other nodes; the value says whether they answer with theirs.
    pub(in crate::registry) message: Option<bool>,
    /// The total to send to the state, if it changed.
    pub(in crate::registry) total: Option<C>,
}

impl<C: Census> Counts<C> {
    /// The delay before this node's event. Nodes with smaller ids send theirs first.
    pub(in crate::registry) fn delay(&self, me: u64) -> Duration {
        let before = self.others.keys().filter(|node| **node < me).count().min(STAGGERED_NODES);
        COUNT_DELAY + NODE_STAGGER * u32::try_from(before).unwrap_or_default()
    }

    /// Ends a scheduled count. Returns what must be sent, and records it as sent.
    pub(in crate::registry) fn count(&mut self, local: C) -> Counted<C> {
        self.scheduled = false;
        let sent_before = self.sent_local.replace(local.clone());
        let wants_reply = sent_before.as_ref().is_none_or(C::is_zero) && !local.is_zero();
        let is_new = sent_before.as_ref() != Some(&local) && !(sent_before.is_none() && local.is_zero());
        let reply_owed = std::mem::take(&mut self.reply_owed);
        let message = (is_new || reply_owed).then_some(wants_reply);
        let mut total = local.clone();
        self.others.values().for_each(|other| total.add(other));
        if local.is_zero() && !total.is_zero() {
            // The nodes that still have followers send the event.
            self.sent_total = None;
            return Counted { local, message, total: None };
        }
        let total = (self.sent_total.as_ref() != Some(&total)).then_some(total);
        if total.is_some() {
            self.sent_total.clone_from(&total);
        }
        Counted { local, message, total }
    }

    pub(in crate::registry) fn receive(&mut self, node: u64, count: C, wants_reply: bool) {
        if count.is_zero() {
            self.others.remove(&node);
        } else {
            self.others.insert(node, count);
        }
        self.reply_owed |= wants_reply;
    }

    pub(in crate::registry) fn forget(&mut self, nodes: &[u64]) {
        nodes.iter().for_each(|node| _ = self.others.remove(node));
    }
}

impl<C> Default for Counts<C> {
    fn default() -> Self {
        Self {
            scheduled: false,
            sent_total: None,
            sent_local: None,
            reply_owed: false,
            others: HashMap::new(),
        }
    }
}

impl Census for usize {
    fn is_zero(&self) -> bool {
        *self == 0
    }

    fn add(&mut self, other: &Self) {
        *self += other;
    }
}
