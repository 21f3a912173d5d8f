//! One connection's cursor into one topic.

use std::{
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;

use super::topic::Topic;

/// One connection's cursor into one topic. It owns no queue: a slow follower costs this and nothing
/// more (law 6). Dropping it leaves the topic.
#[derive(Debug)]
#[must_use = "a follower leaves its topic when it is dropped"]
pub struct Follower {
    topic: Arc<Topic>,
    slot: usize,
    position: Position,
    stream: u64,
}

/// Where a follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// It has merged everything before this position of the log.
    After(u64),
    /// It needs the snapshot.
    Nowhere,
}

/// The snapshot cannot be encoded; the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot cannot be encoded; the log says why")]
#[non_exhaustive]
pub struct SnapshotFailed;

impl Follower {
    pub(super) const fn new(topic: Arc<Topic>, slot: usize, position: Position, stream: u64) -> Self {
        Self { topic, slot, position, stream }
    }

    /// Everything this follower has missed, in one shared piece; pending when that is nothing.
    ///
    /// `ids` adds a block with only `id:` after the events, for a stream of one topic. Frames never go
    /// backwards (law 5), and what they merge to is the topic's content (law 4).
    ///
    /// # Errors
    /// When the snapshot cannot be encoded: the stream cannot go on.
    pub fn poll_frames(
        &mut self,
        cx: &mut task::Context<'_>,
        ids: bool,
    ) -> Poll<Result<Bytes, SnapshotFailed>> {
        if self.is_current() {
            // Armed before the second look, so that a frame in between wakes this task.
            self.topic.wakers.arm(self.slot, cx.waker());
        }
        while !self.is_current() {
            let (bytes, end) = self.topic.catch_up(self.position, ids).ok_or(SnapshotFailed)?;
            self.position = Position::After(end);
            if !bytes.is_empty() {
                return Poll::Ready(Ok(bytes));
            }
            self.topic.wakers.arm(self.slot, cx.waker());
        }
        Poll::Pending
    }

    /// Whether the store did not answer when it was asked last, so that what this shows may be stale. A
    /// change of it wakes whoever waits for frames.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.topic.is_stale()
    }

    fn is_current(&self) -> bool {
        self.position == Position::After(self.topic.end())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.topic.wakers.leave(self.slot);
        (self.topic.left)(self.stream);
    }
}
