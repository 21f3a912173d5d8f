//! Which keys a node has joined, and which of them its line has heard of.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::Channel;
use crate::Key;

/// Which keys a node has joined.
#[derive(Default)]
pub(super) struct Interests {
    inner: Mutex<Inner>,
    /// There is something to open or to close.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct Inner {
    joined: HashMap<Key, Joined>,
    /// Those of the keys that may have to be opened or closed: a line that is up looks at no others.
    due: HashSet<Key>,
    /// Whether every key is open that was joined before the line came up.
    up: bool,
}

#[derive(Default)]
struct Joined {
    /// How many interests there are; an entry without any waits to be closed.
    count: usize,
    open: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

/// What a line has to do.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) open: Vec<Channel>,
    pub(super) close: Vec<Channel>,
}

impl Interests {
    /// One more interest; what to wait for until the key is open. While there is no line nobody waits: its
    /// return is announced as a loss.
    pub(super) fn join(&self, key: &Key) -> Option<oneshot::Receiver<()>> {
        let mut inner = self.inner.lock();
        let up = inner.up;
        let joined = inner.joined.entry(key.clone()).or_default();
        joined.count += 1;
        if joined.open || !up {
            return None;
        }
        let (opened, wait) = oneshot::channel();
        joined.waiting.push(opened);
        inner.due.insert(key.clone());
        drop(inner);
        self.changed.notify_one();
        Some(wait)
    }

    /// One interest less.
    pub(super) fn leave(&self, key: &Key) {
        let mut inner = self.inner.lock();
        let Some(joined) = inner.joined.get_mut(key) else { return };
        joined.count -= 1;
        if joined.count > 0 {
            return;
        }
        if joined.open {
            inner.due.insert(key.clone());
            drop(inner);
            self.changed.notify_one();
        } else {
            inner.joined.remove(key);
        }
    }

    /// What a line that is up has to open and to close, in time that depends on nothing else. What is to be closed
    /// counts as closed already, so that whoever joins it again meanwhile has it opened again.
    pub(super) fn due(&self) -> Due {
        let mut inner = self.inner.lock();
        let mut due = Due::default();
        for key in mem::take(&mut inner.due) {
            let Some(joined) = inner.joined.get(&key) else { continue };
            match (joined.count, joined.open) {
                (0, open) => {
                    inner.joined.remove(&key);
                    if open {
                        due.close.push(Channel::Key(key));
                    }
                }
                (_, false) => due.open.push(Channel::Key(key)),
                (_, true) => {}
            }
        }
        due
    }

    /// What a new line has still to open; with nothing left it is up.
    pub(super) fn missing(&self) -> Vec<Channel> {
        let mut inner = self.inner.lock();
        let closed = inner.joined.iter().filter(|(_, joined)| !joined.open && joined.count > 0);
        let missing: Vec<_> = closed.map(|(key, _)| Channel::Key(key.clone())).collect();
        inner.up = missing.is_empty();
        missing
    }

    /// These are open.
    pub(super) fn opened(&self, channels: &[Channel]) {
        let mut inner = self.inner.lock();
        let mut left = false;
        for channel in channels {
            let Channel::Key(key) = channel else { continue };
            // Somebody may have left, and taken the entry along.
            let joined = inner.joined.entry(key.clone()).or_default();
            joined.open = true;
            joined.waiting.drain(..).for_each(|waiting| _ = waiting.send(()));
            if joined.count == 0 {
                inner.due.insert(key.clone());
                left = true;
            }
        }
        drop(inner);
        if left {
            self.changed.notify_one();
        }
    }

    /// The line is gone.
    pub(super) fn down(&self) {
        let mut inner = self.inner.lock();
        inner.up = false;
        // A new line begins with all that is joined.
        inner.due.clear();
        inner.joined.retain(|_, joined| {
            joined.open = false;
            joined.waiting.clear();
            joined.count > 0
        });
    }

    pub(super) fn is_up(&self) -> bool {
        self.inner.lock().up
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
    fn law_06_line_looks_at_no_more_keys_than_are_due() {
        let interests = Interests::default();
        for id in 0..10_000 {
            assert!(interests.join(&key(id)).is_none(), "there is no line yet");
        }
        while let missing = interests.missing()
            && !missing.is_empty()
        {
            interests.opened(&missing);
        }
        assert!(interests.is_up() && interests.inner.lock().due.is_empty());
        let _opened = interests.join(&key(10_000)).unwrap();
        assert!(interests.join(&key(7)).is_none(), "it is open");
        interests.leave(&key(8));
        assert_eq!(interests.inner.lock().due.len(), 2, "of 10,001");
        let due = interests.due();
        assert_eq!(
            (names(&due.open), names(&due.close)),
            (names(&[Channel::Key(key(10_000))]), names(&[Channel::Key(key(8))]))
        );
        let nothing = interests.due();
        assert!(nothing.open.is_empty() && nothing.close.is_empty());
    }

    #[test]
    fn key_that_is_left_and_joined_again_is_opened_again() {
        let interests = Interests::default();
        assert!(interests.missing().is_empty());
        let (one, channels) = (key(1), [Channel::Key(key(1))]);
        // Left before it is open, and after.
        let mut opened = interests.join(&one).unwrap();
        assert_eq!(interests.due().open, channels);
        interests.leave(&one);
        interests.opened(&channels);
        assert!(opened.try_recv().is_err());
        assert_eq!(interests.due().close, channels);
        let mut opened = interests.join(&one).unwrap();
        assert_eq!(interests.due().open, channels);
        interests.opened(&channels);
        assert_eq!(opened.try_recv(), Ok(()));
        interests.leave(&one);
        assert!(interests.join(&one).is_none(), "it is open still");
        let due = interests.due();
        assert!(due.open.is_empty() && due.close.is_empty());
        // A line that breaks forgets what was due.
        interests.leave(&one);
        interests.down();
        assert!(interests.due().close.is_empty() && interests.inner.lock().joined.is_empty());
    }
}
