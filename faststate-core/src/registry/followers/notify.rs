//! Presence and audience events: a state learns how many streams, or which users, follow it on all nodes.
//!
//! Each node sends its own count to the nodes that have joined the same key, and sends the total to the state as an event.
//! Several nodes may send the same total, so the event should change nothing when the state already holds it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    Key, ReactiveState,
    broadcast::Interest,
    registry::{
        Audience, Error,
        cluster::peer_message::PeerMessage,
        event::admit::{EventRequest, send_event},
        followers::counts::{Census, Counted, Counts},
        instance::{
            Instance, Lingers, Topics,
            table::{CountEvent, InstanceTable},
        },
        panics::guard,
        tasks::spawn,
    },
    store::StoreError,
};

/// Delay before an event that failed is sent again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a node keeps its interest in a key after its last follower has left. When the followers of several nodes
/// leave at once, each node thereby still receives the counts of the others.
const LINGER: Duration = Duration::from_millis(1500);

/// A count that an event reports to the state.
pub(in crate::registry) trait ReportedCount: Census {
    /// Counts the streams on this node.
    fn count_local(topics: &Topics) -> Self;
    /// The counts of an instance.
    fn counts(topics: &mut Topics) -> &mut Counts<Self>;
    /// The constructor of the event, if the application registered one.
    fn event<S: ReactiveState>(table: &InstanceTable<S>) -> Option<&CountEvent<S, Self>>;
    /// The message that carries this node's count to the other nodes.
    fn message(self, node: u64, wants_reply: bool) -> PeerMessage;
}

impl ReportedCount for usize {
    fn count_local(topics: &Topics) -> Self {
        topics.streams.len()
    }

    fn counts(topics: &mut Topics) -> &mut Counts<Self> {
        &mut topics.present
    }

    fn event<S: ReactiveState>(table: &InstanceTable<S>) -> Option<&CountEvent<S, Self>> {
        table.presence.as_deref()
    }

    fn message(self, node: u64, wants_reply: bool) -> PeerMessage {
        PeerMessage::FollowerCount { node, count: self, wants_reply }
    }
}

impl ReportedCount for Audience {
    fn count_local(topics: &Topics) -> Self {
        let Some(listeners) = &topics.listeners else { return Self::default() };
        let streams = listeners.users.values();
        let users = streams.clone().flatten().map(|user| String::from(&**user)).collect();
        let mut local = Self { users, guests: streams.filter(|user| user.is_none()).count() };
        local.sort();
        local
    }

    fn counts(topics: &mut Topics) -> &mut Counts<Self> {
        &mut topics.listeners.get_or_insert_default().counts
    }

    fn event<S: ReactiveState>(table: &InstanceTable<S>) -> Option<&CountEvent<S, Self>> {
        table.audience.as_deref()
    }

    fn message(self, node: u64, wants_reply: bool) -> PeerMessage {
        PeerMessage::Audience { node, audience: self, wants_reply }
    }
}

/// Whether the application registered a presence or an audience event.
fn counts_followers<S: ReactiveState>(table: &InstanceTable<S>) -> bool {
    table.presence.is_some() || table.audience.is_some()
}

/// Schedules the presence and audience events of an instance whose followers changed.
pub(super) fn count_followers<S: ReactiveState>(table: &InstanceTable<S>, instance: &Arc<Instance<S>>) {
    // A follower may be dropped outside the runtime, or after it has shut down.
    if counts_followers(table) && tokio::runtime::Handle::try_current().is_ok() {
        schedule_count::<S, usize>(table, instance);
        schedule_count::<S, Audience>(table, instance);
    }
}

fn schedule_count<S: ReactiveState, C: ReportedCount>(table: &InstanceTable<S>, instance: &Arc<Instance<S>>) {
    if C::event(table).is_none() {
        return;
    }
    let Ok(me) = table.me() else { return };
    let delay = {
        let mut topics = instance.topics.lock();
        let counts = C::counts(&mut topics);
        if std::mem::replace(&mut counts.scheduled, true) {
            return;
        }
        counts.delay(table.nodes().map_or(0, |nodes| nodes.id))
    };
    let instance = Arc::clone(instance);
    table.shared.detach(async move {
        tokio::time::sleep(delay).await;
        send_count::<S, C>(&me, &instance).await;
    });
}

