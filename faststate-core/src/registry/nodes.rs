//! The way to the other nodes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Error;
use crate::{
    BoxError, Key,
    broadcast::{Broadcaster, Change, Interest},
    store::StoreError,
};

/// How many waiting changes carry their data; beyond it the other nodes read the store.
const WITH_DATA: usize = 4096;
/// How long a publication may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before publishing again what the transport refused.
const AGAIN: Duration = Duration::from_millis(500);

/// The way to the other nodes.
pub(super) struct Nodes {
    broadcaster: Arc<dyn Broadcaster>,
    outbox: Arc<Mutex<Outbox>>,
}

/// Changes that wait for the broadcaster, at most one per key.
///
/// What happens to a key while its change waits becomes part of that change: the others need to hear of
/// the newest version only. So nothing is dropped, and a slow transport costs no more than an entry per
/// instance.
#[derive(Default)]
struct Outbox {
    order: VecDeque<Key>,
    changes: HashMap<Key, Change>,
    /// Whether somebody publishes.
    running: bool,
}

impl Nodes {
    pub(super) fn new(broadcaster: Arc<dyn Broadcaster>) -> Self {
        Self { broadcaster, outbox: Arc::default() }
    }

    /// Publishes a change when its turn comes, in one of these tasks.
    pub(super) fn publish(&self, change: Change, tasks: &TaskTracker) {
        let running = {
            let mut outbox = self.outbox.lock();
            outbox.push(change);
            std::mem::replace(&mut outbox.running, true)
        };
        if !running {
            tasks.spawn(publish_all(Arc::clone(&self.broadcaster), Arc::clone(&self.outbox)));
        }
    }

    /// Asks for the changes of a key.
    pub(super) async fn join(&self, key: &Key, deadline: Instant) -> Result<Interest, Error> {
        let joined = match tokio::time::timeout_at(deadline, self.broadcaster.join(key)).await {
            Ok(joined) => joined.map_err(BoxError::from),
            Err(elapsed) => Err(elapsed.into()),
        };
        joined.map_err(|error| Error::Unavailable(StoreError::Unavailable(error)))
    }
}

/// Publishes until nothing waits, or nothing is left of the registry but a transport that refuses.
async fn publish_all(transport: Arc<dyn Broadcaster>, waiting: Arc<Mutex<Outbox>>) {
    while let Some(change) = pop(&waiting) {
        let refusal: BoxError = match tokio::time::timeout(PATIENCE, transport.publish(&change)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.into(),
            Err(elapsed) => elapsed.into(),
        };
        tracing::warn!(key = ?change.key, error = &*refusal as &dyn std::error::Error, "not broadcast yet");
        if Arc::strong_count(&waiting) == 1 {
            return;
        }
        waiting.lock().push_back(change);
        tokio::time::sleep(AGAIN).await;
    }
}

fn pop(waiting: &Mutex<Outbox>) -> Option<Change> {
    let mut waiting = waiting.lock();
    let Some(key) = waiting.order.pop_front() else {
        waiting.running = false;
        return None;
    };
    waiting.changes.remove(&key)
}

impl Outbox {
    fn push(&mut self, change: Change) {
        let crowded = self.order.len() >= WITH_DATA;
        match self.changes.get_mut(&change.key) {
            Some(waiting) => {
                (waiting.to, waiting.schema) = (change.to, change.schema);
                waiting.data = change.data.filter(|_| waiting.data.is_some());
            }
            None => {
                self.order.push_back(change.key.clone());
                let data = change.data.filter(|_| !crowded);
                self.changes.insert(change.key.clone(), Change { data, ..change });
            }
        }
    }

    /// Takes back a change that the transport refused, perhaps because of its data.
    fn push_back(&mut self, change: Change) {
        match self.changes.get_mut(&change.key) {
            Some(newer) => newer.from = change.from,
            None => self.push(Change { data: None, ..change }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scope, Version};

    fn change(id: &str, from: Version, to: Version, data: &'static str) -> Change {
        let key = Key::new("a", Scope::Record, None, Some(id)).unwrap();
        Change { key, from, to, schema: 1, data: Some(data.into()) }
    }

    #[test]
    fn what_waits_for_one_key_becomes_one_change() {
        let (mut outbox, first) = (Outbox::default(), Version::start());
        let (second, third) = (first.next(), first.next().next());
        outbox.push(change("x", first, second, "2"));
        outbox.push(change("y", first, second, "y"));
        outbox.push(change("x", second, third, "3"));
        let outbox = Mutex::new(outbox);
        assert_eq!(pop(&outbox), Some(change("x", first, third, "3")));
        let refused = pop(&outbox).unwrap();
        assert_eq!(refused, change("y", first, second, "y"));
        outbox.lock().push_back(refused.clone());
        outbox.lock().push(change("y", second, third, "3"));
        assert_eq!(pop(&outbox), Some(Change { data: None, to: third, ..refused }));
        assert_eq!(pop(&outbox), None);
    }

    #[test]
    fn a_slow_transport_costs_an_entry_per_key() {
        let (mut outbox, mut version) = (Outbox::default(), Version::start());
        for at in 0..3 * WITH_DATA {
            let next = version.next();
            outbox.push(change(&(at % 5000).to_string(), version, next, "{}"));
            version = next;
        }
        assert_eq!(outbox.changes.len(), 5000);
        let with_data = outbox.changes.values().filter(|change| change.data.is_some()).count();
        assert_eq!(with_data, WITH_DATA);
    }
}
