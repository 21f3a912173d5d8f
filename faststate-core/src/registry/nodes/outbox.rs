//! Changes and elements on their way to the other nodes.

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

use super::PeerMessage;
use crate::{
    BoxError, Key,
    broadcast::{Broadcaster, Change},
    registry::shared::panic_text,
};

/// How many keys may wait. Beyond it the outbox is cleared, and the other nodes are notified that they have missed
/// changes: they reload what is followed there.
const MOST: usize = 16_384;
/// How many bytes of data and elements may wait. Beyond it a change waits without its data, which the other nodes
/// read from the store, and elements are dropped.
const MOST_BYTES: usize = 16 << 20;
/// How many keys are published at a time.
const TOGETHER: usize = 128;
/// How long a publication may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before publishing again what the transport refused.
const AGAIN: Duration = Duration::from_millis(500);

/// What waits for the broadcaster: at most one change per key, and a bounded number of keys.
///
/// A change of a key that waits already becomes part of the change that waits: the other nodes need the newest
/// version only.
#[derive(Default)]
pub(super) struct Outbox {
    /// The keys, the one that changed last at the end.
    order: BTreeMap<u64, Key>,
    waiting: HashMap<Key, Waiting>,
    /// The bytes of data and elements.
    bytes: usize,
    /// The next place in the order.
    next: u64,
    /// Whether the other nodes are to be notified that they have missed changes.
    missed: bool,
    /// Whether a task publishes.
    running: bool,
}

/// What waits for one key.
#[derive(Debug, Default)]
struct Waiting {
    /// The key's place in the order.
    place: u64,
    /// Messages with elements, which leave before the change.
    elements: Vec<Bytes>,
    change: Option<Change>,
}

/// What is published next.
#[derive(Debug)]
enum Next {
    Nothing,
    /// The notice that changes were dropped: before anything else, so that no later change counts as the next one.
    Missed,
    Keys(Vec<(Key, Waiting)>),
}

/// Publishes until nothing waits or the transport refuses; what it refuses is published again by a task.
pub(super) async fn publish_all(transport: Arc<dyn Broadcaster>, outbox: Arc<Mutex<Outbox>>) {
    if let Err(error) = publish_until_refused(&*transport, &outbox).await {
        tracing::warn!(error = &*error as &dyn std::error::Error, "changes are not broadcast yet");
        // Not among the tasks that `settle` waits for: the transport may be away for long.
        tokio::spawn(publish_again(transport, outbox));
    }
}

