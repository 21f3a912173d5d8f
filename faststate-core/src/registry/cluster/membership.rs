//! The other nodes of the cluster, as known from their heartbeats.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Time without a heartbeat after which a node counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(4);
/// Maximum length of a node's name, in characters; the rest is cut off.
const MAX_NAME_CHARS: usize = 64;

/// The other nodes, by their random ids.
#[derive(Debug, Default)]
pub(super) struct Members(HashMap<u64, Member>);

#[derive(Debug)]
struct Member {
    name: String,
    last_heartbeat: Instant,
    /// Whether it has sent a goodbye message. It stays listed until [`DEAD_AFTER`], because an earlier heartbeat may
    /// arrive late and must not make it look like a new node.
    left: bool,
}

impl Members {
    /// Records a heartbeat. Returns whether the node is new.
    pub(in crate::registry) fn heartbeat(&mut self, node: u64, name: &str, now: Instant) -> bool {
        let name = || name.chars().take(MAX_NAME_CHARS).collect();
        let member = self.0.entry(node);
        let is_new = matches!(member, std::collections::hash_map::Entry::Vacant(_));
        member.or_insert_with(|| Member { name: name(), last_heartbeat: now, left: false }).last_heartbeat =
            now;
        is_new
    }

    /// Records a goodbye message.
    pub(in crate::registry) fn leave(&mut self, node: u64) {
        if let Some(member) = self.0.get_mut(&node) {
            member.left = true;
        }
    }

    /// Counts the silence of all nodes from `now`.
    pub(super) fn restart_timeouts(&mut self, now: Instant) {
        self.0.values_mut().for_each(|member| member.last_heartbeat = now);
    }

    /// Removes the nodes that have been silent for [`DEAD_AFTER`]. Returns those that had not said goodbye.
    pub(in crate::registry) fn dead(&mut self, now: Instant) -> Vec<(u64, String)> {
        let dead = self.0.extract_if(|_, member| now.duration_since(member.last_heartbeat) >= DEAD_AFTER);
        dead.filter(|(_, member)| !member.left).map(|(node, member)| (node, member.name)).collect()
    }

    pub(in crate::registry) fn names(&self) -> Vec<String> {
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
    fn node_is_dead_after_four_silent_seconds() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut members = Members::default();
        assert!(members.heartbeat(1, "a", start) && members.heartbeat(2, "b", start));
        assert!(!members.heartbeat(1, "a", after(2)));
        assert_eq!(members.dead(after(3)), []);
        assert_eq!(members.dead(after(5)), [(2, "b".to_owned())]);
        assert_eq!(members.names(), ["a"]);
        members.restart_timeouts(after(60));
        assert_eq!(members.dead(after(63)), []);
        assert!(members.heartbeat(2, &"b".repeat(100), after(63)));
        assert_eq!(members.names()[1].len(), MAX_NAME_CHARS);
    }

    #[test]
    fn node_that_said_goodbye_is_removed_and_never_dead() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut members = Members::default();
        assert!(members.heartbeat(1, "a", start) && members.heartbeat(2, "b", start));
        members.leave(1);
        assert_eq!(members.names(), ["b"]);
        assert!(!members.heartbeat(1, "a", after(1)), "a late heartbeat does not make it new");
        assert_eq!(members.dead(after(6)), [(2, "b".to_owned())]);
    }
}
