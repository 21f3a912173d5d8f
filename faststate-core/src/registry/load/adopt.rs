//! Changes and elements received from other nodes, queued for a turn of their instance.
//!
//! The transport's reader only queues them and starts a task. Adopting a change runs application code (`Deserialize`,
//! `signals`, views), which may be slow and must not delay the changes of other keys.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    Elements, Key, ReactiveState, Version,
    broadcast::Change,
    registry::{
        Applied, Error, Outcome,
        cluster::arrivals::{Changes, Ephemeral},
        event::commit::send_ephemeral,
        instance::{Instance, queue::Command, revision::Revision, table::InstanceTable},
        load::{
            background::spawn_revalidation,
            reload::{adopt_change, reload},
        },
    },
};

/// Queues a change from another node, to be adopted in its own task.
pub(in crate::registry) fn arrive<S: ReactiveState>(table: &InstanceTable<S>, change: Change) {
    if let Some(instance) = table.loaded(&change.key)
        && instance.arrived.lock().add_change(change)
    {
        adopt_in_background(table, instance);
    }
}

/// Queues elements that an event on another node sends to all followers.
pub(in crate::registry) fn elements_arrive<S: ReactiveState>(
    table: &InstanceTable<S>,
    key: &Key,
    version: Option<Version>,
    elements: Vec<Elements>,
) {
    if let Some(instance) = table.loaded(key)
        && instance.followers() > 0
        && instance.arrived.lock().add_elements(Ephemeral { version, elements })
    {
        adopt_in_background(table, instance);
    }
}

/// Queues a turn for the arrived changes and elements, in its own task.
fn adopt_in_background<S: ReactiveState>(table: &InstanceTable<S>, instance: Arc<Instance<S>>) {
    let Ok(me) = table.me() else { return };
    table.shared.spawn(async move {
        let deadline = me.deadline();
        // Without this, the worker that runs the reader continues with this task and polls no socket until the task
        // ends. Yielding wakes another worker, which polls the sockets.
        if !me.views.is_empty() {
            tokio::task::yield_now().await;
        }
        if let Err(error) = me.take_turn(&instance, Command::Arrived, deadline).await {
            tracing::debug!(key = ?instance.key, %error, "a change of another node was not adopted");
            // So that the next change queues a turn again.
            instance.arrived.lock().begin();
            instance.freshness.lock().suspect = true;
            spawn_revalidation(&me, &instance);
        }
    });
}

/// Adopts the arrived changes, from their data or from the store, and sends the elements that belong to them.
pub(in crate::registry) async fn adopt_arrived<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    deadline: Instant,
) -> Result<Outcome, Error> {
    let changes = instance.arrived.lock().begin();
    let (version, adopted) = match changes {
        Changes::One(change) => (adopt_change(table, instance, *change, deadline).await?.version, true),
        Changes::Gap => (reload(table, instance, None, deadline).await?.0.version, true),
        Changes::Nothing => match instance.usable(Instant::now()) {
            Some(current) => (current.version, false),
            None => (reload(table, instance, None, deadline).await?.0.version, true),
        },
    };
    // These belong to a change that this node had already adopted, or to no change.
    let elements = instance.arrived.lock().due(version, adopted);
    send_ephemeral(instance, &elements);
    Ok(Outcome::quiet(Applied::Unchanged, version))
}

/// Sends an event's elements to the followers on other nodes. `current` is the state after the event.
pub(in crate::registry) fn send_elements<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    current: &Revision<S>,
    elements: &[Elements],
) {
    if let Some(nodes) = table.nodes().filter(|_| !elements.is_empty()) {
        nodes.send_elements(&instance.key, current.stored.then_some(current.version), elements);
    }
}