/// Publishes once the transport takes it, unless nothing is left of the registry but this task.
async fn publish_again(transport: Arc<dyn Broadcaster>, outbox: Arc<Mutex<Outbox>>) {
    loop {
        tokio::time::sleep(AGAIN).await;
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

async fn publish_until_refused(transport: &dyn Broadcaster, outbox: &Mutex<Outbox>) -> Result<(), BoxError> {
    loop {
        let next = outbox.lock().pop();
        match next {
            Next::Nothing => return Ok(()),
            Next::Missed => {
                let told = in_time(transport.tell(None, PeerMessage::Missed.to_bytes())).await;
                told.inspect_err(|_| outbox.lock().missed = true)?;
            }
            Next::Keys(mut keys) => {
                let publications = keys.iter_mut().map(|(key, waiting)| waiting.publish(transport, key));
                let outcomes = join_all(publications).await;
                let mut refusal = None;
                let mut outbox = outbox.lock();
                for ((key, waiting), outcome) in keys.into_iter().zip(outcomes) {
                    if let Err(error) = outcome {
                        refusal = Some(error);
                        outbox.put_back(key, waiting);
                    }
                }
                refusal.map_or(Ok(()), Err)?;
            }
        }
    }
}

impl Waiting {
    /// Publishes the elements and then the change; what is left was refused.
    async fn publish(&mut self, transport: &dyn Broadcaster, key: &Key) -> Result<(), BoxError> {
        if !self.elements.is_empty() {
            let elements = self.elements.iter().map(|words| transport.tell(Some(key), words.clone()));
            in_time(try_join_all(elements)).await?;
            self.elements.clear();
        }
        match &self.change {
            Some(change) => in_time(transport.publish(change)).await,
            None => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        let data = self.change.as_ref().and_then(|change| change.data.as_ref());
        data.map_or(0, Bytes::len) + self.elements.iter().map(Bytes::len).sum::<usize>()
    }
}

/// A call of the transport, in time.
///
/// It may run in the turn of an event that is saved: a panic in it must not fail that event.
async fn in_time<T, E: Into<BoxError>>(call: impl Future<Output = Result<T, E>>) -> Result<(), BoxError> {
    let call = AssertUnwindSafe(call).catch_unwind();
    match tokio::time::timeout(PATIENCE, call).await?.map_err(|panic| panic_text(&*panic))? {
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Outbox {
    /// Whether the caller is to publish what waits: no other task does.
    pub(super) fn begin(&mut self) -> bool {
        let waits = self.missed || !self.order.is_empty();
        waits && !mem::replace(&mut self.running, true)
    }

    /// Whether everything is published.
    pub(super) fn is_idle(&self) -> bool {
        self.order.is_empty() && !self.missed && !self.running
    }

    /// What is published next; with nothing, no task publishes any more.
    ///
    /// The newest keys leave first, since older ones have waited for long and may be of no interest any more, and
    /// as many of the oldest, so that none waits for ever.
    fn pop(&mut self) -> Next {
        if mem::take(&mut self.missed) {
            return Next::Missed;
        }
        let mut keys: Vec<_> = (0..TOGETHER / 2).map_while(|_| self.order.pop_last()).collect();
        keys.extend((0..TOGETHER / 2).map_while(|_| self.order.pop_first()));
        self.running = !keys.is_empty();
        if keys.is_empty() {
            return Next::Nothing;
        }
        let keys = keys.into_iter().filter_map(|(_, key)| {
            let waiting = self.waiting.remove(&key)?;
            self.bytes -= waiting.bytes();
            Some((key, waiting))
        });
        Next::Keys(keys.collect())
    }

    pub(super) fn push(&mut self, change: Change) {
        self.update(change.key.clone(), |waiting, room| {
            let data = change.data.filter(|data| data.len() <= room);
            waiting.change = Some(match waiting.change.take() {
                Some(before) => {
                    let data = data.filter(|_| before.data.is_some());
                    Change { from: before.from, data, ..change }
                }
                None => Change { data, ..change },
            });
        });
    }

    /// Elements for those who follow the key, in one message or several. They leave before a change that is pushed
    /// after them.
    pub(super) fn push_elements(&mut self, key: &Key, words: Vec<Bytes>) {
        self.update(key.clone(), |waiting, room| {
            if words.iter().map(Bytes::len).sum::<usize>() <= room {
                waiting.elements.extend(words);
            } else {
                tracing::debug!(?key, "elements for other nodes are dropped: too much waits");
            }
        });
    }

    /// Changes what waits for a key, which becomes the newest; `change` gets the room for data and elements.
    fn update(&mut self, key: Key, change: impl FnOnce(&mut Waiting, usize)) {
        if self.waiting.len() >= MOST && !self.waiting.contains_key(&key) {
            tracing::warn!(
                keys = MOST,
                "too many changes wait for the other nodes: they reload what they follow"
            );
            self.order.clear();
            self.waiting.clear();
            (self.bytes, self.missed) = (0, true);
        }
        let waiting = self.waiting.entry(key.clone()).or_default();
        let before = waiting.bytes();
        change(waiting, MOST_BYTES.saturating_sub(self.bytes));
        self.bytes = self.bytes - before + waiting.bytes();
        self.order.remove(&waiting.place);
        self.next += 1;
        waiting.place = self.next;
        self.order.insert(waiting.place, key);
    }

    /// Takes back what the transport refused, perhaps because of its data.
    fn put_back(&mut self, key: Key, refused: Waiting) {
        let Waiting { place, mut elements, change } = refused;
        let change = change.map(|change| Change { data: None, ..change });
        let waiting = self.waiting.entry(key.clone()).or_insert_with(|| {
            self.order.insert(place, key);
            Waiting { place, ..Waiting::default() }
        });
        let before = waiting.bytes();
        elements.append(&mut waiting.elements);
        waiting.elements = elements;
        match (&mut waiting.change, change) {
            (Some(newer), Some(change)) => newer.from = change.from,
            (newer @ None, change) => *newer = change,
            (Some(_), None) => {}
        }
        self.bytes = self.bytes - before + waiting.bytes();
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

    /// The changes that are published next.
    fn pop(outbox: &mut Outbox) -> Vec<Change> {
        match outbox.pop() {
            Next::Nothing => Vec::new(),
            Next::Missed => panic!("changes were missed"),
            Next::Keys(keys) => keys.into_iter().filter_map(|(_, waiting)| waiting.change).collect(),
        }
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
        assert_eq!(pop(&mut outbox), [change("x", first, third, "3"), refused.clone()]);
        outbox.put_back(key("y"), Waiting { place: 2, elements: Vec::new(), change: Some(refused.clone()) });
        outbox.push(change("y", second, third, "3"));
        assert_eq!(pop(&mut outbox), [Change { data: None, to: third, ..refused }]);
        assert_eq!(pop(&mut outbox), []);
        assert!(!outbox.begin(), "nothing waits");
    }

    #[test]
    fn law_06_outbox_is_cleared_at_its_cap_and_says_so_first() {
        let (mut outbox, version) = (Outbox::default(), Version::start());
        for at in 0..3 * MOST {
            outbox.push(change(&at.to_string(), version, version.next(), "{}"));
            assert!(outbox.waiting.len() <= MOST && outbox.order.len() == outbox.waiting.len());
        }
        assert!(matches!(outbox.pop(), Next::Missed), "before any change");
        let newest = pop(&mut outbox).swap_remove(0);
        assert_eq!(newest.key, key(&(3 * MOST - 1).to_string()));
        let mut left = TOGETHER;
        while !pop(&mut outbox).is_empty() {
            left += TOGETHER;
        }
        assert_eq!((left, outbox.bytes), (MOST, 0), "the cap is a multiple of what is published together");
    }

    #[test]
    fn law_06_outbox_holds_a_bounded_number_of_bytes() {
        let (mut outbox, version) = (Outbox::default(), Version::start());
        let data: &'static str = "x".repeat(1 << 20).leak();
        for at in 0..100 {
            outbox.push(change(&(at % 50).to_string(), version, version.next(), data));
            outbox.push_elements(&key(&at.to_string()), vec![Bytes::from_static(data.as_bytes())]);
            assert!(outbox.bytes <= MOST_BYTES);
            let bytes: usize = outbox.waiting.values().map(Waiting::bytes).sum();
            assert_eq!(outbox.bytes, bytes);
        }
        assert_eq!(outbox.waiting.len(), 100, "each change waits all the same");
    }

    #[test]
    fn the_newest_change_leaves_first_and_the_oldest_does_not_wait_for_ever() {
        let (mut outbox, version) = (Outbox::default(), Version::start());
        for at in 0..10 * TOGETHER {
            outbox.push(change(&at.to_string(), version, version.next(), "{}"));
        }
        outbox.push(change("5", version.next(), version.next().next(), "{}"));
        let keys: Vec<_> = pop(&mut outbox).into_iter().map(|change| change.key).collect();
        assert_eq!(keys[0], key("5"), "it changed last");
        assert!(keys.contains(&key("0")) && !keys.contains(&key("300")));
        assert_eq!(keys.len(), TOGETHER);
    }
}
