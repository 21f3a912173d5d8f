//! Which keys a node has joined, and which of them its line has heard of.

use std::collections::HashMap;

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
            drop(inner);
            self.changed.notify_one();
        } else {
            inner.joined.remove(key);
        }
    }

    /// What a line that is up has to open and to close. What is to be closed counts as closed already, so
    /// that whoever joins it again meanwhile has it opened again.
    pub(super) fn due(&self) -> Due {
        let mut inner = self.inner.lock();
        let mut due = Due::default();
        inner.joined.retain(|key, joined| {
            match (joined.count, joined.open) {
                (0, true) => due.close.push(Channel::Key(key.clone())),
                (0, false) => {}
                (_, true) => {}
                (_, false) => due.open.push(Channel::Key(key.clone())),
            }
            joined.count > 0
        });
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
            left |= joined.count == 0;
            joined.waiting.drain(..).for_each(|waiting| _ = waiting.send(()));
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
