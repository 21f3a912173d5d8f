//! One topic: a log of encoded frames, the current content and the followers' wakers.

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
    log::{FrameLog, Position},
    wakers::{NextBatch, Wakers},
};
use crate::{Elements, Version, wire::Frame};

/// The number of followers to wake per worker thread of the runtime before other tasks run.
const WAKES_PER_THREAD: usize = 128;

/// The signals of one key, or one of its views: the unit that a client can follow.
///
/// # Locking
/// - `history` keeps the log and the content consistent with each other. It is held while frames are concatenated and
///   merged, but not while a snapshot is encoded.
/// - The lock inside `wakers` protects the followers' slots. It may be taken while `history` is held, as
///   [`enter`](Self::enter) does; `history` is never taken under it.
///
/// Wakers run and `on_leave` is called outside both locks. No lock is held across an await.
pub(crate) struct Topic {
    history: Mutex<History>,
    /// The end of the log, readable without the lock.
    ///
    /// Stored with `Release` before the followers are woken, and loaded with `Acquire`. A follower first arms its
    /// waker and then loads this again, and both sides use the lock of `wakers`: either the follower sees the new end,
    /// or the wake-up finds it armed.
    end: AtomicU64,
    /// Ordered like `end`: stored before the wake-up that makes followers read it.
    stale: AtomicBool,
    pub(super) wakers: Wakers,
    /// Called with the stream's number when a follower leaves, so that the instance removes a topic without followers.
    pub(super) on_leave: Box<dyn Fn(u64) + Send + Sync>,
}

struct History {
    log: FrameLog,
    content: Arc<Content>,
}

/// The whole content of a topic at one version. The snapshot is encoded once, when the first follower needs it.
pub(crate) struct Content {
    version: Version,
    elements: ElementsSource,
    encode: Box<dyn Encode>,
    snapshot: OnceLock<Option<Frame>>,
}

/// The source of the elements that the followers of a view show.
#[derive(Clone)]
pub(crate) enum ElementsSource {
    /// A snapshot.
    Snapshot,
    /// The newest change that sent elements. It sent only these, and they replace the whole fragment.
    Whole(Arc<Elements>),
    /// Several changes, each of which sent a part.
    Pieces,
}

/// Encodes the content of a topic.
pub(crate) trait Encode: Send + Sync {
    /// Encodes the whole content. Logs the reason and returns `None` if it cannot be encoded.
    fn snapshot(&self) -> Option<Frame>;

    /// Combines the newest frames, oldest first, into one. Returns `None` if they must be sent one after the other.
    fn merged(&self, frames: &mut dyn Iterator<Item = &Frame>) -> Option<Frame>;
}

impl Content {
    pub(crate) fn new(
        version: Version,
        elements: ElementsSource,
        encode: impl Encode + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { version, elements, encode: Box::new(encode), snapshot: OnceLock::new() })
    }

    pub(super) fn snapshot(&self) -> Option<Frame> {
        self.snapshot.get_or_init(|| self.encode.snapshot()).clone()
    }
}

impl Topic {
    pub(crate) fn new(
        content: Arc<Content>,
        log_bytes: usize,
        min_interval: Duration,
        on_leave: impl Fn(u64) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let threads = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Arc::new(Self {
            history: Mutex::new(History { log: FrameLog::new(content.version, log_bytes), content }),
            end: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            wakers: Wakers::new(WAKES_PER_THREAD * threads, min_interval),
            on_leave: Box::new(on_leave),
        })
    }

    /// Appends one change: its frame, and the content after it. The caller must then call [`wake`](Self::wake).
    pub(crate) fn append(&self, frame: Frame, content: Arc<Content>) {
        let mut history = self.history.lock();
        history.log.push(content.version, frame);
        history.content = content;
        self.end.store(history.log.end(), Ordering::Release);
    }

    /// Applies a change without a frame: every follower gets the snapshot.
    pub(crate) fn reset(&self, content: Arc<Content>) {
        let mut history = self.history.lock();
        history.log.reset(content.version);
        history.content = content;
        self.end.store(history.log.end(), Ordering::Release);
    }

    /// Appends a frame that belongs to no change, for the present followers only.
    pub(crate) fn ephemeral(&self, frame: Frame) {
        let mut history = self.history.lock();
        let version = history.content.version;
        history.log.push(version, frame);
        self.end.store(history.log.end(), Ordering::Release);
    }

    /// Sets whether the content may be stale. The caller must then call [`wake`](Self::wake).
    pub(crate) fn mark(&self, stale: bool) {
        self.stale.store(stale, Ordering::Release);
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Wakes the armed followers: the first batch in this call, the rest in a task that yields between batches.
    pub(crate) fn wake(self: &Arc<Self>) {
        let next = self.wakers.wake();
        if next == NextBatch::Done {
            return;
        }
        let driver = WakeDriver { topic: Arc::clone(self), next };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(driver.run());
        }
    }

    /// Returns the source of the elements that the followers show.
    pub(crate) fn elements_source(&self) -> ElementsSource {
        self.history.lock().content.elements.clone()
    }

    /// Adds a follower that has merged everything up to `cursor`; returns its slot and position.
    pub(super) fn enter(&self, cursor: Option<Version>) -> (usize, Position) {
        let history = self.history.lock();
        let position = match cursor {
            Some(cursor) if cursor == history.content.version => Position::After(history.log.end()),
            Some(cursor) => history.log.position(cursor).map_or(Position::Nowhere, Position::After),
            None => Position::Nowhere,
        };
        (self.wakers.enter(), position)
    }

    pub(crate) fn followers(&self) -> usize {
        self.wakers.len()
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Returns the bytes that bring a follower from `position` to the end of the log, and that end.
    ///
    /// Returns `None` if it needs the snapshot and that cannot be encoded.
    pub(super) fn catch_up(&self, position: Position, ids: bool) -> Option<(bytes::Bytes, u64)> {
        let (content, end) = {
            let mut history = self.history.lock();
            let end = history.log.end();
            let History { log, content } = &mut *history;
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

/// The task that wakes the remaining followers of a topic in batches.
struct WakeDriver {
    topic: Arc<Topic>,
    next: NextBatch,
}

impl WakeDriver {
    async fn run(mut self) {
        loop {
            match self.next {
                NextBatch::Done => return,
                NextBatch::Yield => tokio::task::yield_now().await,
                NextBatch::At(moment) => tokio::time::sleep_until(moment).await,
            }
            self.next = self.topic.wakers.wake_next_batch();
        }
    }
}

impl Drop for WakeDriver {
    fn drop(&mut self) {
        // There is no runtime, or it shuts down. Followers that run on another runtime must still be woken.
        if self.next != NextBatch::Done {
            self.topic.wakers.wake_remaining();
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("followers", &self.followers()).finish_non_exhaustive()
    }
}
