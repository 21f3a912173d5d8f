//! Where the store does not answer: what is in memory is marked, and looked up again once it does.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{Error, instance::Instance, states::States, turn::Work};
use crate::ReactiveState;

/// How long to wait before looking again for what a dead store has.
const AGAIN: Duration = Duration::from_millis(500);

impl<S: ReactiveState> States<S> {
    /// Whether the store is not asked at the moment.
    pub(super) fn is_resting(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.is_resting())
    }

    /// The store did not answer: what is in memory may be stale, and must be confirmed.
    pub(super) fn unanswered(&self, instance: &Arc<Instance<S>>) {
        instance.upkeep.lock().suspect = true;
        instance.mark(true);
        if let Ok(me) = self.me() {
            me.clear_up(instance);
        }
    }

    /// Looks again and again until a suspect instance is confirmed, if somebody follows it or other nodes
    /// must be told of it; whoever else uses it looks himself.
    pub(super) fn clear_up(self: &Arc<Self>, instance: &Arc<Instance<S>>) {
        let concerns = move |me: &Self, instance: &Instance<S>| {
            let untold = me.nodes().is_some() && instance.upkeep.lock().untold;
            untold || instance.followers() > 0
        };
        {
            let concerned = concerns(self, instance);
            let mut upkeep = instance.upkeep.lock();
            if !upkeep.suspect || !concerned || std::mem::replace(&mut upkeep.looking, true) {
                return;
            }
        }
        let (me, instance) = (Weak::clone(&self.me), Arc::clone(instance));
        // Not among the tasks that `settle` waits for: it may take as long as the store is dead.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                let Some(me) = me.upgrade() else { return };
                if me.guard.as_ref().is_some_and(|guard| guard.refuses_loads()) {
                    continue;
                }
                let gone = instance.upkeep.lock().suspect
                    && concerns(&me, &instance)
                    && matches!(
                        me.take_turn(&instance, Work::refresh(), me.deadline()).await,
                        Err(Error::Unknown)
                    );
                let concerned = concerns(&me, &instance);
                let mut upkeep = instance.upkeep.lock();
                if gone || !upkeep.suspect || !concerned {
                    upkeep.looking = false;
                    return;
                }
            }
        });
    }
}
