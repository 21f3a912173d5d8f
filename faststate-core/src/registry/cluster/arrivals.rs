//! Changes and elements that other nodes have sent, until the instance's turn adopts them.

use std::mem;

use crate::{Elements, Version, broadcast::Change};

/// Maximum number of messages with elements that wait for their change. Beyond it, the oldest is dropped.
const MAX_ELEMENT_MESSAGES: usize = 32;

/// The changes and elements that arrived for an instance since its last turn for them.
#[derive(Debug, Default)]
pub(in crate::registry) struct Arrived {
    /// Whether a turn is queued.
    pub(in crate::registry) queued: bool,
    pub(in crate::registry) changes: Changes,
    /// Oldest first.
    pub(in crate::registry) elements: Vec<Ephemeral>,
}

/// The changes that have arrived, merged into at most one.
#[derive(Debug, Default)]
pub(in crate::registry) enum Changes {
    #[default]
    Nothing,
    /// One change, or several consecutive ones.
    One(Box<Change>),
    /// Changes that are not consecutive, so that the record must be loaded.
    Gap,
}

/// The elements of one event.
#[derive(Debug)]
pub(in crate::registry) struct Ephemeral {
    /// The version after the event, if it is stored.
    pub(in crate::registry) version: Option<Version>,
    pub(in crate::registry) elements: Vec<Elements>,
}

impl Arrived {
    /// Adds a change. Returns whether a turn is needed.
    pub(in crate::registry) fn add_change(&mut self, change: Change) -> bool {
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
    pub(in crate::registry) fn add_elements(&mut self, elements: Ephemeral) -> bool {
        if self.elements.len() >= MAX_ELEMENT_MESSAGES {
            self.elements.remove(0);
        }
        self.elements.push(elements);
        !mem::replace(&mut self.queued, true)
    }

    /// Takes the changes at the start of a turn.
    pub(in crate::registry) fn begin(&mut self) -> Changes {
        self.queued = false;
        mem::take(&mut self.changes)
    }

    /// Takes the elements that can be sent at this version. `adopted` says whether a change has just led to the version.
    pub(in crate::registry) fn due(&mut self, version: Version, adopted: bool) -> Vec<Elements> {
        let is_ahead = |of: Version| {
            if of.epoch == version.epoch { version.is_before(of) } else { !adopted }
        };
        let due = self.elements.extract_if(.., |waiting| !waiting.version.is_some_and(is_ahead));
        due.flat_map(|waiting| waiting.elements).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
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
