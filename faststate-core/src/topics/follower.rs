//! The subscription of one stream to one topic.

use std::{
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;

use super::{log::Position, topic::Topic};
use crate::Version;

/// The subscription of one stream to one topic: a cursor in the topic's log, and the slot of a waker.
///
/// It owns no queue, so a slow follower costs no more memory than a fast one (law 6). Dropping it leaves the topic.
#[derive(Debug)]
#[must_use = "a follower leaves its topic when it is dropped"]
pub struct Follower {
    topic: Arc<Topic>,
    /// The follower's slot in the topic's wakers.
    slot: usize,
    /// The end of the frames that this follower has merged.
    position: Position,
    /// The id of the stream, which is passed to the topic's `on_leave`.
    stream: u64,
}

/// The snapshot of a topic cannot be encoded. The reason is in the node's log output, not in the topic's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot cannot be encoded; the log has the reason")]
#[non_exhaustive]
pub struct SnapshotFailed;

impl Follower {
    /// Joins `topic` as a follower that has merged everything up to `cursor`, or nothing if there is no
    /// cursor.
    pub(crate) fn join(topic: &Arc<Topic>, cursor: Option<Version>, stream: u64) -> Self {
        let (slot, position) = topic.enter(cursor);
        Self { topic: Arc::clone(topic), slot, position, stream }
    }

    /// Returns everything that this follower has missed, in one buffer that followers share. Is pending if
    /// the follower has missed nothing.
    ///
    /// If `ids` is true, the buffer ends with a block that contains only an `id:` line with the new cursor.
    /// This is for streams of one topic.
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
            // Arm before the loop checks again, so that a frame that is appended in between wakes this task.
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

    /// Returns whether the content may be stale, because the store did not answer the last call for this
    /// instance.
    ///
    /// When the result changes, the tasks that wait for frames are woken.
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
