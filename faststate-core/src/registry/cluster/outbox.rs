//! Changes and elements that are queued for the other nodes.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{join_all, try_join_all},
};
use parking_lot::Mutex;

use super::peer_message::PeerMessage;
use crate::{
    BoxError, Key,
    broadcast::{Broadcaster, Change},
    registry::panics::panic_text,
};

/// Maximum number of queued keys. When it is exceeded, the outbox is cleared and the other nodes are notified that
/// changes were dropped, so that they reload what they follow.
const MAX_KEYS: usize = 16_384;
/// Maximum number of queued bytes of data and elements. When it is reached, changes are queued without their data, which
/// the other nodes read from the store, and elements are dropped.
const MAX_BYTES: usize = 16 << 20;
/// Number of keys that are published concurrently.
const KEYS_PER_BATCH: usize = 128;
/// Timeout for one call of the broadcaster.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before changes that the transport refused are published again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The queue in front of the broadcaster: at most one change per key, and a bounded number of keys.
///
/// Consecutive changes of a queued key are merged into one, because the other nodes need only the newest version.
#[derive(Default)]
pub(super) struct PeerOutbox {
    /// The keys in order of their last change, newest last.
    order: BTreeMap<u64, Key>,
    queued: HashMap<Key, QueuedKey>,
    /// Total size of the queued data and elements.
    bytes: usize,
    /// The place that was assigned last.
    next: u64,
    /// Whether the other nodes must be notified that changes were dropped.
    dropped: bool,
    /// Whether a task is publishing.
    running: bool,
}

/// The elements and the change that are queued for one key.
#[derive(Debug, Default)]
struct QueuedKey {
    /// The key's place in the order.
    place: u64,
    /// Encoded messages with elements, which are sent before the change.
    elements: Vec<Bytes>,
    change: Option<Change>,
}

/// The next batch to publish.
#[derive(Debug)]
enum Next {
    Nothing,
    /// The notice that changes were dropped. It is sent before any other change, so that the receivers do not take a
    /// later change for the next one.
    ChangesDropped,
    Keys(Vec<(Key, QueuedKey)>),
}

/// Publishes until the outbox is empty or the transport refuses. After a refusal, a background task tries again.
pub(super) async fn publish_all(transport: Arc<dyn Broadcaster>, outbox: Arc<Mutex<PeerOutbox>>) {
    if let Err(error) = publish_until_refused(&*transport, &outbox).await {
        tracing::warn!(error = &*error as &dyn std::error::Error, "changes are not broadcast yet");
        // Not tracked by `settle`, because the transport may be unavailable for a long time.
        tokio::spawn(publish_again(transport, outbox));
    }
}

/// Retries until the outbox is published, or until the registry has been dropped and only this task is left.
async fn publish_again(transport: Arc<dyn Broadcaster>, outbox: Arc<Mutex<PeerOutbox>>) {
    loop {
        tokio::time::sleep(RETRY_DELAY).await;
        if Arc::strong_count(&outbox) == 1 {
            return;
        }
        match publish_until_refused(&*transport, &outbox).await {
            Ok(()) => return,
            Err(error) => {
                tracing::debug!(error = &*error as &dyn std::error::Error, "changes are not broadcast yet");
            }
        }
    }
}

async fn publish_until_refused(
    transport: &dyn Broadcaster,
    outbox: &Mutex<PeerOutbox>,
) -> Result<(), BoxError> {
    loop {
        let next = outbox.lock().pop();
        match next {
            Next::Nothing => return Ok(()),
            Next::ChangesDropped => {
                let notice = PeerMessage::ChangesDropped.to_bytes();
                let sent = with_timeout(transport.notify(None, notice)).await;
                sent.inspect_err(|_| outbox.lock().dropped = true)?;
            }
            Next::Keys(mut keys) => {
                let publications = keys.iter_mut().map(|(key, queued)| queued.publish(transport, key));
                let outcomes = join_all(publications).await;
                let mut refusal = None;
                let mut outbox = outbox.lock();
                for ((key, queued), outcome) in keys.into_iter().zip(outcomes) {
                    if let Err(error) = outcome {
                        refusal = Some(error);
                        outbox.put_back(key, queued);
                    }
                }
                refusal.map_or(Ok(()), Err)?;
            }
        }
    }
}

