//! Changes and elements that other nodes have sent, on their way from the transport's reader to the instance's turn.
//!
//! The reader only stores them and starts a task: adopting a change runs the application's code (`Deserialize`,
//! `signals`, views), which may take long and must not delay another key's change.

use std::{mem, sync::Arc};

use tokio::time::Instant;

use super::{
    Applied, Error, Outcome,
    instance::{Current, Instance},
    states::InstanceTable,
    turn::Command,
};
use crate::{Elements, Key, ReactiveState, Version, broadcast::Change};

/// How many messages with elements wait for their change.
const MOST: usize = 32;

/// What has arrived for an instance since its last turn for it.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Whether a turn is on its way.
    queued: bool,
    changes: Changes,
    /// Oldest first.
    elements: Vec<Ephemeral>,
}

/// Changes that have arrived: at most one is kept, however many were sent.
#[derive(Debug, Default)]
enum Changes {
    #[default]
    Nothing,
    /// One change, or several that follow each other.
    One(Box<Change>),
    /// Changes that do not follow each other: the store has to be read.
    Gap,
}

/// Elements of one event.
#[derive(Debug)]
struct Ephemeral {
    /// The version after the event, if it is stored.
    version: Option<Version>,
    elements: Vec<Elements>,
}

impl Arrived {
    /// Adds a change. Returns whether a turn is needed.
    fn add_change(&mut self, change: Change) -> bool {
        self.changes = match mem::take(&mut self.changes) {
            Changes::Nothing => Changes::One(Box::new(change)),
            Changes::One(waiting) if change.to == waiting.to || change.to.is_before(waiting.to) => {
                Changes::One(waiting)
            }
            // What is stored after both is what is stored after the second.
            Changes::One(waiting) if change.from == waiting.to => {
                Changes::One(Box::new(Change { from: waiting.from, ..change }))
            }
            Changes::One(_) | Changes::Gap => Changes::Gap,
        };
        !mem::replace(&mut self.queued, true)
    }

    /// Adds elements. Returns whether a turn is needed.
    fn add_elements(&mut self, elements: Ephemeral) -> bool {
        if self.elements.len() >= MOST {
            self.elements.remove(0);
        }
        self.elements.push(elements);
        !mem::replace(&mut self.queued, true)
    }

    /// The changes, for the turn that begins.
    fn begin(&mut self) -> Changes {
        self.queued = false;
        mem::take(&mut self.changes)
    }

    /// The elements that can be shown at this version; `adopted` says that a change has just led to it.
    pub(super) fn due(&mut self, version: Version, adopted: bool) -> Vec<Elements> {
        let is_ahead = |of: Version| {
            if of.epoch == version.epoch { version.is_before(of) } else { !adopted }
        };
        let due = self.elements.extract_if(.., |waiting| !waiting.version.is_some_and(is_ahead));
        due.flat_map(|waiting| waiting.elements).collect()
    }
}

impl<S: ReactiveState> InstanceTable<S> {
    /// Takes in a change of another node. Returns at once: it is adopted in a task of its own.
    pub(super) fn arrive(&self, change: Change) {
        if let Some(instance) = self.loaded(&change.key)
            && instance.arrived.lock().add_change(change)
        {
            self.take_in(instance);
        }
    }

    /// Takes in elements that an event on another node sends to all followers. Returns at once.
    pub(super) fn elements_arrive(&self, key: &Key, version: Option<Version>, elements: Vec<Elements>) {
        if let Some(instance) = self.loaded(key)
            && instance.followers() > 0
            && instance.arrived.lock().add_elements(Ephemeral { version, elements })
        {
            self.take_in(instance);
        }
    }

    /// Takes a turn for what has arrived, in a task of its own.
    fn take_in(&self, instance: Arc<Instance<S>>) {
        let Ok(me) = self.me() else { return };
        self.shared.spawn(async move {
            let deadline = me.deadline();
            // The worker that runs the reader would go on with this task, and poll no socket until it ends. A task that
            // yields wakes another worker, which does.
            if !me.views.is_empty() {
                tokio::task::yield_now().await;
            }
            if let Err(error) = me.take_turn(&instance, Command::Arrived, deadline).await {
                tracing::debug!(key = ?instance.key, %error, "a change of another node was not adopted");
                // The next one needs a turn again.
                instance.arrived.lock().begin();
                instance.upkeep.lock().suspect = true;
                me.clear_up(&instance);
            }
        });
    }

