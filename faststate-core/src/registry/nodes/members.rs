//! Which other nodes there are, as far as they have said so.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// After how long without a word a node counts as dead.
const SILENCE: Duration = Duration::from_secs(4);
/// The longest name that is remembered, in characters.
const LONGEST_NAME: usize = 64;

/// Which other nodes there are.
#[derive(Debug, Default)]
pub(super) struct Members(HashMap<u64, Member>);

#[derive(Debug)]
struct Member {
    name: String,
    heard: Instant,
    /// Whether it said goodbye. It is kept for a while, as what it told before may arrive late.
    left: bool,
}

impl Members {
    /// A node is there; says whether that is news.
    pub(super) fn heard(&mut self, node: u64, name: &str, now: Instant) -> bool {
        let name = || name.chars().take(LONGEST_NAME).collect();
        let member = self.0.entry(node);
        let is_news = matches!(member, std::collections::hash_map::Entry::Vacant(_));
        member.or_insert_with(|| Member { name: name(), heard: now, left: false }).heard = now;
        is_news
    }

    /// A node said goodbye.
    pub(super) fn leave(&mut self, node: u64) {
        if let Some(member) = self.0.get_mut(&node) {
            member.left = true;
        }
    }

    /// Everybody gets the whole time once more.
    pub(super) fn give_time(&mut self, now: Instant) {
        self.0.values_mut().for_each(|member| member.heard = now);
    }

    /// Takes out those that have been silent for too long.
    pub(super) fn dead(&mut self, now: Instant) -> Vec<(u64, String)> {
        let dead = self.0.extract_if(|_, member| now.duration_since(member.heard) >= SILENCE);
        dead.filter(|(_, member)| !member.left).map(|(node, member)| (node, member.name)).collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let present = self.0.values().filter(|member| !member.left);
        let mut names: Vec<_> = present.map(|member| member.name.clone()).collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_dead_after_four_silent_seconds_unless_this_one_was_cut_off() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut members = Members::default();
        assert!(members.heard(1, "a", start) && members.heard(2, "b", start));
        assert!(!members.heard(1, "a", after(2)));
        assert_eq!(members.dead(after(3)), []);
        assert_eq!(members.dead(after(5)), [(2, "b".to_owned())]);
        assert_eq!(members.names(), ["a"]);
        members.give_time(after(60));
        assert_eq!(members.dead(after(63)), []);
        assert!(members.heard(2, &"b".repeat(100), after(63)));
        assert_eq!(members.names()[1].len(), LONGEST_NAME);
    }

    #[test]
    fn a_node_that_said_goodbye_is_gone_at_once_and_never_dead() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut members = Members::default();
        assert!(members.heard(1, "a", start) && members.heard(2, "b", start));
        members.leave(1);
        assert_eq!(members.names(), ["b"]);
        assert!(!members.heard(1, "a", after(1)), "it is no news when it arrives late");
        assert_eq!(members.dead(after(6)), [(2, "b".to_owned())]);
    }
}
