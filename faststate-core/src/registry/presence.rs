//! Telling a state how many streams follow it, on all nodes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{arriving::Arriving, instance::Instance, nodes::Words, shared::guard, states::States};
use crate::{Key, ReactiveState, Viewer, broadcast::Interest};

/// How long followers may come and go before the state is told their number.
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

/// What is known of an instance's followers.
#[derive(Default)]
pub(super) struct Counts {
    /// Whether a count is on its way to the state.
    due: bool,
    /// The count that the state was told last.
    told: Option<usize>,
    /// What the other nodes were told last of this one.
    said: Option<usize>,
    /// Whether another node has asked.
    asked: bool,
    /// How many streams follow on each other node, as long as this one hears of it.
    others: HashMap<u64, usize>,
    /// What lets this node hear of the others for a little longer than it has followers, and how long.
    lingers: Option<(Interest, Instant)>,
}

/// What a node has to say once its followers have been counted.
struct Counted {
    here: usize,
    /// Whether the other nodes are to be told, and whether they are to answer.
    says: Option<bool>,
    /// What the state is to be told.
    tells: Option<usize>,
}

impl<S: ReactiveState> States<S> {
    /// Tells the state how many follow it, soon and once for all who come and go until then.
    pub(super) fn count_followers(&self, instance: &Arc<Instance<S>>) {
        // A follower may be dropped anywhere, also after the runtime.
        if self.presence.is_none() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let Ok(me) = self.me() else { return };
        let delay = {
            let present = &mut instance.topics.lock().present;
            if std::mem::replace(&mut present.due, true) {
                return;
            }
            present.delay(self.nodes().map_or(0, |nodes| nodes.id))
        };
        let instance = Arc::clone(instance);
        self.shared.detach(async move {
            tokio::time::sleep(delay).await;
            me.tell_count(&instance).await;
        });
    }

    /// The last follower here has left: gives back the interest that is not needed any more.
    pub(super) fn linger(&self, instance: &Arc<Instance<S>>, interest: Interest) -> Option<Interest> {
        if self.presence.is_none() || tokio::runtime::Handle::try_current().is_err() {
            return Some(interest);
        }
        let before = instance.topics.lock().present.lingers.replace((interest, Instant::now() + LINGERS));
        let instance = Arc::downgrade(instance);
        tokio::spawn(async move {
            tokio::time::sleep(LINGERS).await;
            let Some(instance) = instance.upgrade() else { return };
            let over = {
                let mut topics = instance.topics.lock();
                let has_followers = !topics.streams.is_empty();
                topics.present.stop_lingering(has_followers)
            };
            // Outside the lock: its end is the broadcaster's code.
            drop(over);
        });
        before.map(|(interest, _)| interest)
    }

    async fn tell_count(self: &Arc<Self>, instance: &Arc<Instance<S>>) {
        let Counted { here, says, tells } = {
            let mut topics = instance.topics.lock();
            let here = topics.streams.len();
            topics.present.count(here)
        };
        if let (Some(nodes), Some(asks)) = (self.nodes(), says) {
            let words = Words::Present { node: nodes.id, count: here, asks };
            if !nodes.tell(Some(&instance.key), &words).await {
                instance.topics.lock().present.said = None;
            }
        }
        let (Some(presence), Some(count)) = (&self.presence, tells) else { return };
        let Ok(attempt) = guard("`presence` panicked", || presence(count)) else {
            instance.topics.lock().present.told = None;
            return;
        };
        let arriving =
            Arriving { attempt, fields: &[], viewer: Viewer::application(), id: None, wants_view: false };
        if let Err(error) = self.send(&instance.key, arriving).await {
            tracing::warn!(key = ?instance.key, %error, "the number of followers was not told");
            instance.topics.lock().present.told = None;
            let (me, instance) = (Arc::downgrade(self), Arc::downgrade(instance));
            // Not among the tasks that `settle` waits for.
            tokio::spawn(async move {
                tokio::time::sleep(AGAIN).await;
                if let (Some(me), Some(instance)) = (me.upgrade(), instance.upgrade())
                    && instance.followers() > 0
                {
                    me.count_followers(&instance);
                }
            });
        }
    }

    /// Another node says how many follow there.
    pub(super) fn hear_count(&self, key: &Key, node: u64, count: usize, asks: bool) {
        let Some(instance) = self.loaded(key).filter(|_| self.presence.is_some()) else { return };
        {
            let mut topics = instance.topics.lock();
            if topics.streams.is_empty() && topics.present.lingers.is_none() {
                return;
            }
            topics.present.hear(node, count, asks);
        }
        self.count_followers(&instance);
    }

    /// These nodes and their followers are gone.
    pub(super) fn forget_nodes(&self, nodes: &[u64]) {
        self.count_again(|present| nodes.iter().for_each(|node| _ = present.others.remove(node)));
    }

    /// What the nodes know of each other's followers may be wrong: they tell each other again.
    pub(super) fn exchange_counts(&self) {
        self.count_again(|present| present.said = None);
    }

    fn count_again(&self, change: impl Fn(&mut Counts)) {
        if self.presence.is_none() || self.nodes().is_none() {
            return;
        }
        let loaded: Vec<_> = self.instances.iter().map(|entry| Arc::clone(entry.value())).collect();
        for instance in loaded {
            {
                let mut topics = instance.topics.lock();
                if topics.streams.is_empty() {
                    continue;
                }
                change(&mut topics.present);
            }
            self.count_followers(&instance);
        }
    }
}

impl Counts {
    /// How long this node waits before it tells the state: nodes before it wait less.
    fn delay(&self, me: u64) -> Duration {
        let before = self.others.keys().filter(|node| **node < me).count().min(STAGGERED);
        DELAY + STAGGER * u32::try_from(before).unwrap_or_default()
    }

    /// The count is due no longer: says what is to be told now.
    fn count(&mut self, here: usize) -> Counted {
        self.due = false;
        let asks = matches!(self.said, None | Some(0)) && here > 0;
        let said = self.said.replace(here);
        let owes = std::mem::take(&mut self.asked);
        let is_news = said != Some(here) && !(said.is_none() && here == 0);
        let says = (is_news || owes).then_some(asks);
        let elsewhere: usize = self.others.values().sum();
        let total = here + elsewhere;
        if here == 0 && elsewhere > 0 {
            // Who is there tells the state.
            self.told = None;
            return Counted { here, says, tells: None };
        }
        let tells = (self.told.replace(total) != Some(total)).then_some(total);
        Counted { here, says, tells }
    }

    fn stop_lingering(&mut self, has_followers: bool) -> Option<Interest> {
        let (_, until) = self.lingers.as_ref()?;
        if *until > Instant::now() {
            return None;
        }
        if !has_followers {
            self.others.clear();
        }
        self.lingers.take().map(|(interest, _)| interest)
    }

    fn hear(&mut self, node: u64, count: usize, asks: bool) {
        if count == 0 {
            self.others.remove(&node);
        } else {
            self.others.insert(node, count);
        }
        self.asked |= asks;
    }
}
