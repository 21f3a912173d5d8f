//! The scheduler: finds the records of one store whose timers are due, or whose messages no node delivers.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{settlement::DueProgress, store_time::StoreTime};
use crate::{
    Key,
    registry::{Error, shared::Shared},
    store::{DueKeys, Store},
};

/// The interval at which a node asks the store for due records. It is shortened by a random part of up to one half.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The most due records that a node processes at once.
const CONCURRENCY: usize = 128;
/// The time for which a node leaves a record alone that it cannot process at all.
const SKIP_FOR: Duration = Duration::from_secs(60);
/// The most records that a node leaves alone at once.
const MAX_SKIPPED: usize = 10_000;

/// The scheduler of one store.
pub(in crate::registry) struct Scheduler {
    pub(in crate::registry) name: String,
    pub(in crate::registry) store: Arc<dyn Store>,
    pub(in crate::registry) time: Arc<StoreTime>,
    pub(in crate::registry) shared: Weak<Shared>,
}

/// Runs a scheduler for as long as the registry lives and does not leave.
pub(in crate::registry) async fn run_scheduler(scheduler: Scheduler) {
    let Scheduler { name, store, time, shared } = scheduler;
    let store = Arc::downgrade(&store);
    let mut work = DueWork::default();
    let mut poll_at = Instant::now();
    loop {
        tokio::select! {
            () = time.next_wake(poll_at.saturating_duration_since(Instant::now())) => {}
            Some((key, processed)) = work.running.next() => {
                work.finished(key, processed);
                if !work.is_behind() {
                    continue;
                }
            }
        }
        let (Some(store), Some(shared)) = (store.upgrade(), shared.upgrade()) else { return };
        if shared.has_left() {
            return;
        }
        let messages = &shared.messages;
        messages.releases.flush(|state| messages.table(state).map(|table| table.store())).await;
        poll_at = Instant::now() + POLL_INTERVAL.mul_f64(rand::random_range(0.5..1.0));
        match store.due(work.limit()).await {
            Ok(due) => {
                time.observe(due.now);
                work.start(due, &shared);
            }
            Err(error) => {
                work.is_more_due = false;
                tracing::debug!(
                    store = name,
                    error = &error as &dyn std::error::Error,
                    "due records were not listed"
                );
            }
        }
    }
}

type Processed = (Key, Result<bool, Error>);

/// The due records that a scheduler processes, so that a slow one does not delay the others.
#[derive(Default)]
struct DueWork {
    running: FuturesUnordered<BoxFuture<'static, Processed>>,
    busy: HashSet<Key>,
    /// The records that are left alone until a time, because this node could do nothing for them.
    skipped: HashMap<Key, Instant>,
    /// Whether the store had more due records than this node could start.
    is_more_due: bool,
}

impl DueWork {
    /// The number of due records to ask for.
    fn limit(&mut self) -> usize {
        let now = Instant::now();
        self.skipped.retain(|_, until| *until > now);
        CONCURRENCY + self.busy.len() + self.skipped.len()
    }

    /// Whether there is room for more of the due records.
    fn is_behind(&self) -> bool {
        self.is_more_due && self.running.len() <= CONCURRENCY / 2
    }

    fn start(&mut self, due: DueKeys, shared: &Arc<Shared>) {
        let DueKeys { now, keys } = due;
        let is_new = |key: &Key| !self.busy.contains(key) && !self.skipped.contains_key(key);
        let keys: Vec<Key> = keys.into_iter().filter(is_new).collect();
        let free = CONCURRENCY - self.running.len();
        self.is_more_due = keys.len() >= free;
        for key in keys.into_iter().take(free) {
            self.busy.insert(key.clone());
            let shared = Arc::clone(shared);
            self.running.push(
                async move {
                    let processed = process(&shared, &key, now).await;
                    (key, processed)
                }
                .boxed(),
            );
        }
    }

    fn finished(&mut self, key: Key, processed: Result<bool, Error>) {
        self.busy.remove(&key);
        let skip_for = match processed {
            Ok(true) => return,
            Ok(false) => POLL_INTERVAL,
            Err(error) => {
                tracing::debug!(?key, %error, "a due record was not processed");
                if error.is_temporary() { POLL_INTERVAL } else { SKIP_FOR }
            }
        };
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.insert(key, Instant::now() + skip_for);
        } else {
            self.is_more_due = false;
        }
    }
}

/// Fires the due timers of a record, and takes over its messages. Returns whether there were any.
async fn process(shared: &Arc<Shared>, key: &Key, now: SystemTime) -> Result<bool, Error> {
    let table = shared.messages.table(key.state()).ok_or(Error::Unknown)?;
    let asked = Instant::now();
    let DueProgress { fired, taken } = table.take_due(key, now).await?;
    let has_taken = !taken.is_empty();
    if has_taken {
        shared.claim_messages(key, taken, asked);
    }
    Ok(fired || has_taken)
}
