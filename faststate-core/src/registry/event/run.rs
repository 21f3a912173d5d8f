//! Running an instance's queue: one command at a time, in order of arrival.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use futures::FutureExt as _;

use crate::{
    ReactiveState,
    registry::{
        Error,
        event::save::execute,
        instance::{Instance, queue::Turn, table::InstanceTable},
        load::background::spawn_revalidation,
        panics::panic_text,
    },
};

/// Runs an instance's queue, in the caller until it first waits.
pub(in crate::registry) fn start<S: ReactiveState>(table: Arc<InstanceTable<S>>, instance: Arc<Instance<S>>) {
    let shared = Arc::clone(&table.shared);
    shared.detach(run_queue(table, instance));
}

/// Runs turns until none is left, and publishes their changes to the other nodes.
async fn run_queue<S: ReactiveState>(table: Arc<InstanceTable<S>>, instance: Arc<Instance<S>>) {
    // Whatever ends this, a runtime that shuts down included, the next event finds the queue open.
    let mut running = Running { instance: &instance, ended: false };
    let (mut taken, mut failed) = (0_u64, false);
    let publishing = loop {
        let turn = {
            let mut queue = instance.queue.lock();
            let Some(turn) = queue.pop() else {
                running.ended = true;
                break table.shared.publishing();
            };
            turn
        };
        // The next turn does not wait for it.
        if let Some(publishing) = table.shared.publishing() {
            table.shared.detach(publishing);
        }
        match taken {
            0 => {}
            // The first turn runs inside its caller; what came meanwhile is not that caller's.
            1 => tokio::task::yield_now().await,
            _ => tokio::task::coop::consume_budget().await,
        }
        taken += 1;
        let Turn { work, deadline, claimed, reply } = turn;
        let work = async {
            if claimed.swap(true, Ordering::AcqRel) {
                // The caller has given up. Dropping the command runs application code, which may panic.
                drop(work);
                return Err(Error::TimedOut);
            }
            execute(&table, &instance, work, deadline).await
        };
        let answer = AssertUnwindSafe(work)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(Error::internal("the engine panicked", &panic_text(&*panic))));
        failed = answer.is_err();
        // Sending fails if the caller is gone.
        let _ = reply.send(answer);
        spawn_revalidation(&table, &instance);
    };
    drop(running);
    if failed {
        table.forget(instance);
    }
    // In this very task: another one would have to be woken first.
    if let Some(publishing) = publishing {
        publishing.await;
    }
}

/// Marks an instance's queue as running until it is dropped.
struct Running<'a, S> {
    instance: &'a Instance<S>,
    ended: bool,
}

impl<S> Drop for Running<'_, S> {
    fn drop(&mut self) {
        if !self.ended {
            self.instance.queue.lock().abandon();
        }
    }
}
