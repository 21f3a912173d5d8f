//! The current state for reads, pages and streams.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    Key, ReactiveState,
    registry::{
        Error,
        instance::{Instance, queue::Command, revision::Revision, table::InstanceTable},
        load::background::mark_stale,
    },
    store::StoreError,
};

/// The current state of an instance on this node.
pub(in crate::registry) struct Present<S> {
    pub(in crate::registry) instance: Arc<Instance<S>>,
    pub(in crate::registry) current: Arc<Revision<S>>,
    /// Whether the store did not respond, so that it may hold a newer version.
    pub(in crate::registry) stale: bool,
}

/// Returns the current state, which is loaded or confirmed first if necessary. If the store does not respond, returns the
/// state in memory.
pub(in crate::registry) async fn read_current<S: ReactiveState>(
    table: &InstanceTable<S>,
    key: &Key,
    deadline: Instant,
) -> Result<Present<S>, Error> {
    let instance = table.instance(key)?;
    let alone = table.nodes().is_none() || instance.topics.lock().interest.is_some();
    if table.is_resting() {
        mark_stale(table, &instance);
    }
    if let Some(current) = instance.usable(Instant::now()).filter(|_| alone) {
        return Ok(Present { instance, current, stale: false });
    }
    // A page that can show the state in memory waits for a part of the deadline, and for less while the store is down.
    let patience = match (instance.remembered(), instance.is_stale()) {
        (None, _) => table.shared.deadline,
        (Some(_), false) => table.shared.deadline / 2,
        (Some(_), true) => table.shared.deadline / 8,
    };
    let patience = deadline.min(Instant::now() + patience);
    match reload_latest(table, Arc::clone(&instance), patience).await {
        Ok((instance, current)) => Ok(Present { instance, current, stale: false }),
        Err(error) => {
            let unanswered = matches!(
                error,
                Error::Unavailable(StoreError::Unavailable(_)) | Error::TimedOut | Error::OutcomeUnknown
            );
            let Some(current) = instance.remembered().filter(|_| unanswered) else {
                table.forget(instance);
                return Err(error);
            };
            mark_stale(table, &instance);
            Ok(Present { instance, current, stale: true })
        }
    }
}

/// Returns the state that the store holds now.
async fn reload_latest<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: Arc<Instance<S>>,
    deadline: Instant,
) -> Result<(Arc<Instance<S>>, Arc<Revision<S>>), Error> {
    reload_with(table, instance, Command::refresh(), deadline).await
}

/// Returns the current state after a command that loads it.
pub(in crate::registry) async fn reload_with<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: Arc<Instance<S>>,
    look: Command<S>,
    deadline: Instant,
) -> Result<(Arc<Instance<S>>, Arc<Revision<S>>), Error> {
    let outcome = table.me()?.take_turn(&instance, look, deadline).await;
    let current = instance.current.read().clone();
    match (outcome, current) {
        (Ok(_), Some(current)) => Ok((instance, current)),
        (Err(error), _) => {
            table.forget(instance);
            Err(error)
        }
        (Ok(_), None) => Err(Error::Unknown),
    }
}
