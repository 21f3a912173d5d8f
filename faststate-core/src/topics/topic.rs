//! One topic: a log of encoded frames, and who follows it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{
    Follower,
    follower::Position,
    log::Log,
    wakers::{NextBatch, Wakers},
};
use crate::{Elements, Version, wire::Frame};

/// How many followers each of the runtime's threads has to write to before others have their turn.
const BATCH: usize = 128;

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
    shown: Shown,
    encode: Box<dyn Encode>,
    snapshot: OnceLock<Option<Frame>>,
}

/// Where the elements on the page of a view's follower come from.
#[derive(Clone)]
pub(crate) enum Shown {
    /// From a snapshot.
    Snapshot,
    /// From the newest change that sent elements. It sent only these, and they are whole.
    Whole(Arc<Elements>),
    /// From changes that sent pieces.
    Pieces,
}

/// How a topic's content is written.
pub(crate) trait Encode: Send + Sync {
    /// All of it; nothing if it cannot be written, after the log has been told why.
    fn snapshot(&self) -> Option<Frame>;

    /// What the newest frames, oldest first, come to; nothing if they must go out one after the other.
    fn merged(&self, frames: &mut dyn Iterator<Item = &Frame>) -> Option<Frame>;
}

impl Content {
    pub(crate) fn new(version: Version, shown: Shown, encode: impl Encode + 'static) -> Arc<Self> {
        Arc::new(Self { version, shown, encode: Box::new(encode), snapshot: OnceLock::new() })
    }

    pub(super) fn snapshot(&self) -> Option<Frame> {
        self.snapshot.get_or_init(|| self.encode.snapshot()).clone()
    }
}

impl Topic {
    pub(crate) fn new(
        content: Arc<Content>,
        log_bytes: usize,
        pace: Duration,
        left: impl Fn(u64) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let threads = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Arc::new(Self {
            inner: Mutex::new(Inner { log: Log::new(content.version, log_bytes), content }),
            end: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            wakers: Wakers::new(BATCH * threads, pace),
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

    /// Wakes the followers that wait: some here, the rest as others have had their turn.
    pub(crate) fn wake(self: &Arc<Self>) {
        let rest = self.wakers.wake();
        if rest == NextBatch::Nobody {
            return;
        }
        let round = Round { topic: Arc::clone(self), rest };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(round.go_on());
        }
    }

    /// Where the elements come from that the followers show.
    pub(crate) fn shown(&self) -> Shown {
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
            let Inner { log, content } = &mut *inner;
            if let Position::After(from) = position
                && let Some(bytes) = log.since(from, ids, |frames| content.encode.merged(frames))
            {
                return Some((bytes, end));
            }
            (Arc::clone(content), end)
        };
        Some((content.snapshot()?.bytes(ids), end))
    }
}

/// Somebody who wakes the rest of a topic's followers.
struct Round {
    topic: Arc<Topic>,
    rest: NextBatch,
}

impl Round {
    async fn go_on(mut self) {
        loop {
            match self.rest {
                NextBatch::Nobody => return,
                NextBatch::Soon => tokio::task::yield_now().await,
                NextBatch::At(moment) => tokio::time::sleep_until(moment).await,
            }
            self.rest = self.topic.wakers.wake_more();
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        // A runtime that shuts down, or none at all: whoever follows from elsewhere is woken nevertheless.
        if self.rest != NextBatch::Nobody {
            self.topic.wakers.wake_rest();
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("followers", &self.followers()).finish_non_exhaustive()
    }
}
