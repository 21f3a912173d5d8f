//! A broadcaster between the registries of one process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{BroadcastError, Broadcaster, Change, Inbox, Interest};
use crate::Key;

/// Carries changes between the registries of one process, for tests with several nodes and for processes that run
/// several registries over one store.
///
/// Each registry is a node with its own broadcaster; [`peer`](Self::peer) creates the broadcaster of the next node.
pub struct LocalBroadcaster {
    hub: Arc<Mutex<Hub>>,
    node: usize,
}

#[derive(Default)]
struct Hub {
    nodes: Vec<LocalNode>,
}

#[derive(Default)]
struct LocalNode {
    inbox: Option<Arc<dyn Inbox>>,
    /// The number of the node's interests in each key.
    joined: HashMap<Key, usize>,
}

impl LocalBroadcaster {
    /// Creates the broadcaster of the first node.
    #[must_use]
    pub fn new() -> Self {
        Self::enter(Arc::default())
    }

    /// Creates the broadcaster of another node, connected to this one.
    #[must_use]
    pub fn peer(&self) -> Self {
        Self::enter(Arc::clone(&self.hub))
    }

    fn enter(hub: Arc<Mutex<Hub>>) -> Self {
        let node = {
            let mut hub = hub.lock();
            hub.nodes.push(LocalNode::default());
            hub.nodes.len() - 1
        };
        Self { hub, node }
    }

    /// Returns the inboxes of the other nodes, or of those that have joined `key`.
    fn others(&self, key: Option<&Key>) -> Vec<Arc<dyn Inbox>> {
        let hub = self.hub.lock();
        let others = hub.nodes.iter().enumerate().filter(|(at, _)| *at != self.node);
        let joined = others.filter(|(_, node)| key.is_none_or(|key| node.joined.contains_key(key)));
        joined.filter_map(|(_, node)| node.inbox.clone()).collect()
    }
}

#[async_trait]
impl Broadcaster for LocalBroadcaster {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        self.others(Some(&change.key)).into_iter().for_each(|inbox| inbox.change(change.clone()));
        Ok(())
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        self.others(key).into_iter().for_each(|inbox| inbox.notified(key.cloned(), message.clone()));
        Ok(())
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        *self.hub.lock().nodes[self.node].joined.entry(key.clone()).or_default() += 1;
        let (hub, node, key): (Weak<_>, _, _) = (Arc::downgrade(&self.hub), self.node, key.clone());
        Ok(Interest::new(move || {
            let Some(hub) = hub.upgrade() else { return };
            let joined = &mut hub.lock().nodes[node].joined;
            if let Some(count) = joined.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    joined.remove(&key);
                }
            }
        }))
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.hub.lock().nodes[self.node].inbox = Some(inbox);
    }
}

impl Default for LocalBroadcaster {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for LocalBroadcaster {
    fn drop(&mut self) {
        self.hub.lock().nodes[self.node] = LocalNode::default();
    }
}

impl fmt::Debug for LocalBroadcaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBroadcaster").field("node", &self.node).finish_non_exhaustive()
    }
}
