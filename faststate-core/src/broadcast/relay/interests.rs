//! The keys that a node has joined, and those that its connection is subscribed to.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::Channel;
use crate::Key;

/// The keys that a node has joined.
#[derive(Default)]
pub(super) struct Interests {
    keys: Mutex<JoinedKeys>,
    /// Notified when there is a key to subscribe or to unsubscribe.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct JoinedKeys {
    joined: HashMap<Key, Joined>,
    /// The keys that may have to be subscribed or unsubscribed; the task of the connection visits only these.
    due: HashSet<Key>,
    /// Whether every key that was joined before the connection was made is subscribed.
    up: bool,
}

#[derive(Default)]
struct Joined {
    /// The number of interests. An entry without any waits to be unsubscribed.
    count: usize,
    is_subscribed: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

/// The channels to subscribe and to unsubscribe.
#[derive(Debug, Default)]
pub(super) struct SubscriptionChanges {
    pub(super) subscribe: Vec<Channel>,
    pub(super) unsubscribe: Vec<Channel>,
}

impl Interests {
    /// Adds an interest. Returns a receiver to await until the key is subscribed, or `None` if there is no need to
    /// wait: the key is subscribed, or there is no connection and its return is reported as a loss.
    pub(super) fn join(&self, key: &Key) -> Option<oneshot::Receiver<()>> {
        let mut keys = self.keys.lock();
        let up = keys.up;
        let joined = keys.joined.entry(key.clone()).or_default();
        joined.count += 1;
        if joined.is_subscribed || !up {
            return None;
        }
        let (opened, wait) = oneshot::channel();
        joined.waiting.push(opened);
        keys.due.insert(key.clone());
        drop(keys);
        self.changed.notify_one();
        Some(wait)
    }

    /// Removes an interest.
    pub(super) fn leave(&self, key: &Key) {
        let mut keys = self.keys.lock();
        let Some(joined) = keys.joined.get_mut(key) else { return };
        joined.count -= 1;
        if joined.count > 0 {
            return;
        }
        if joined.is_subscribed {
            keys.due.insert(key.clone());
            drop(keys);
            self.changed.notify_one();
        } else {
            keys.joined.remove(key);
        }
    }

    /// Takes the channels to subscribe and to unsubscribe, in time proportional to their number.
    ///
    /// A channel to unsubscribe counts as unsubscribed at once, so that a join in the meantime subscribes it again.
    pub(super) fn due(&self) -> SubscriptionChanges {
        let mut keys = self.keys.lock();
        let mut due = SubscriptionChanges::default();
        for key in mem::take(&mut keys.due) {
            let Some(joined) = keys.joined.get(&key) else { continue };
            match (joined.count, joined.is_subscribed) {
                (0, is_subscribed) => {
                    keys.joined.remove(&key);
                    if is_subscribed {
                        due.unsubscribe.push(Channel::Key(key));
                    }
                }
                (_, false) => due.subscribe.push(Channel::Key(key)),
                (_, true) => {}
            }
        }
        due
    }

    /// Returns the channels that a new connection has yet to subscribe. If there are none, it is up.
    pub(super) fn missing(&self) -> Vec<Channel> {
        let mut keys = self.keys.lock();
        let unsubscribed = keys.joined.iter().filter(|(_, joined)| !joined.is_subscribed && joined.count > 0);
        let missing: Vec<_> = unsubscribed.map(|(key, _)| Channel::Key(key.clone())).collect();
        keys.up = missing.is_empty();
        missing
    }

    /// Records that these channels are subscribed.
    pub(super) fn subscribed(&self, channels: &[Channel]) {
        let mut keys = self.keys.lock();
        let mut left = false;
        for channel in channels {
            let Channel::Key(key) = channel else { continue };
            // The last interest may have been dropped, which removed the entry.
            let joined = keys.joined.entry(key.clone()).or_default();
            joined.is_subscribed = true;
            joined.waiting.drain(..).for_each(|waiting| _ = waiting.send(()));
            if joined.count == 0 {
                keys.due.insert(key.clone());
                left = true;
            }
        }
        drop(keys);
        if left {
            self.changed.notify_one();
        }
    }

    /// Records that the connection has ended.
    pub(super) fn down(&self) {
        let mut keys = self.keys.lock();
        keys.up = false;
        // A new connection subscribes to every joined key.
        keys.due.clear();
        keys.joined.retain(|_, joined| {
            joined.is_subscribed = false;
            joined.waiting.clear();
            joined.count > 0
        });
    }

    pub(super) fn is_up(&self) -> bool {
        self.keys.lock().up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;

    fn key(id: usize) -> Key {
        Key::new("a", Scope::Record, None, Some(&id.to_string())).unwrap()
    }

    fn names(channels: &[Channel]) -> Vec<String> {
        let mut names: Vec<_> = channels.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn law_06_connection_visits_only_the_keys_that_are_due() {
        let interests = Interests::default();
        for id in 0..10_000 {
            assert!(interests.join(&key(id)).is_none(), "there is no connection yet");
        }
        while let missing = interests.missing()
            && !missing.is_empty()
        {
            interests.subscribed(&missing);
        }
        assert!(interests.is_up() && interests.keys.lock().due.is_empty());
        let _opened = interests.join(&key(10_000)).unwrap();
        assert!(interests.join(&key(7)).is_none(), "it is subscribed");
        interests.leave(&key(8));
        assert_eq!(interests.keys.lock().due.len(), 2, "of 10,001");
        let due = interests.due();
        assert_eq!(
            (names(&due.subscribe), names(&due.unsubscribe)),
            (names(&[Channel::Key(key(10_000))]), names(&[Channel::Key(key(8))]))
        );
        let nothing = interests.due();
        assert!(nothing.subscribe.is_empty() && nothing.unsubscribe.is_empty());
    }

    #[test]
    fn key_that_is_left_and_joined_again_is_subscribed_again() {
        let interests = Interests::default();
        assert!(interests.missing().is_empty());
        let (one, channels) = (key(1), [Channel::Key(key(1))]);
        // Left before it is subscribed, and after.
        let mut opened = interests.join(&one).unwrap();
        assert_eq!(interests.due().subscribe, channels);
        interests.leave(&one);
        interests.subscribed(&channels);
        assert!(opened.try_recv().is_err());
        assert_eq!(interests.due().unsubscribe, channels);
        let mut opened = interests.join(&one).unwrap();
        assert_eq!(interests.due().subscribe, channels);
        interests.subscribed(&channels);
        assert_eq!(opened.try_recv(), Ok(()));
        interests.leave(&one);
        assert!(interests.join(&one).is_none(), "it is still subscribed");
        let due = interests.due();
        assert!(due.subscribe.is_empty() && due.unsubscribe.is_empty());
        // A connection that ends drops what was due.
        interests.leave(&one);
        interests.down();
        assert!(interests.due().unsubscribe.is_empty() && interests.keys.lock().joined.is_empty());
    }
}
