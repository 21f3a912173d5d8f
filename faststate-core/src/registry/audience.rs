//! The users that follow an instance.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    instance::Topics,
    nodes::PeerMessage,
    presence::{Census, Counts, TellsState},
    states::InstanceTable,
};
use crate::ReactiveState;

/// The followers of an instance on all nodes, for the event of
/// [`StateBuilder::audience`](super::StateBuilder::audience).
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
pub(super) struct Listeners {
    users: HashMap<u64, Option<Box<str>>>,
    pub(super) counts: Counts<Audience>,
}

impl Listeners {
    pub(super) fn join(&mut self, stream: u64, user: Option<&str>) {
        self.users.insert(stream, user.map(Box::from));
    }

    pub(super) fn leave(&mut self, stream: u64) {
        self.users.remove(&stream);
    }
}

impl Audience {
    fn sort(&mut self) {
        self.users.sort_unstable();
        self.users.dedup();
    }
}

impl Census for Audience {
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

    fn event<S: ReactiveState>(states: &InstanceTable<S>) -> Option<&TellsState<S, Self>> {
        states.audience.as_deref()
    }

    fn message(self, node: u64, wants_reply: bool) -> PeerMessage {
        PeerMessage::Audience { node, audience: self, wants_reply }
    }

    fn is_zero(&self) -> bool {
        self.users.is_empty() && self.guests == 0
    }

    fn add(&mut self, other: &Self) {
        self.users.extend_from_slice(&other.users);
        self.guests += other.guests;
        self.sort();
    }
}
