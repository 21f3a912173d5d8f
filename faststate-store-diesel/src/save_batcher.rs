//! Saves that are queued while others are in progress share one transaction.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use faststate_core::{
    Key,
    store::{BatchedCall, CallQueue, Precondition, QueueLimits, Receipt, Record, SaveOutcome},
};
use tokio::time::{Instant, timeout_at};

use crate::{builder::StoreSettings, error::BackendError};

/// Maximum number of saves in one transaction.
const MAX_BATCH_SAVES: usize = 256;
/// Approximate maximum of data in one transaction, in bytes; a single larger save is sent alone.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// A save that waits for a connection.
#[derive(Debug)]
pub(crate) struct QueuedSave {
    pub(crate) key: Key,
    pub(crate) record: Record,
    pub(crate) expect: Precondition,
    pub(crate) receipt: Option<Receipt>,
    /// When the caller gives up.
    deadline: Instant,
}

type SaveResult = Result<SaveOutcome, BackendError>;

/// Saves records on a server. A dropped call has saved everything or nothing.
#[async_trait]
pub(crate) trait Saver: Send + Sync + 'static {
    /// Saves one record by itself.
    async fn save_one(&self, save: &QueuedSave) -> Result<SaveOutcome, BackendError>;

    /// Saves all records in one transaction. Each save sees the results of those before it. After an error, the outcome
    /// of all of them is unknown.
    async fn save_batch(&self, saves: &[&QueuedSave]) -> Result<BatchOutcome, BackendError>;
}

/// The outcome of a batch.
pub(crate) enum BatchOutcome {
    /// The transaction is committed; the outcome of each save, in order.
    Committed(Vec<SaveOutcome>),
    /// The transaction was rolled back because of one save. Each save may be retried alone.
    RolledBack,
}

/// A queue of saves in front of a few lanes, each of which runs one transaction at a time.
///
/// A save is not begun if its caller gave up while it was queued. A transaction is aborted when the last of its callers
/// has given up; its connection is then closed.
pub(crate) struct SaveBatcher {
    queue: CallQueue<QueuedSave, SaveResult>,
    timeout: Duration,
}

impl SaveBatcher {
    pub(crate) fn start(server: Arc<impl Saver>, lanes: u32, settings: StoreSettings) -> Self {
        let timeout = settings.timeout;
        let limits = QueueLimits::new(lanes).with_calls(MAX_BATCH_SAVES).with_bytes(MAX_BATCH_BYTES);
        let queue = CallQueue::start(
            limits,
            |save: &QueuedSave| save.record.data.len() + save.record.pending.data.len(),
            move |saves| {
                let server = Arc::clone(&server);
                async move { run(&server, saves, timeout).await }
            },
        );
        Self { queue, timeout }
    }

    pub(crate) async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> SaveResult {
        let deadline = Instant::now() + self.timeout;
        let save = QueuedSave {
            key: key.clone(),
            record: record.clone(),
            expect,
            receipt: receipt.copied(),
            deadline,
        };
        self.queue.call(save).await.unwrap_or(Err(BackendError::Gone))
    }
}

/// Saves a batch and sends each caller its outcome.
async fn run(
    server: &Arc<impl Saver>,
    mut waiting: Vec<BatchedCall<QueuedSave, SaveResult>>,
    within: Duration,
) {
    if waiting.len() < 2 {
        for waiting in waiting {
            save_one(&**server, waiting, within).await;
        }
        return;
    }
    // One lock order for all transactions of all nodes, so that no two wait for each other.
    waiting.sort_by(|a, b| a.call.key.as_str().cmp(b.call.key.as_str()));
    let saves: Vec<_> = waiting.iter().map(|waiting| &waiting.call).collect();
    let deadline = waiting.iter().map(|waiting| waiting.call.deadline).max().unwrap_or_else(Instant::now);
    let outcome = timeout_at(deadline, server.save_batch(&saves)).await;
    match outcome.unwrap_or(Err(BackendError::Late(within))) {
        Ok(BatchOutcome::Committed(outcomes)) => {
            for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
                waiting.answer(Ok(outcome));
            }
        }
        Ok(BatchOutcome::RolledBack) => {
            // Concurrently, so that the save that blocked the batch does not block the others again.
            for waiting in waiting {
                let server = Arc::clone(server);
                tokio::spawn(async move { save_one(&*server, waiting, within).await });
            }
        }
        Err(error) => {
            for waiting in waiting {
                waiting.answer(Err(error.clone()));
            }
        }
    }
}

async fn save_one(server: &impl Saver, waiting: BatchedCall<QueuedSave, SaveResult>, within: Duration) {
    let outcome = timeout_at(waiting.call.deadline, server.save_one(&waiting.call)).await;
    waiting.answer(outcome.unwrap_or(Err(BackendError::Late(within))));
}
