//! One topic: a log of encoded frames, and who follows it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Follower, follower::Position, log::Log, wakers::Wakers};
use crate::{Elements, Version, wire::Frame};

/// What can be followed: a key's signals or one of its views.
pub(crate) struct Topic {
    inner: Mutex<Inner>,
    /// The log's end, readable without the lock.
    end: AtomicU64,
    stale: AtomicBool,
    pub(super) wakers: Wakers,
    /// What happens when a follower leaves: the instance takes a topic without followers away.
    pub(super) left: Box<dyn Fn(u64) + Send + Sync>,
}

struct Inner {
    log: Log,
    content: Arc<Content>,
}

/// A topic's whole content at one version, encoded once, when somebody needs it.
pub(crate) struct Content {
    version: Version,
    /// The elements that show all of it, if the newest change sent just those.
    shown: Option<Arc<Elements>>,
    encode: Box<dyn Fn() -> Option<Frame> + Send + Sync>,
    snapshot: OnceLock<Option<Frame>>,
}

impl Content {
    /// `encode` gives nothing if it cannot: it has logged why.
    pub(crate) fn new(
        version: Version,
        shown: Option<Arc<Elements>>,
        encode: impl Fn() -> Option<Frame> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { version, shown, encode: Box::new(encode), snapshot: OnceLock::new() })
    }

    pub(super) fn snapshot(&self) -> Option<Frame> {
        self.snapshot.get_or_init(|| (self.encode)()).clone()
    }
}

impl Topic {
    pub(crate) fn new(
        content: Arc<Content>,
        log_bytes: usize,
        left: impl Fn(u64) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner { log: Log::new(content.version, log_bytes), content }),
            end: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            wakers: Wakers::default(),
            left: Box::new(left),
        })
    }

    /// One step: its frame, and the content after it. Call [`wake`](Self::wake) then.
    pub(crate) fn append(&self, frame: Frame, content: Arc<Content>) {
        let mut inner = self.inner.lock();
        inner.log.push(content.version, frame);
        inner.content = content;
        self.end.store(inner.log.end(), Ordering::Release);
    }

    /// A step without a frame: every follower gets the snapshot.
    pub(crate) fn reset(&self, content: Arc<Content>) {
        let mut inner = self.inner.lock();
        inner.log.reset(content.version);
        inner.content = content;
        self.end.store(inner.log.end(), Ordering::Release);
    }

    /// A frame that is no step: for those who follow right now.
    pub(crate) fn ephemeral(&self, frame: Frame) {
        let mut inner = self.inner.lock();
        let version = inner.content.version;
        inner.log.push(version, frame);
        self.end.store(inner.log.end(), Ordering::Release);
    }

    /// Says whether the content may be stale. Call [`wake`](Self::wake) then.
    pub(crate) fn mark(&self, stale: bool) {
        self.stale.store(stale, Ordering::Release);
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Wakes the followers that wait.
    pub(crate) fn wake(&self) {
        self.wakers.wake();
    }

    /// The elements that show the topic's whole content, if the newest change sent just those.
    pub(crate) fn shown(&self) -> Option<Arc<Elements>> {
        self.inner.lock().content.shown.clone()
    }

    /// A follower that has merged everything up to `cursor`.
    pub(crate) fn join(self: &Arc<Self>, cursor: Option<Version>, stream: u64) -> Follower {
        let inner = self.inner.lock();
        let position = match cursor {
            Some(cursor) if cursor == inner.content.version => Position::After(inner.log.end()),
            Some(cursor) => inner.log.position(cursor).map_or(Position::Nowhere, Position::After),
            None => Position::Nowhere,
        };
        Follower::new(Arc::clone(self), self.wakers.enter(), position, stream)
    }

    pub(crate) fn followers(&self) -> usize {
        self.wakers.len()
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// What brings a follower from `position` to the end, and where that is.
    pub(super) fn catch_up(&self, position: Position, ids: bool) -> Option<(bytes::Bytes, u64)> {
        let (content, end) = {
            let mut inner = self.inner.lock();
            let end = inner.log.end();
            if let Position::After(from) = position
                && let Some(bytes) = inner.log.since(from, ids)
            {
                return Some((bytes, end));
            }
            (Arc::clone(&inner.content), end)
        };
        let frame = content.snapshot()?;
        Some((if ids { frame.with_id() } else { frame.plain() }, end))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("followers", &self.followers()).finish_non_exhaustive()
    }
}
