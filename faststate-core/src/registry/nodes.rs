//! The way to the other nodes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

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
    bell: mpsc::Sender<()>,
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
}

impl Nodes {
    /// Starts to publish, for as long as this lives.
    pub(super) fn new(broadcaster: Arc<dyn Broadcaster>) -> Self {
        let (bell, mut rung) = mpsc::channel(1);
        let outbox = Arc::new(Mutex::new(Outbox::default()));
        let (transport, waiting) = (Arc::clone(&broadcaster), Arc::clone(&outbox));
        tokio::spawn(async move {
            while rung.recv().await.is_some() {
                publish_all(&*transport, &waiting).await;
            }
        });
        Self { broadcaster, outbox, bell }
    }

    /// Publishes a change when its turn comes.
    pub(super) fn publish(&self, change: Change) {
        self.outbox.lock().push(change);
        // Rung already is as good.
        let _ = self.bell.try_send(());
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

async fn publish_all(transport: &dyn Broadcaster, waiting: &Mutex<Outbox>) {
    while let Some(change) = pop(waiting) {
        let refusal: BoxError = match tokio::time::timeout(PATIENCE, transport.publish(&change)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.into(),
            Err(elapsed) => elapsed.into(),
        };
        tracing::warn!(key = ?change.key, error = &*refusal as &dyn std::error::Error, "not broadcast yet");
        waiting.lock().push_back(change);
        tokio::time::sleep(AGAIN).await;
    }
}

fn pop(waiting: &Mutex<Outbox>) -> Option<Change> {
    let mut waiting = waiting.lock();
    let key = waiting.order.pop_front()?;
    waiting.changes.remove(&key)
}

impl Outbox {
    fn push(&mut self, change: Change) {
        let crowded = self.order.len() >= WITH_DATA;
        match self.changes.get_mut(&change.key) {
            Some(waiting) => {
                waiting.to = change.to;
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
        Change { key, from, to, data: Some(data.into()) }
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
