//! Telling a state how many streams follow it, or who they are, on all nodes.
//!
//! Each node tells those that follow the same key what it has counted, and the state what all of them have. The
//! event that finds there already what it brings should change nothing.

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

/// How long followers may come and go before the state is told.
const DELAY: Duration = Duration::from_millis(200);
/// How much longer each of several nodes waits, so that the first has told the state before the others look.
const STAGGER: Duration = Duration::from_millis(50);
/// How many of them wait differently long.
const STAGGERED: usize = 8;
/// How long to wait before telling the state again what it could not be told.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a node hears of the others after its last follower has left: when all leave at once, each
/// hears that it is not alone in that.
const LINGERS: Duration = Duration::from_millis(1500);

/// What is counted of an instance's followers: how many they are (`usize`), or who they are (`Audience`).
pub(super) trait Census: Clone + Default + PartialEq + Send + Sync + 'static {
    /// Of the streams on this node.
    fn here(topics: &Topics) -> Self;
    /// What this node knows of an instance's followers.
    fn counts(topics: &mut Topics) -> &mut Counts<Self>;
    /// The event that tells the state, if it is to be told.
    fn event<S: ReactiveState>(states: &InstanceTable<S>) -> Option<&TellsState<S, Self>>;
    /// What other nodes are told.
    fn words(self, node: u64, asks: bool) -> PeerMessage;
    fn is_nobody(&self) -> bool;
    /// Adds those who follow on another node.
    fn add(&mut self, other: &Self);
}

/// Makes the event that tells a state what was counted.
pub(super) type TellsState<S, C> = dyn Fn(C) -> Box<dyn Mutation<S>> + Send + Sync;

/// What is known of an instance's followers.
pub(super) struct Counts<C> {
    /// Whether a count is on its way to the state.
    due: bool,
    /// What the state was told last.
    told: Option<C>,
    /// What the other nodes were told last of this one.
    said: Option<C>,
    /// Whether another node has asked.
    asked: bool,
    /// Who follows on each other node, as long as this one hears of it.
    others: HashMap<u64, C>,
}

/// What lets a node hear of the others for a little longer than it has followers, and how long.
pub(super) struct Lingers {
    interest: Interest,
    until: Instant,
}

/// What a node has to say once its followers have been counted.
struct Counted<C> {
    here: C,
    /// Whether the other nodes are to be told, and whether they are to answer.
    says: Option<bool>,
    /// What the state is to be told.
    tells: Option<C>,
}

impl Census for usize {
    fn here(topics: &Topics) -> Self {
        topics.streams.len()
    }

    fn counts(topics: &mut Topics) -> &mut Counts<Self> {
        &mut topics.present
    }

    fn event<S: ReactiveState>(states: &InstanceTable<S>) -> Option<&TellsState<S, Self>> {
        states.presence.as_deref()
    }

    fn words(self, node: u64, asks: bool) -> PeerMessage {
        PeerMessage::Present { node, count: self, asks }
    }

    fn is_nobody(&self) -> bool {
        *self == 0
    }

    fn add(&mut self, other: &Self) {
        *self += other;
    }
}

impl<S: ReactiveState> InstanceTable<S> {
    /// Whether the state is told how many follow it, or who.
    fn is_told(&self) -> bool {
        self.presence.is_some() || self.audience.is_some()
    }

    /// Tells the state who follows it, soon and once for all who come and go until then.
    pub(super) fn count_followers(&self, instance: &Arc<Instance<S>>) {
        // A follower may be dropped anywhere, also after the runtime.
        if self.is_told() && tokio::runtime::Handle::try_current().is_ok() {
            self.count::<usize>(instance);
            self.count::<super::Audience>(instance);
        }
    }

    fn count<C: Census>(&self, instance: &Arc<Instance<S>>) {
        if C::event(self).is_none() {
            return;
        }
        let Ok(me) = self.me() else { return };
        let delay = {
            let mut topics = instance.topics.lock();
            let counts = C::counts(&mut topics);
            if std::mem::replace(&mut counts.due, true) {
                return;
            }
            counts.delay(self.nodes().map_or(0, |nodes| nodes.id))
        };
        let instance = Arc::clone(instance);
        self.shared.detach(async move {
            tokio::time::sleep(delay).await;
            me.tell_count::<C>(&instance).await;
        });
    }

    /// The last follower here has left: gives back the interest that is not needed any more.
    pub(super) fn linger(&self, instance: &Arc<Instance<S>>, interest: Interest) -> Option<Interest> {
        if !self.is_told() || tokio::runtime::Handle::try_current().is_err() {
            return Some(interest);
        }
        let lingers = Lingers { interest, until: Instant::now() + LINGERS };
        let before = instance.topics.lock().lingers.replace(lingers);
        let instance = Arc::downgrade(instance);
        tokio::spawn(async move {
            tokio::time::sleep(LINGERS).await;
            let Some(instance) = instance.upgrade() else { return };
            let over = instance.topics.lock().stop_lingering();
            // Outside the lock: its end is the broadcaster's code.
            drop(over);
        });
        before.map(|before| before.interest)
    }

