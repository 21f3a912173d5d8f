//! Fan-out within one node: logs of encoded frames, the followers' cursors and their wakers.
//!
//! The registry appends each commit to a `Topic` and then wakes the topic's followers. Each [`Follower`] reads the
//! frames after its own cursor. Imports point in one direction: `follower` → `topic` → `log`, `wakers`.
//!
//! These are concrete types, not traits, because fan-out has no second implementation.

mod follower;
mod log;
mod topic;
mod wakers;

pub use self::follower::{Follower, SnapshotFailed};
pub(crate) use self::topic::{Content, ElementsSource, Encode, Topic};
