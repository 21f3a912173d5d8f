//! Presence and audience events: a state learns how many streams, or which users, follow it on all nodes.
//!
//! Each node sends its own count to the nodes that have joined the same key, and sends the total to the state as an event.
//! Several nodes may send the same total, so the event should change nothing when the state already holds it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Error, Mutation,
    arriving::Arriving,
    instance::{Instance, Topics},
    nodes::PeerMessage,
    shared::guard,
    states::InstanceTable,
};
use crate::{Key, ReactiveState, Viewer, broadcast::Interest, store::StoreError};

/// Delay between a change of the followers and the event; it covers all changes in the meantime.
const DELAY: Duration = Duration::from_millis(200);
/// Additional delay per node, so that one node updates the state before the others check it.
const STAGGER: Duration = Duration::from_millis(50);
/// Maximum number of nodes whose delays differ.
const STAGGERED_NODES: usize = 8;
/// Delay before an event that failed is sent again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a node keeps its interest in a key after its last follower has left. When the followers of several nodes
/// leave at once, each node thereby still receives the counts of the others.
const LINGER: Duration = Duration::from_millis(1500);

/// What is counted of an instance's followers: their number (`usize`) or their users (`Audience`).
pub(super) trait Census: Clone + Default + PartialEq + Send + Sync + 'static {
    /// Counts the streams on this node.
    fn count_local(topics: &Topics) -> Self;
    /// The counts of an instance.
    fn counts(topics: &mut Topics) -> &mut Counts<Self>;
    /// The constructor of the event, if the application registered one.
    fn event<S: ReactiveState>(states: &InstanceTable<S>) -> Option<&TellsState<S, Self>>;
    /// The message that carries this node's count to the other nodes.
    fn message(self, node: u64, wants_reply: bool) -> PeerMessage;
    /// Whether no stream is counted.
    fn is_zero(&self) -> bool;
    /// Adds the count of another node.
    fn add(&mut self, other: &Self);
}

/// Constructs the event that carries a count to the state.
pub(super) type TellsState<S, C> = dyn Fn(C) -> Box<dyn Mutation<S>> + Send + Sync;

/// The counts of one instance's followers.
pub(super) struct Counts<C> {
    /// Whether a count is scheduled.
    scheduled: bool,
    /// The total that was last sent to the state.
    sent_total: Option<C>,
    /// This node's count as it was last sent to the other nodes.
    sent_local: Option<C>,
    /// Whether another node waits for this node's count.
    reply_owed: bool,
    /// The counts of the other nodes, by node id, while this node has an interest in the key.
    others: HashMap<u64, C>,
}

/// An interest that outlives the node's last follower, and the time at which it ends.
pub(super) struct Lingers {
    interest: Interest,
    until: Instant,
}

/// The result of counting an instance's followers.
struct Counted<C> {
    local: C,
    /// Set if the count must be sent to the other nodes; the value says whether they answer with theirs.
    message: Option<bool>,
    /// The total to send to the state, if it changed.
    total: Option<C>,
}

impl Census for usize {
    fn count_local(topics: &Topics) -> Self {
        topics.streams.len()
    }

    fn counts(topics: &mut Topics) -> &mut Counts<Self> {
        &mut topics.present
    }

    fn event<S: ReactiveState>(states: &InstanceTable<S>) -> Option<&TellsState<S, Self>> {
        states.presence.as_deref()
    }

    fn message(self, node: u64, wants_reply: bool) -> PeerMessage {
        PeerMessage::FollowerCount { node, count: self, wants_reply }
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }

    fn add(&mut self, other: &Self) {
        *self += other;
    }
}

impl<S: ReactiveState> InstanceTable<S> {
    /// Whether the application registered a presence or an audience event.
    fn counts_followers(&self) -> bool {
        self.presence.is_some() || self.audience.is_some()
    }

    /// Schedules the presence and audience events of an instance whose followers changed.
    pub(super) fn count_followers(&self, instance: &Arc<Instance<S>>) {
        // A follower may be dropped outside the runtime, or after it has shut down.
        if self.counts_followers() && tokio::runtime::Handle::try_current().is_ok() {
            self.schedule_count::<usize>(instance);
            self.schedule_count::<super::Audience>(instance);
        }
    }

    fn schedule_count<C: Census>(&self, instance: &Arc<Instance<S>>) {
        if C::event(self).is_none() {
            return;
        }
        let Ok(me) = self.me() else { return };
        let delay = {
            let mut topics = instance.topics.lock();
            let counts = C::counts(&mut topics);
            if std::mem::replace(&mut counts.scheduled, true) {
                return;
            }
            counts.delay(self.nodes().map_or(0, |nodes| nodes.id))
        };
        let instance = Arc::clone(instance);
        self.shared.detach(async move {
            tokio::time::sleep(delay).await;
            me.send_count::<C>(&instance).await;
        });
    }

