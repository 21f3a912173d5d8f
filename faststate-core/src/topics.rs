//! Fan-out inside one node: logs of encoded frames, cursors and wakers.
//!
//! Concrete, not a trait: this is the engine.

mod follower;
mod log;
mod topic;
mod wakers;

pub use self::follower::{Follower, SnapshotFailed};
pub(crate) use self::topic::{Content, Encode, Shown, Topic};
