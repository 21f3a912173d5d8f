//! Changes and elements received from other nodes, queued for a turn of their instance.
//!
//! The transport's reader only queues them and starts a task. Adopting a change runs application code (`Deserialize`,
//! `signals`, views), which may be slow and must not delay the changes of other keys.

use std::{mem, sync::Arc};

use tokio::time::Instant;

use super::{
    Applied, Error, Outcome,
    instance::{Current, Instance},
    states::InstanceTable,
    turn::Command,
};
use crate::{Elements, Key, ReactiveState, Version, broadcast::Change};

/// Maximum number of messages with elements that wait for their change. Beyond it, the oldest is dropped.
const MAX_ELEMENT_MESSAGES: usize = 32;

/// The changes and elements that arrived for an instance since its last turn for them.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Whether a turn is queued.
    queued: bool,
    changes: Changes,
    /// Oldest first.
    elements: Vec<Ephemeral>,
}

/// The changes that have arrived, merged into at most one.
#[derive(Debug, Default)]
enum Changes {
    #[default]
    Nothing,
    /// One change, or several consecutive ones.
    One(Box<Change>),
    /// Changes that are not consecutive, so that the record must be loaded.
    Gap,
}

/// The elements of one event.
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
            // The second change already contains the record after both.
            Changes::One(waiting) if change.from == waiting.to => {
                Changes::One(Box::new(Change { from: waiting.from, ..change }))
            }
            Changes::One(_) | Changes::Gap => Changes::Gap,
        };
        !mem::replace(&mut self.queued, true)
    }

    /// Adds elements. Returns whether a turn is needed.
    fn add_elements(&mut self, elements: Ephemeral) -> bool {
        if self.elements.len() >= MAX_ELEMENT_MESSAGES {
            self.elements.remove(0);
        }
        self.elements.push(elements);
        !mem::replace(&mut self.queued, true)
    }

    /// Takes the changes at the start of a turn.
    fn begin(&mut self) -> Changes {
        self.queued = false;
        mem::take(&mut self.changes)
    }

    /// Takes the elements that can be sent at this version. `adopted` says whether a change has just led to the version.
    pub(super) fn due(&mut self, version: Version, adopted: bool) -> Vec<Elements> {
        let is_ahead = |of: Version| {
            if of.epoch == version.epoch { version.is_before(of) } else { !adopted }
        };
        let due = self.elements.extract_if(.., |waiting| !waiting.version.is_some_and(is_ahead));
        due.flat_map(|waiting| waiting.elements).collect()
    }
}

impl<S: ReactiveState> InstanceTable<S> {
    /// Queues a change from another node, to be adopted in its own task.
    pub(super) fn arrive(&self, change: Change) {
        if let Some(instance) = self.loaded(&change.key)
            && instance.arrived.lock().add_change(change)
        {
            self.adopt_in_background(instance);
        }
    }

    /// Queues elements that an event on another node sends to all followers.
    pub(super) fn elements_arrive(&self, key: &Key, version: Option<Version>, elements: Vec<Elements>) {
        if let Some(instance) = self.loaded(key)
            && instance.followers() > 0
            && instance.arrived.lock().add_elements(Ephemeral { version, elements })
        {
            self.adopt_in_background(instance);
        }
    }

    /// Queues a turn for the arrived changes and elements, in its own task.
    fn adopt_in_background(&self, instance: Arc<Instance<S>>) {
        let Ok(me) = self.me() else { return };
        self.shared.spawn(async move {
            let deadline = me.deadline();
            // Without this, the worker that runs the reader continues with this task and polls no socket until the task
            // ends. Yielding wakes another worker, which polls the sockets.
            if !me.views.is_empty() {
                tokio::task::yield_now().await;
            }
            if let Err(error) = me.take_turn(&instance, Command::Arrived, deadline).await {
                tracing::debug!(key = ?instance.key, %error, "a change of another node was not adopted");
                // So that the next change queues a turn again.
                instance.arrived.lock().begin();
                instance.upkeep.lock().suspect = true;
                me.clear_up(&instance);
            }
        });
    }

    /// Adopts the arrived changes, from their data or from the store, and sends the elements that belong to them.
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
        // These belong to a change that this node had already adopted, or to no change.
        let elements = instance.arrived.lock().due(version, adopted);
        self.send_ephemeral(instance, &elements);
        Ok(Outcome::quiet(Applied::Unchanged, version))
    }

    /// Sends an event's elements to the followers on other nodes. `current` is the state after the event.
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
    fn law_05_queued_changes_become_one_or_a_reload() {
        let first = Version::start();
        let second = first.next();
        let third = second.next();
        let mut arrived = Arrived::default();
        assert!(arrived.add_change(change(first, second)));
        assert!(!arrived.add_change(change(second, third)));
        // A repeated change, and a late one.
        assert!(!arrived.add_change(change(second, third)) && !arrived.add_change(change(first, second)));
        let Changes::One(both) = arrived.begin() else { panic!("the changes are consecutive") };
        assert_eq!(*both, Change { from: first, ..change(second, third) });
        // A change is missing in between, or a new epoch has started.
        for next in [change(third.next(), third.next().next()), change(Version::start(), Version::start())] {
            assert!(arrived.add_change(change(first, second)), "a turn is needed again");
            assert!(!arrived.add_change(next));
            assert!(!arrived.add_change(change(second, third)), "it does not close the gap");
            assert!(matches!(arrived.begin(), Changes::Gap));
        }
    }

    #[test]
    fn elements_wait_for_their_change() {
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
        assert_eq!(due(second, true), "4", "its epoch has ended or was skipped");
        for at in 0..3 * MAX_ELEMENT_MESSAGES {
            add(&mut arrived, Some(second), &at.to_string());
        }
        assert_eq!(arrived.due(second, false).len(), MAX_ELEMENT_MESSAGES, "law 6");
    }
}