    /// Keeps an interest for [`LINGER`] after the last follower on this node has left. Returns an interest that is no
    /// longer needed.
    pub(super) fn linger(&self, instance: &Arc<Instance<S>>, interest: Interest) -> Option<Interest> {
        if !self.counts_followers() || tokio::runtime::Handle::try_current().is_err() {
            return Some(interest);
        }
        let lingers = Lingers { interest, until: Instant::now() + LINGER };
        let before = instance.topics.lock().lingers.replace(lingers);
        let instance = Arc::downgrade(instance);
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            let Some(instance) = instance.upgrade() else { return };
            let ended = instance.topics.lock().stop_lingering();
            // Dropped outside the lock, because this calls the broadcaster.
            drop(ended);
        });
        before.map(|before| before.interest)
    }

    /// Sends this node's count to the other nodes and the total to the state, where they changed.
    async fn send_count<C: Census>(self: &Arc<Self>, instance: &Arc<Instance<S>>) {
        let Counted { local, message, total } = {
            let mut topics = instance.topics.lock();
            let local = C::count_local(&topics);
            C::counts(&mut topics).count(local)
        };
        if let (Some(nodes), Some(wants_reply)) = (self.nodes(), message)
            && !nodes.send(Some(&instance.key), &local.message(nodes.id, wants_reply)).await
        {
            C::counts(&mut instance.topics.lock()).sent_local = None;
        }
        let (Some(event), Some(total)) = (C::event(self), total) else { return };
        let Ok(attempt) = guard("`presence` or `audience` panicked", || event(total)) else {
            C::counts(&mut instance.topics.lock()).sent_total = None;
            return;
        };
        let arriving =
            Arriving { attempt, fields: &[], viewer: Viewer::application(), id: None, wants_view: false };
        let Err(error) = self.send(&instance.key, arriving).await else { return };
        tracing::warn!(key = ?instance.key, %error, "a presence or audience event failed");
        C::counts(&mut instance.topics.lock()).sent_total = None;
        let is_temporary = matches!(
            error,
            Error::Unavailable(StoreError::Unavailable(_))
                | Error::TimedOut
                | Error::OutcomeUnknown
                | Error::Busy(_)
        );
        if is_temporary {
            self.retry_count::<C>(instance);
        }
    }

    /// Counts again after [`RETRY_DELAY`], once the store's circuit breaker admits calls.
    fn retry_count<C: Census>(self: &Arc<Self>, instance: &Arc<Instance<S>>) {
        let (me, instance) = (Arc::downgrade(self), Arc::downgrade(instance));
        // Not tracked by `settle`, because the store may be unavailable for a long time.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RETRY_DELAY).await;
                let (Some(me), Some(instance)) = (me.upgrade(), instance.upgrade()) else { return };
                if !me.is_resting() {
                    me.schedule_count::<C>(&instance);
                    return;
                }
            }
        });
    }

    /// Records the count of another node.
    pub(super) fn hear<C: Census>(&self, key: &Key, node: u64, count: C, wants_reply: bool) {
        let Some(instance) = self.loaded(key).filter(|_| C::event(self).is_some()) else { return };
        {
            let mut topics = instance.topics.lock();
            if topics.streams.is_empty() && topics.lingers.is_none() {
                return;
            }
            C::counts(&mut topics).receive(node, count, wants_reply);
        }
        self.schedule_count::<C>(&instance);
    }

    /// Removes the counts of nodes that died or left.
    pub(super) fn forget_nodes(&self, nodes: &[u64]) {
        self.recount_followed::<usize>(|counts| counts.forget(nodes));
        self.recount_followed::<super::Audience>(|counts| counts.forget(nodes));
    }

    /// Sends this node's counts to the other nodes again, because messages may have been lost.
    pub(super) fn exchange_counts(&self) {
        self.recount_followed::<usize>(|counts| counts.sent_local = None);
        self.recount_followed::<super::Audience>(|counts| counts.sent_local = None);
    }

    /// Applies `change` to the counts of every followed instance, and schedules a count of each.
    fn recount_followed<C: Census>(&self, change: impl Fn(&mut Counts<C>)) {
        if C::event(self).is_none() || self.nodes().is_none() {
            return;
        }
        let loaded: Vec<_> = self.instances.iter().map(|entry| Arc::clone(entry.value())).collect();
        for instance in loaded {
            {
                let mut topics = instance.topics.lock();
                if topics.streams.is_empty() {
                    continue;
                }
                change(C::counts(&mut topics));
            }
            self.schedule_count::<C>(&instance);
        }
    }
}

impl Topics {
    /// Takes the lingering interest if its time is over. Without it, the counts of other nodes are no longer received.
    fn stop_lingering(&mut self) -> Option<Interest> {
        let Lingers { interest, .. } = self.lingers.take_if(|lingers| lingers.until <= Instant::now())?;
        if self.streams.is_empty() {
            self.present.others.clear();
            if let Some(listeners) = &mut self.listeners {
                listeners.counts.others.clear();
            }
        }
        Some(interest)
    }
}

impl<C: Census> Counts<C> {
    /// The delay before this node's event. Nodes with smaller ids send theirs first.
    fn delay(&self, me: u64) -> Duration {
        let before = self.others.keys().filter(|node| **node < me).count().min(STAGGERED_NODES);
        DELAY + STAGGER * u32::try_from(before).unwrap_or_default()
    }

    /// Ends a scheduled count. Returns what must be sent, and records it as sent.
    fn count(&mut self, local: C) -> Counted<C> {
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

    fn receive(&mut self, node: u64, count: C, wants_reply: bool) {
        if count.is_zero() {
            self.others.remove(&node);
        } else {
            self.others.insert(node, count);
        }
        self.reply_owed |= wants_reply;
    }

    fn forget(&mut self, nodes: &[u64]) {
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
