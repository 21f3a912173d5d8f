//! Calls that come at the same time go to the server together.

use std::{fmt, future::Future, sync::Arc};

use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::yield_now,
};

/// How many calls may wait; more wait outside, where they can be dropped.
const WAITING: usize = 4096;

/// For whoever writes a store over a server: calls `C` that wait, to be answered with `A`.
///
/// A few lanes take them, each as many as wait and fit, and a lane takes no more before it has answered
/// those. So the busier the server is, the more calls share a round trip or a transaction, and a single call
/// waits for nobody.
///
/// The lanes are tasks of the runtime in which the queue was started, and end with its last clone or with the runtime.
pub struct Queue<C, A> {
    calls: mpsc::Sender<Waiting<C, A>>,
}

/// How much goes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shards {
    /// How many lanes there are; at least one.
    pub lanes: u32,
    /// How many calls a lane takes at most.
    pub calls: usize,
    /// About how many bytes they have, unless a single call has more.
    pub bytes: usize,
}

impl Shards {
    /// So many lanes, each of which takes at most 256 calls with about 1 MiB.
    #[must_use]
    pub const fn new(lanes: u32) -> Self {
        Self { lanes, calls: 256, bytes: 1 << 20 }
    }

    /// Lanes that take at most so many calls.
    #[must_use]
    pub const fn with_calls(mut self, calls: usize) -> Self {
        self.calls = calls;
        self
    }

    /// Lanes that take calls with about so many bytes.
    #[must_use]
    pub const fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }
}

/// A call that a lane has taken.
pub struct Waiting<C, A> {
    /// What is asked.
    pub call: C,
    answer: oneshot::Sender<A>,
}

impl<C: Send + 'static, A: Send + 'static> Queue<C, A> {
    /// Starts the lanes. `weight` says about how many bytes a call has; `run` answers the calls it is given,
    /// of which there is at least one.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start<F: Future<Output = ()> + Send>(
        lanes: Shards,
        weight: fn(&C) -> usize,
        run: impl Fn(Vec<Waiting<C, A>>) -> F + Send + Sync + 'static,
    ) -> Self {
        let (calls, waiting) = mpsc::channel(WAITING);
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

    /// Asks, and waits for the answer. None where there is nobody to give one: the runtime of the lanes has
    /// ended.
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
    /// Whether somebody still waits for the answer.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Answers it. Whoever asked may have left; that is their business.
    pub fn answer(self, answer: A) {
        let _ = self.answer.send(answer);
    }
}

/// The calls that go together; none when the queue is gone.
async fn next<C, A>(
    waiting: &Mutex<mpsc::Receiver<Waiting<C, A>>>,
    lanes: Shards,
    weight: fn(&C) -> usize,
) -> Option<Vec<Waiting<C, A>>> {
    let mut waiting = waiting.lock().await;
    let first = waiting.recv().await?;
    // Whoever is about to call, calls now.
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