/// Keeps an interest for [`LINGER`] after the last follower on this node has left. Returns an interest that is no
/// longer needed.
pub(super) fn linger<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    interest: Interest,
) -> Option<Interest> {
    if !counts_followers(table) || tokio::runtime::Handle::try_current().is_err() {
        return Some(interest);
    }
    let lingers = Lingers { interest, until: Instant::now() + LINGER };
    let before = instance.topics.lock().lingers.replace(lingers);
    let instance = Arc::downgrade(instance);
    spawn(async move {
        tokio::time::sleep(LINGER).await;
        let Some(instance) = instance.upgrade() else { return };
        let ended = instance.topics.lock().stop_lingering();
        // Dropped outside the lock, because this calls the broadcaster.
        drop(ended);
    });
    before.map(|before| before.interest)
}

/// Sends this node's count to the other nodes and the total to the state, where they changed.
async fn send_count<S: ReactiveState, C: ReportedCount>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
) {
    let Counted { local, message, total } = {
        let mut topics = instance.topics.lock();
        let local = C::count_local(&topics);
        C::counts(&mut topics).count(local)
    };
    if let (Some(nodes), Some(wants_reply)) = (table.nodes(), message)
        && !nodes.send(Some(&instance.key), &local.message(nodes.id, wants_reply)).await
    {
        C::counts(&mut instance.topics.lock()).sent_local = None;
    }
    let (Some(event), Some(total)) = (C::event(table), total) else { return };
    let Ok(mutation) = guard("`presence` or `audience` panicked", || event(total)) else {
        C::counts(&mut instance.topics.lock()).sent_total = None;
        return;
    };
    let arriving = EventRequest::by_application(mutation);
    let Err(error) = send_event(table, &instance.key, arriving).await else { return };
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
        retry_count::<S, C>(table, instance);
    }
}

/// Counts again after [`RETRY_DELAY`], once the store's circuit breaker admits calls.
fn retry_count<S: ReactiveState, C: ReportedCount>(
    table: &Arc<InstanceTable<S>>,
    instance: &Arc<Instance<S>>,
) {
    let (me, instance) = (Arc::downgrade(table), Arc::downgrade(instance));
    // Not tracked by `settle`, because the store may be unavailable for a long time.
    spawn(async move {
        loop {
            tokio::time::sleep(RETRY_DELAY).await;
            let (Some(me), Some(instance)) = (me.upgrade(), instance.upgrade()) else { return };
            if !me.is_resting() {
                schedule_count::<S, C>(&me, &instance);
                return;
            }
        }
    });
}

/// Records the count of another node.
pub(in crate::registry) fn record_count<S: ReactiveState, C: ReportedCount>(
    table: &InstanceTable<S>,
    key: &Key,
    node: u64,
    count: C,
    wants_reply: bool,
) {
    let Some(instance) = table.loaded(key).filter(|_| C::event(table).is_some()) else { return };
    {
        let mut topics = instance.topics.lock();
        if topics.streams.is_empty() && topics.lingers.is_none() {
            return;
        }
        C::counts(&mut topics).receive(node, count, wants_reply);
    }
    schedule_count::<S, C>(table, &instance);
}

/// Removes the counts of nodes that died or left.
pub(in crate::registry) fn forget_nodes<S: ReactiveState>(table: &InstanceTable<S>, nodes: &[u64]) {
    recount_followed::<S, usize>(table, |counts| counts.forget(nodes));
    recount_followed::<S, Audience>(table, |counts| counts.forget(nodes));
}

/// Sends this node's counts to the other nodes again, because messages may have been lost.
pub(in crate::registry) fn exchange_counts<S: ReactiveState>(table: &InstanceTable<S>) {
    recount_followed::<S, usize>(table, |counts| counts.sent_local = None);
    recount_followed::<S, Audience>(table, |counts| counts.sent_local = None);
}

/// Applies `change` to the counts of every followed instance, and schedules a count of each.
fn recount_followed<S: ReactiveState, C: ReportedCount>(
    table: &InstanceTable<S>,
    change: impl Fn(&mut Counts<C>),
) {
    if C::event(table).is_none() || table.nodes().is_none() {
        return;
    }
    let loaded: Vec<_> = table.instances.iter().map(|entry| Arc::clone(entry.value())).collect();
    for instance in loaded {
        {
            let mut topics = instance.topics.lock();
            if topics.streams.is_empty() {
                continue;
            }
            change(C::counts(&mut topics));
        }
        schedule_count::<S, C>(table, &instance);
    }
}
