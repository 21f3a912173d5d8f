//! Messages, timers and jobs: work that an accepted event requests, and that is done whatever crashes (law 16).
//!
//! An instance's outbox is saved with its record. A driver on one node delivers the outbox of one instance, and the
//! scheduler finds the outboxes that no node delivers.

pub(super) mod announce;
pub(super) mod answer;
pub(super) mod driver;
pub(crate) mod gate;
pub(super) mod job_queue;
pub(super) mod jobs;
pub(crate) mod operator;
pub(crate) mod outbox;
pub(super) mod releases;
pub(super) mod scheduler;
pub(super) mod settle;
pub(super) mod settlement;
pub(super) mod store_time;
pub(super) mod targets;
pub(super) mod turns;
