//! The instances of one state that wait to be reloaded.

use std::{collections::VecDeque, sync::Arc};

use crate::registry::instance::Instance;

/// The instances of one state that are queued for a reload, each at most once.
pub(in crate::registry) struct Reloads<S> {
    pub(in crate::registry) waiting: VecDeque<Arc<Instance<S>>>,
    /// Whether a task is processing the queue.
    pub(in crate::registry) running: bool,
}

impl<S> Default for Reloads<S> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: false }
    }
}
