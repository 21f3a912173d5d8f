//! Combines concurrent calls of a store into one round trip.

use std::{fmt, future::Future, sync::Arc};

use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::yield_now,
};

/// The maximum number of queued calls. Further callers wait for a place, where they can be dropped.
const MAX_QUEUED: usize = 4096;

/// A queue of calls `C` with answers `A`, for authors of stores over a server.
///
/// A fixed number of lanes, which are tasks, run the calls in batches. A lane takes as many queued calls as fit into
/// one batch, waits until they are answered, and takes the next batch. So a call in an idle queue waits for no other
/// call, and the slower the server is, the more calls share a round trip or a transaction.
///
/// The lanes run in the runtime in which the queue was started. They end with the queue's last clone or with the
/// runtime.
pub struct CallQueue<C, A> {
    calls: mpsc::Sender<BatchedCall<C, A>>,
}

/// The number of lanes of a [`CallQueue`], and the limits of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimits {
    /// The number of lanes; at least one.
    pub lanes: u32,
    /// The maximum number of calls in one batch.
    pub calls: usize,
    /// The approximate maximum size of one batch in bytes. A larger call forms a batch of its own.
    pub bytes: usize,
}

impl QueueLimits {
    /// Creates the limits of this number of lanes, each with batches of at most 256 calls and about 1 MiB.
    #[must_use]
    pub const fn new(lanes: u32) -> Self {
        Self { lanes, calls: 256, bytes: 1 << 20 }
    }

    /// Sets the maximum number of calls in one batch.
    #[must_use]
    pub const fn with_calls(mut self, calls: usize) -> Self {
        self.calls = calls;
        self
    }

    /// Sets the approximate maximum size of one batch in bytes.
    #[must_use]
    pub const fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }
}

/// A call that a lane has taken from the queue, with the means to answer its caller.
pub struct BatchedCall<C, A> {
    /// The call.
    pub call: C,
    answer: oneshot::Sender<A>,
}

impl<C: Send + 'static, A: Send + 'static> CallQueue<C, A> {
    /// Creates a queue, and spawns its lanes. `weight` returns the approximate size of a call in bytes. `run` answers
    /// the calls of a batch, which contains at least one.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    #[must_use]
    pub fn start<F: Future<Output = ()> + Send>(
        limits: QueueLimits,
        weight: fn(&C) -> usize,
        run: impl Fn(Vec<BatchedCall<C, A>>) -> F + Send + Sync + 'static,
    ) -> Self {
        let (calls, queued) = mpsc::channel(MAX_QUEUED);
        let (queued, run) = (Arc::new(Mutex::new(queued)), Arc::new(run));
        for _ in 0..limits.lanes.max(1) {
            let (queued, run) = (Arc::clone(&queued), Arc::clone(&run));
            tokio::spawn(async move {
                while let Some(mut batch) = next_batch(&queued, limits, weight).await {
                    batch.retain(BatchedCall::is_wanted);
                    if !batch.is_empty() {
                        run(batch).await;
                    }
                }
            });
        }
        Self { calls }
    }

    /// Queues a call and waits for its answer. Returns `None` if the runtime of the lanes has ended, or if the call
    /// was dropped without an answer.
    ///
    /// # Cancellation
    /// If the future is dropped before a lane has taken the call, the call is not run.
    pub async fn call(&self, call: C) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(BatchedCall { call, answer }).await.ok()?;
        answered.await.ok()
    }
}

impl<C, A> Clone for CallQueue<C, A> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }
}

impl<C, A> BatchedCall<C, A> {
    /// Returns whether the caller still waits for the answer.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Sends the answer to the caller. Has no effect if the caller has stopped waiting.
    pub fn answer(self, answer: A) {
        let _ = self.answer.send(answer);
    }
}

/// Waits for the calls of the next batch. Returns `None` when the queue's last clone is dropped.
async fn next_batch<C, A>(
    queued: &Mutex<mpsc::Receiver<BatchedCall<C, A>>>,
    limits: QueueLimits,
    weight: fn(&C) -> usize,
) -> Option<Vec<BatchedCall<C, A>>> {
    let mut queued = queued.lock().await;
    let first = queued.recv().await?;
    // Lets other tasks add their calls to this batch.
    yield_now().await;
    let mut bytes = weight(&first.call);
    let mut batch = vec![first];
    while batch.len() < limits.calls
        && bytes < limits.bytes
        && let Ok(next) = queued.try_recv()
    {
        bytes += weight(&next.call);
        batch.push(next);
    }
    Some(batch)
}

impl<C, A> fmt::Debug for CallQueue<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallQueue").finish_non_exhaustive()
    }
}

impl<C: fmt::Debug, A> fmt::Debug for BatchedCall<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchedCall").field("call", &self.call).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::join_all};

    use super::*;

    /// Answers each call with the number of calls in its batch. A call's weight is its value.
    fn counting() -> CallQueue<usize, usize> {
        let limits = QueueLimits { lanes: 1, calls: 4, bytes: 100 };
        CallQueue::start(
            limits,
            |call| *call,
            |calls| async {
                let count = calls.len();
                calls.into_iter().for_each(|call| call.answer(count));
            },
        )
    }

    #[tokio::test]
    async fn queued_calls_share_batches_up_to_both_limits() {
        let queue = counting();
        assert_eq!(queue.call(1).await, Some(1));
        let answers = join_all((0..6).map(|_| queue.call(1))).await;
        assert_eq!(answers, [4, 4, 4, 4, 2, 2].map(Some));
        let answers = join_all([60, 60, 500, 1].map(|bytes| queue.call(bytes))).await;
        assert_eq!(answers, [2, 2, 1, 1].map(Some));
    }

    #[tokio::test]
    async fn dropped_call_is_not_run() {
        let queue = counting();
        let mut dropped = Box::pin(queue.call(1));
        assert!((&mut dropped).now_or_never().is_none());
        drop(dropped);
        assert_eq!(join_all([queue.call(1), queue.call(1)]).await, [Some(2), Some(2)]);
    }

    #[test]
    fn call_returns_none_when_the_runtime_has_ended() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let queue = runtime().block_on(async { counting() });
        assert_eq!(runtime().block_on(queue.call(1)), None);
    }
}