    /// Adopts the changes that have arrived, with the elements that belong to them, from what they carry or from the
    /// store.
    pub(super) async fn adopt_arrived(
        &self,
        instance: &Arc<Instance<S>>,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let changes = instance.arrived.lock().begin();
        let (version, adopted) = match changes {
            Changes::One(change) => (self.adopt(instance, *change, deadline).await?.version, true),
            Changes::Gap => (self.refresh(instance, None, deadline).await?.0.version, true),
            Changes::Nothing => match instance.usable(Instant::now()) {
                Some(current) => (current.version, false),
                None => (self.refresh(instance, None, deadline).await?.0.version, true),
            },
        };
        // Those of a change that this node had adopted already, or of none.
        let elements = instance.arrived.lock().due(version, adopted);
        self.send_ephemeral(instance, &elements);
        Ok(Outcome::quiet(Applied::Unchanged, version))
    }

    /// Sends an event's elements to those who follow the signals on other nodes; `current` is the state after it.
    pub(super) fn send_elements(&self, instance: &Instance<S>, current: &Current<S>, elements: &[Elements]) {
        if let Some(nodes) = self.nodes().filter(|_| !elements.is_empty()) {
            nodes.send_elements(&instance.key, current.stored.then_some(current.version), elements);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;

    fn change(from: Version, to: Version) -> Change {
        let key = Key::new("a", Scope::Global, None, None).unwrap();
        Change { key, from, to, schema: 1, data: Some(to.to_string().into()) }
    }

    #[test]
    fn law_05_changes_that_wait_become_one_or_a_reload() {
        let first = Version::start();
        let second = first.next();
        let third = second.next();
        let mut arrived = Arrived::default();
        assert!(arrived.add_change(change(first, second)));
        assert!(!arrived.add_change(change(second, third)));
        // Repeated, and late.
        assert!(!arrived.add_change(change(second, third)) && !arrived.add_change(change(first, second)));
        let Changes::One(both) = arrived.begin() else { panic!("two changes that follow each other") };
        assert_eq!(*both, Change { from: first, ..change(second, third) });
        // One in between is missing, or another epoch has begun.
        for next in [change(third.next(), third.next().next()), change(Version::start(), Version::start())] {
            assert!(arrived.add_change(change(first, second)), "a turn is needed again");
            assert!(!arrived.add_change(next));
            assert!(!arrived.add_change(change(second, third)), "it is of no use any more");
            assert!(matches!(arrived.begin(), Changes::Gap));
        }
    }

    #[test]
    fn elements_wait_for_the_change_that_they_belong_to() {
        let (first, other) = (Version::start(), Version::start());
        let second = first.next();
        let mut arrived = Arrived::default();
        let add = |arrived: &mut Arrived, version: Option<Version>, html: &str| {
            arrived.add_elements(Ephemeral { version, elements: vec![Elements::outer(html)] })
        };
        assert!(add(&mut arrived, Some(first), "1") && !add(&mut arrived, Some(second), "2"));
        assert!(!add(&mut arrived, None, "3") && !add(&mut arrived, Some(other.next()), "4"));
        let mut due = |version, adopted| {
            let due = arrived.due(version, adopted);
            due.iter().map(Elements::html).collect::<String>()
        };
        assert_eq!(due(first, false), "13");
        assert_eq!(due(first, false), "");
        assert_eq!(due(second, false), "2");
        assert_eq!(due(other, true), "", "its own change comes later");
        assert_eq!(due(second, true), "4", "its epoch is over, or has been skipped");
        for at in 0..3 * MOST {
            add(&mut arrived, Some(second), &at.to_string());
        }
        assert_eq!(arrived.due(second, false).len(), MOST, "law 6");
    }
}
