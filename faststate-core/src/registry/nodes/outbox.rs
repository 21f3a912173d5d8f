//! Changes on their way to the other nodes.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::join_all};
use parking_lot::Mutex;

use crate::{
    BoxError, Key,
    broadcast::{Broadcaster, Change},
    registry::shared::panic_text,
};

/// How many waiting changes carry their data; beyond it the other nodes read the store.
const WITH_DATA: usize = 4096;
/// How many changes are on their way at a time, each of another key.
const TOGETHER: usize = 128;
/// How long a publication may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before publishing again what the transport refused.
const AGAIN: Duration = Duration::from_millis(500);

/// Changes that wait for the broadcaster, at most one per key.
///
/// What happens to a key while its change waits becomes part of that change: the others need to hear of
/// the newest version only. So nothing is dropped, and a slow transport costs no more than an entry per
/// instance.
#[derive(Default)]
pub(super) struct Outbox {
    order: VecDeque<Key>,
    changes: HashMap<Key, Change>,
    /// Whether somebody publishes.
    running: bool,
}

/// Publishes until nothing waits, or nothing is left of the registry but a transport that refuses.
pub(super) async fn publish_all(transport: Arc<dyn Broadcaster>, waiting: Arc<Mutex<Outbox>>) {
    loop {
        let changes = waiting.lock().pop();
        if changes.is_empty() {
            return;
        }
        let outcomes = join_all(changes.iter().map(|change| publish_one(&*transport, change))).await;
        let refused = changes.into_iter().zip(outcomes).filter_map(|(change, outcome)| {
            let refusal = outcome.err()?;
            let refusal = &*refusal as &dyn std::error::Error;
            tracing::warn!(key = ?change.key, error = refusal, "not broadcast yet");
            Some(change)
        });
        let refused: Vec<_> = refused.collect();
        if refused.is_empty() {
            continue;
        }
        if Arc::strong_count(&waiting) == 1 {
            return;
        }
        {
            let mut waiting = waiting.lock();
            refused.into_iter().for_each(|change| waiting.push_back(change));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn publish_one(transport: &dyn Broadcaster, change: &Change) -> Result<(), BoxError> {
    // In the turn of an event that is saved: what is not ours must not fail that.
    let publishing = AssertUnwindSafe(async { transport.publish(change).await }).catch_unwind();
    Ok(tokio::time::timeout(PATIENCE, publishing).await?.map_err(|panic| panic_text(&*panic))??)
}

impl Outbox {
    /// Whether whoever asks is to publish what waits: nobody else does.
    pub(super) fn begin(&mut self) -> bool {
        let waits = !self.order.is_empty();
        waits && !std::mem::replace(&mut self.running, true)
    }

    /// Whether everything is published.
    pub(super) fn is_idle(&self) -> bool {
        self.order.is_empty() && !self.running
    }

    /// The next changes to publish; with none, nobody publishes any more.
    fn pop(&mut self) -> Vec<Change> {
        let next = self.order.len().min(TOGETHER);
        self.running = next > 0;
        let Self { order, changes, .. } = self;
        order.drain(..next).filter_map(|key| changes.remove(&key)).collect()
    }

    pub(super) fn push(&mut self, change: Change) {
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
        let refused = change("y", first, second, "y");
        assert_eq!([outbox.begin(), outbox.begin()], [true, false], "one publishes");
        assert_eq!(outbox.pop(), [change("x", first, third, "3"), refused.clone()]);
        outbox.push_back(refused.clone());
        outbox.push(change("y", second, third, "3"));
        assert_eq!(outbox.pop(), [Change { data: None, to: third, ..refused }]);
        assert_eq!(outbox.pop(), []);
        assert!(!outbox.begin(), "nothing waits");
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
