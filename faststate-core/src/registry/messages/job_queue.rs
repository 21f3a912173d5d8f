//! The state whose records hold the jobs that application code requests outside of an event.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Access, ReactiveState, StateConfig};

/// The lifetime of a record after its job is finished.
const TTL: Duration = Duration::from_secs(60);

/// One requested job. The job itself is in the outbox of the record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::registry) struct JobQueue {}

impl ReactiveState for JobQueue {
    const NAME: &'static str = "faststate_jobs";
}

/// Returns the configuration of the state: nothing outside the engine can access it.
pub(in crate::registry) fn job_queue_config() -> StateConfig {
    StateConfig::record().access(Access::when(|_, _| false)).persist().ttl(TTL).sends_messages()
}