    async fn tell_count<C: Census>(self: &Arc<Self>, instance: &Arc<Instance<S>>) {
        let Counted { here, says, tells } = {
            let mut topics = instance.topics.lock();
            let here = C::here(&topics);
            C::counts(&mut topics).count(here)
        };
        if let (Some(nodes), Some(asks)) = (self.nodes(), says)
            && !nodes.tell(Some(&instance.key), &here.words(nodes.id, asks)).await
        {
            C::counts(&mut instance.topics.lock()).said = None;
        }
        let (Some(event), Some(count)) = (C::event(self), tells) else { return };
        let Ok(attempt) = guard("`presence` or `audience` panicked", || event(count)) else {
            C::counts(&mut instance.topics.lock()).told = None;
            return;
        };
        let arriving =
            Arriving { attempt, fields: &[], viewer: Viewer::application(), id: None, wants_view: false };
        let Err(error) = self.send(&instance.key, arriving).await else { return };
        tracing::warn!(key = ?instance.key, %error, "the state was not told who follows it");
        C::counts(&mut instance.topics.lock()).told = None;
        let is_temporary = matches!(
            error,
            Error::Unavailable(StoreError::Unavailable(_))
                | Error::TimedOut
                | Error::OutcomeUnknown
                | Error::Busy(_)
        );
        if is_temporary {
            self.count_later::<C>(instance);
        }
    }

    /// Counts again once the store may answer.
    fn count_later<C: Census>(self: &Arc<Self>, instance: &Arc<Instance<S>>) {
        let (me, instance) = (Arc::downgrade(self), Arc::downgrade(instance));
        // Not among the tasks that `settle` waits for.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                let (Some(me), Some(instance)) = (me.upgrade(), instance.upgrade()) else { return };
                if !me.is_resting() {
                    me.count::<C>(&instance);
                    return;
                }
            }
        });
    }

    /// Another node says who follows there.
    pub(super) fn hear<C: Census>(&self, key: &Key, node: u64, count: C, asks: bool) {
        let Some(instance) = self.loaded(key).filter(|_| C::event(self).is_some()) else { return };
        {
            let mut topics = instance.topics.lock();
            if topics.streams.is_empty() && topics.lingers.is_none() {
                return;
            }
            C::counts(&mut topics).hear(node, count, asks);
        }
        self.count::<C>(&instance);
    }

    /// These nodes and their followers are gone.
    pub(super) fn forget_nodes(&self, nodes: &[u64]) {
        self.count_again::<usize>(|counts| counts.forget(nodes));
        self.count_again::<super::Audience>(|counts| counts.forget(nodes));
    }

    /// What the nodes know of each other's followers may be wrong: they tell each other again.
    pub(super) fn exchange_counts(&self) {
        self.count_again::<usize>(|counts| counts.said = None);
        self.count_again::<super::Audience>(|counts| counts.said = None);
    }

    fn count_again<C: Census>(&self, change: impl Fn(&mut Counts<C>)) {
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
            self.count::<C>(&instance);
        }
    }
}

impl Topics {
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
    /// How long this node waits before it tells the state: nodes before it wait less.
    fn delay(&self, me: u64) -> Duration {
        let before = self.others.keys().filter(|node| **node < me).count().min(STAGGERED);
        DELAY + STAGGER * u32::try_from(before).unwrap_or_default()
    }

    /// The count is due no longer: says what is to be told now.
    fn count(&mut self, here: C) -> Counted<C> {
        self.due = false;
        let knew = self.said.replace(here.clone());
        let asks = knew.as_ref().is_none_or(C::is_nobody) && !here.is_nobody();
        let is_news = knew.as_ref() != Some(&here) && !(knew.is_none() && here.is_nobody());
        let owes = std::mem::take(&mut self.asked);
        let says = (is_news || owes).then_some(asks);
        let mut all = here.clone();
        self.others.values().for_each(|other| all.add(other));
        if here.is_nobody() && !all.is_nobody() {
            // Who is there tells the state.
            self.told = None;
            return Counted { here, says, tells: None };
        }
        let tells = (self.told.as_ref() != Some(&all)).then_some(all);
        if tells.is_some() {
            self.told.clone_from(&tells);
        }
        Counted { here, says, tells }
    }

    fn hear(&mut self, node: u64, count: C, asks: bool) {
        if count.is_nobody() {
            self.others.remove(&node);
        } else {
            self.others.insert(node, count);
        }
        self.asked |= asks;
    }

    fn forget(&mut self, nodes: &[u64]) {
        nodes.iter().for_each(|node| _ = self.others.remove(node));
    }
}

impl<C> Default for Counts<C> {
    fn default() -> Self {
        Self { due: false, told: None, said: None, asked: false, others: HashMap::new() }
    }
}