impl QueuedKey {
    /// Publishes the elements and then the change. Elements that were sent are removed, so that a retry does not repeat
    /// them.
    async fn publish(&mut self, transport: &dyn Broadcaster, key: &Key) -> Result<(), BoxError> {
        if !self.elements.is_empty() {
            let elements = self.elements.iter().map(|message| transport.notify(Some(key), message.clone()));
            with_timeout(try_join_all(elements)).await?;
            self.elements.clear();
        }
        match &self.change {
            Some(change) => with_timeout(transport.publish(change)).await,
            None => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        let data = self.change.as_ref().and_then(|change| change.data.as_ref());
        data.map_or(0, Bytes::len) + self.elements.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Runs a call of the broadcaster with a timeout, and turns a panic into an error.
///
/// The call may run inside the turn of an event that is already saved, so a panicking broadcaster must not fail the
/// event.
async fn with_timeout<T, E: Into<BoxError>>(
    call: impl Future<Output = Result<T, E>>,
) -> Result<(), BoxError> {
    let call = AssertUnwindSafe(call).catch_unwind();
    match tokio::time::timeout(SEND_TIMEOUT, call).await?.map_err(|panic| panic_text(&*panic))? {
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl PeerOutbox {
    /// Claims the publication for the caller. Returns false if the outbox is empty or another task is publishing it.
    pub(in crate::registry) fn begin(&mut self) -> bool {
        let has_work = self.dropped || !self.order.is_empty();
        has_work && !mem::replace(&mut self.running, true)
    }

    /// Whether everything is published.
    pub(in crate::registry) fn is_idle(&self) -> bool {
        self.order.is_empty() && !self.dropped && !self.running
    }

    /// Removes and returns the next batch. With [`Next::Nothing`], the publication ends.
    ///
    /// Half of a batch is the newest keys, which are the most likely to be followed; the other half is the oldest, so
    /// that no key waits forever.
    fn pop(&mut self) -> Next {
        if mem::take(&mut self.dropped) {
            return Next::ChangesDropped;
        }
        let mut keys: Vec<_> = (0..KEYS_PER_BATCH / 2).map_while(|_| self.order.pop_last()).collect();
        keys.extend((0..KEYS_PER_BATCH / 2).map_while(|_| self.order.pop_first()));
        self.running = !keys.is_empty();
        if keys.is_empty() {
            return Next::Nothing;
        }
        let keys = keys.into_iter().filter_map(|(_, key)| {
            let queued = self.queued.remove(&key)?;
            self.bytes -= queued.bytes();
            Some((key, queued))
        });
        Next::Keys(keys.collect())
    }

    /// Queues a change, merged with the one that is already queued for its key.
    pub(in crate::registry) fn push(&mut self, change: Change) {
        self.update(change.key.clone(), |queued, room| {
            let data = change.data.filter(|data| data.len() <= room);
            queued.change = Some(match queued.change.take() {
                Some(before) => {
                    let data = data.filter(|_| before.data.is_some());
                    Change { from: before.from, data, ..change }
                }
                None => Change { data, ..change },
            });
        });
    }

    /// Queues elements for the key's followers, as one or several encoded messages. They are sent before any change that
    /// is queued later.
    pub(in crate::registry) fn push_elements(&mut self, key: &Key, messages: Vec<Bytes>) {
        self.update(key.clone(), |queued, room| {
            if messages.iter().map(Bytes::len).sum::<usize>() <= room {
                queued.elements.extend(messages);
            } else {
                tracing::debug!(?key, "elements for other nodes are dropped: the outbox is full");
            }
        });
    }

    /// Changes the entry of a key and makes it the newest. `change` receives the number of bytes that are still free.
    fn update(&mut self, key: Key, change: impl FnOnce(&mut QueuedKey, usize)) {
        if self.queued.len() >= MAX_KEYS && !self.queued.contains_key(&key) {
            tracing::warn!(
                keys = MAX_KEYS,
                "too many changes are queued for the other nodes: dropped them, and the nodes reload what they follow"
            );
            self.order.clear();
            self.queued.clear();
            (self.bytes, self.dropped) = (0, true);
        }
        let queued = self.queued.entry(key.clone()).or_default();
        let before = queued.bytes();
        change(queued, MAX_BYTES.saturating_sub(self.bytes));
        self.bytes = self.bytes - before + queued.bytes();
        self.order.remove(&queued.place);
        self.next += 1;
        queued.place = self.next;
        self.order.insert(queued.place, key);
    }

    /// Queues a refused entry again, without the data, which may be why the transport refused it.
    fn put_back(&mut self, key: Key, refused: QueuedKey) {
        let QueuedKey { place, mut elements, change } = refused;
        let change = change.map(|change| Change { data: None, ..change });
        let queued = self.queued.entry(key.clone()).or_insert_with(|| {
            self.order.insert(place, key);
            QueuedKey { place, ..QueuedKey::default() }
        });
        let before = queued.bytes();
        elements.append(&mut queued.elements);
        queued.elements = elements;
        match (&mut queued.change, change) {
            (Some(newer), Some(change)) => newer.from = change.from,
            (newer @ None, change) => *newer = change,
            (Some(_), None) => {}
        }
        self.bytes = self.bytes - before + queued.bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scope, Version};

    fn key(id: &str) -> Key {
        Key::new("a", Scope::Record, None, Some(id)).unwrap()
    }

    fn change(id: &str, from: Version, to: Version, data: &'static str) -> Change {
        Change { key: key(id), from, to, schema: 1, data: Some(data.into()) }
    }

    /// The changes of the next batch.
    fn pop(outbox: &mut PeerOutbox) -> Vec<Change> {
        match outbox.pop() {
            Next::Nothing => Vec::new(),
            Next::ChangesDropped => panic!("changes were dropped"),
            Next::Keys(keys) => keys.into_iter().filter_map(|(_, queued)| queued.change).collect(),
        }
    }

    #[test]
    fn queued_changes_of_one_key_become_one() {
        let (mut outbox, first) = (PeerOutbox::default(), Version::start());
        let (second, third) = (first.next(), first.next().next());
        outbox.push(change("x", first, second, "2"));
        outbox.push(change("y", first, second, "y"));
        outbox.push(change("x", second, third, "3"));
        let refused = change("y", first, second, "y");
        assert_eq!([outbox.begin(), outbox.begin()], [true, false], "one task publishes");
        assert_eq!(pop(&mut outbox), [change("x", first, third, "3"), refused.clone()]);
        outbox
            .put_back(key("y"), QueuedKey { place: 2, elements: Vec::new(), change: Some(refused.clone()) });
        outbox.push(change("y", second, third, "3"));
        assert_eq!(pop(&mut outbox), [Change { data: None, to: third, ..refused }]);
        assert_eq!(pop(&mut outbox), []);
        assert!(!outbox.begin(), "the outbox is empty");
    }

    #[test]
    fn law_06_full_outbox_is_cleared_and_sends_a_notice_first() {
        let (mut outbox, version) = (PeerOutbox::default(), Version::start());
        for at in 0..3 * MAX_KEYS {
            outbox.push(change(&at.to_string(), version, version.next(), "{}"));
            assert!(outbox.queued.len() <= MAX_KEYS && outbox.order.len() == outbox.queued.len());
        }
        assert!(matches!(outbox.pop(), Next::ChangesDropped), "before any change");
        let newest = pop(&mut outbox).swap_remove(0);
        assert_eq!(newest.key, key(&(3 * MAX_KEYS - 1).to_string()));
        let mut published = KEYS_PER_BATCH;
        while !pop(&mut outbox).is_empty() {
            published += KEYS_PER_BATCH;
        }
        assert_eq!((published, outbox.bytes), (MAX_KEYS, 0), "the cap is a multiple of a batch");
    }

    #[test]
    fn law_06_outbox_holds_a_bounded_number_of_bytes() {
        let (mut outbox, version) = (PeerOutbox::default(), Version::start());
        let data: &'static str = "x".repeat(1 << 20).leak();
        for at in 0..100 {
            outbox.push(change(&(at % 50).to_string(), version, version.next(), data));
            outbox.push_elements(&key(&at.to_string()), vec![Bytes::from_static(data.as_bytes())]);
            assert!(outbox.bytes <= MAX_BYTES);
            let bytes: usize = outbox.queued.values().map(QueuedKey::bytes).sum();
            assert_eq!(outbox.bytes, bytes);
        }
        assert_eq!(outbox.queued.len(), 100, "every change is queued, with or without its data");
    }

    #[test]
    fn batch_holds_the_newest_and_the_oldest_changes() {
        let (mut outbox, version) = (PeerOutbox::default(), Version::start());
        for at in 0..10 * KEYS_PER_BATCH {
            outbox.push(change(&at.to_string(), version, version.next(), "{}"));
        }
        outbox.push(change("5", version.next(), version.next().next(), "{}"));
        let keys: Vec<_> = pop(&mut outbox).into_iter().map(|change| change.key).collect();
        assert_eq!(keys[0], key("5"), "it changed last");
        assert!(keys.contains(&key("0")) && !keys.contains(&key("300")));
        assert_eq!(keys.len(), KEYS_PER_BATCH);
    }
}
