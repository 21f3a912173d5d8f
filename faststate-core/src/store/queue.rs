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
/// A few lanes take calls from the queue. Each lane takes as many queued calls as fit, and takes the next ones after it
/// has answered these. So the busier the server is, the more calls share a round trip or a transaction, and a single
/// call does not wait for others.
///
/// The lanes are tasks of the runtime in which the queue was started. They end with the queue's last clone or with the
/// runtime.
pub struct Queue<C, A> {
    calls: mpsc::Sender<Waiting<C, A>>,
}

/// The number of lanes, and the limits of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shards {
    /// The number of lanes; at least one.
    pub lanes: u32,
    /// The maximum number of calls in one batch.
    pub calls: usize,
    /// The approximate maximum size of one batch in bytes. A larger call forms a batch of its own.
    pub bytes: usize,
}

impl Shards {
    /// Creates this number of lanes, each with batches of at most 256 calls and about 1 MiB.
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

/// A call that a lane has taken, and its caller.
pub struct Waiting<C, A> {
    /// The call.
    pub call: C,
    answer: oneshot::Sender<A>,
}

impl<C: Send + 'static, A: Send + 'static> Queue<C, A> {
    /// Starts the lanes. `weight` returns the approximate size of a call in bytes; `run` answers a batch of at least one
    /// call.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    #[must_use]
    pub fn start<F: Future<Output = ()> + Send>(
        lanes: Shards,
        weight: fn(&C) -> usize,
        run: impl Fn(Vec<Waiting<C, A>>) -> F + Send + Sync + 'static,
    ) -> Self {
        let (calls, waiting) = mpsc::channel(MAX_QUEUED);
        let (waiting, run) = (Arc::new(Mutex::new(waiting)), Arc::new(run));
        for _ in 0..lanes.lanes.max(1) {
            let (waiting, run) = (Arc::clone(&waiting), Arc::clone(&run));
            tokio::spawn(async move {
                while let Some(mut calls) = next(&waiting, lanes, weight).await {
                    calls.retain(Waiting::is_wanted);
                    if !calls.is_empty() {
                        run(calls).await;
                    }
                }
            });
        }
        Self { calls }
    }

    /// Queues a call and waits for its answer. Returns `None` if the runtime of the lanes has ended.
    ///
    /// # Cancellation
    /// A call that is dropped before a lane has taken it is not run.
    pub async fn ask(&self, call: C) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(Waiting { call, answer }).await.ok()?;
        answered.await.ok()
    }
}

impl<C, A> Clone for Queue<C, A> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }
}

impl<C, A> Waiting<C, A> {
    /// Whether the caller still waits for the answer.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Sends the answer to the caller, which may be gone.
    pub fn answer(self, answer: A) {
        let _ = self.answer.send(answer);
    }
}

/// The calls of the next batch; `None` when the queue is dropped.
async fn next<C, A>(
    waiting: &Mutex<mpsc::Receiver<Waiting<C, A>>>,
    lanes: Shards,
    weight: fn(&C) -> usize,
) -> Option<Vec<Waiting<C, A>>> {
    let mut waiting = waiting.lock().await;
    let first = waiting.recv().await?;
    // Lets other tasks add their calls to this batch.
    yield_now().await;
    let mut bytes = weight(&first.call);
    let mut calls = vec![first];
    while calls.len() < lanes.calls
        && bytes < lanes.bytes
        && let Ok(next) = waiting.try_recv()
    {
        bytes += weight(&next.call);
        calls.push(next);
    }
    Some(calls)
}

impl<C, A> fmt::Debug for Queue<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl<C: fmt::Debug, A> fmt::Debug for Waiting<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("call", &self.call).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::join_all};

    use super::*;

    /// Answers each call with how many went together.
    fn counting() -> Queue<usize, usize> {
        let lanes = Shards { lanes: 1, calls: 4, bytes: 100 };
        Queue::start(
            lanes,
            |call| *call,
            |calls| async {
                let count = calls.len();
                calls.into_iter().for_each(|call| call.answer(count));
            },
        )
    }

    #[tokio::test]
    async fn calls_that_wait_go_together_as_many_as_fit() {
        let queue = counting();
        assert_eq!(queue.ask(1).await, Some(1));
        let answers = join_all((0..6).map(|_| queue.ask(1))).await;
        assert_eq!(answers, [4, 4, 4, 4, 2, 2].map(Some));
        let answers = join_all([60, 60, 500, 1].map(|bytes| queue.ask(bytes))).await;
        assert_eq!(answers, [2, 2, 1, 1].map(Some));
    }

    #[tokio::test]
    async fn a_call_that_was_dropped_is_not_run() {
        let queue = counting();
        let mut dropped = Box::pin(queue.ask(1));
        assert!((&mut dropped).now_or_never().is_none());
        drop(dropped);
        assert_eq!(join_all([queue.ask(1), queue.ask(1)]).await, [Some(2), Some(2)]);
    }

    #[test]
    fn nobody_answers_when_the_runtime_is_gone() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let queue = runtime().block_on(async { counting() });
        assert_eq!(runtime().block_on(queue.ask(1)), None);
    }
}
