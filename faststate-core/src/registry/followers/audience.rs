//! The users that follow an instance.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::counts::{Census, Counts};

/// The followers of an instance on all nodes, for the event of
/// [`StateBuilder::audience`](crate::registry::StateBuilder::audience).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Audience {
    /// The signed-in users with at least one stream, sorted and without duplicates.
    pub users: Vec<String>,
    /// The number of streams without a signed-in user.
    pub guests: usize,
}

/// The user of each stream that follows an instance on this node, and the audiences of the other nodes.
#[derive(Default)]
pub(in crate::registry) struct Listeners {
    pub(in crate::registry) users: HashMap<u64, Option<Box<str>>>,
    pub(in crate::registry) counts: Counts<Audience>,
}

impl Listeners {
    pub(in crate::registry) fn join(&mut self, stream: u64, user: Option<&str>) {
        self.users.insert(stream, user.map(Box::from));
    }

    pub(in crate::registry) fn leave(&mut self, stream: u64) {
        self.users.remove(&stream);
    }
}

impl Audience {
    pub(in crate::registry) fn sort(&mut self) {
        self.users.sort_unstable();
        self.users.dedup();
    }
}

impl Census for Audience {
    fn is_zero(&self) -> bool {
        self.users.is_empty() && self.guests == 0
    }

    fn add(&mut self, other: &Self) {
        self.users.extend_from_slice(&other.users);
        self.guests += other.guests;
        self.sort();
    }
}
