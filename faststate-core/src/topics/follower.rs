//! The cursor of one connection in one topic.

use std::{
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;

use super::{log::Position, topic::Topic};
use crate::Version;

/// The cursor of one connection in one topic.
///
/// It owns no queue, so a slow follower costs no more memory than a fast one (law 6). Dropping it leaves the topic.
#[derive(Debug)]
#[must_use = "a follower leaves its topic when it is dropped"]
pub struct Follower {
    topic: Arc<Topic>,
    slot: usize,
    position: Position,
    stream: u64,
}

/// The snapshot cannot be encoded; the log has the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot cannot be encoded; the log has the reason")]
#[non_exhaustive]
pub struct SnapshotFailed;

impl Follower {
    /// Joins `topic` as a follower that has merged everything up to `cursor`, or nothing without one.
    pub(crate) fn join(topic: &Arc<Topic>, cursor: Option<Version>, stream: u64) -> Self {
        let (slot, position) = topic.enter(cursor);
        Self { topic: Arc::clone(topic), slot, position, stream }
    }

    /// Returns everything that this follower has missed, as one shared buffer; pending if it has missed nothing.
    ///
    /// With `ids`, a block that contains only an `id:` line follows the events, for streams of one topic.
    ///
    /// # Contract
    /// Frames never go back to an older version (law 5). The result of merging them is the topic's content (law 4).
    ///
    /// # Errors
    /// Fails if the snapshot cannot be encoded. The stream must then end.
    pub fn poll_frames(
        &mut self,
        cx: &mut task::Context<'_>,
        ids: bool,
    ) -> Poll<Result<Bytes, SnapshotFailed>> {
        if self.is_current() {
            // Armed before the loop checks again, so that a frame appended in between wakes this task.
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

    /// Returns whether the store failed to answer the last call for this instance, so that the content may be stale.
    ///
    /// When this changes, the tasks that wait for frames are woken.
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
        (self.topic.on_leave)(self.stream);
    }
}
