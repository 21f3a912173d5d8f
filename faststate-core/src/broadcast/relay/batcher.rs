//! Combines concurrent sends: an envelope is sent at once, and those queued in the meantime follow in batches.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{Channel, RelayConnection, transport::with_timeout};
use crate::BoxError;

/// The maximum number of queued envelopes. Further senders wait for a place.
const MAX_QUEUED: usize = 1024;
/// The maximum number of envelopes in one call of the connection.
const MAX_BATCH: usize = 256;

/// Sends envelopes over one connection, for as long as the connection lasts.
///
/// The first sender becomes the driver: it sends its own envelope from its own task, then everything queued in the
/// meantime. So a single envelope waits for no other task, and the slower the service is, the more envelopes share a
/// call.
///
/// # Locking
/// The lock of `queue` protects the queued envelopes and whether there is a driver. It is not held across an await.
pub(super) struct Batcher {
    pub(super) connection: Box<dyn RelayConnection>,
    queue: Mutex<SendQueue>,
    /// One permit for each place in the queue.
    places: Semaphore,
    ended: CancellationToken,
}

#[derive(Default)]
struct SendQueue {
    queued: Vec<Outgoing>,
    /// Whether a driver is sending.
    driver_active: bool,
    /// Whether the connection has ended.
    closed: bool,
    failure: Option<BoxError>,
}

/// A queued envelope, and the sender that waits for it.
struct Outgoing {
    envelope: (Channel, Bytes),
    sent: oneshot::Sender<()>,
}

/// The connection has ended, and the envelope may be lost.
pub(super) struct ConnectionLost;

impl Batcher {
    pub(super) fn new(connection: Box<dyn RelayConnection>) -> Arc<Self> {
        Arc::new(Self {
            connection,
            queue: Mutex::default(),
            places: Semaphore::new(MAX_QUEUED),
            ended: CancellationToken::new(),
        })
    }

    /// Sends an envelope. Returns once the service has accepted it.
    ///
    /// # Cancellation
    /// The envelope is sent or not. The other queued envelopes are still sent.
    pub(super) async fn send(
        self: &Arc<Self>,
        channel: Channel,
        payload: Bytes,
    ) -> Result<(), ConnectionLost> {
        let _place = self.places.acquire().await.map_err(|_| ConnectionLost)?;
        let (sent, mut outcome) = oneshot::channel();
        let becomes_driver = {
            let mut queue = self.queue.lock();
            if queue.closed {
                return Err(ConnectionLost);
            }
            queue.queued.push(Outgoing { envelope: (channel, payload), sent });
            !std::mem::replace(&mut queue.driver_active, true)
        };
        let mut driver = becomes_driver.then(|| BatchDriver(Some(Box::pin(drive(Arc::clone(self))))));
        poll_fn(|cx| {
            if let Some(driver) = &mut driver {
                driver.poll(cx);
            }
            Pin::new(&mut outcome).poll(cx)
        })
        .await
        .map_err(|_| ConnectionLost)
    }

    /// Waits until the connection has ended; returns the error if a send caused it.
    pub(super) async fn broken(&self) -> Option<BoxError> {
        self.ended.cancelled().await;
        self.queue.lock().failure.take()
    }

    /// Ends the use of the connection: every waiting sender gets [`ConnectionLost`].
    pub(super) fn close(&self) {
        let failed = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.queued)
        };
        drop(failed);
        self.places.close();
        self.ended.cancel();
    }

    /// Takes the next batch. If it is empty, the driver has ended.
    fn next_batch(&self) -> Vec<Outgoing> {
        let mut queue = self.queue.lock();
        let next = queue.queued.len().min(MAX_BATCH);
        queue.driver_active = next > 0;
        queue.queued.drain(..next).collect()
    }
}

/// Sends batches until the queue is empty.
async fn drive(batcher: Arc<Batcher>) {
    let mut guard = CloseOnDrop { batcher: &batcher, finished: false };
    loop {
        let next = batcher.next_batch();
        if next.is_empty() {
            guard.finished = true;
            return;
        }
        // An envelope whose sender has given up is skipped: the sender repeats it, or has replaced it.
        let wanted = next.into_iter().filter(|outgoing| !outgoing.sent.is_closed());
        let (envelopes, sent): (Vec<_>, Vec<_>) =
            wanted.map(|Outgoing { envelope, sent }| (envelope, sent)).unzip();
        if envelopes.is_empty() {
            continue;
        }
        match batcher.ended.run_until_cancelled(with_timeout(batcher.connection.send(&envelopes))).await {
            Some(Ok(())) => sent.into_iter().for_each(|sent| _ = sent.send(())),
            Some(Err(error)) => {
                batcher.queue.lock().failure = Some(error);
                return;
            }
            None => return,
        }
    }
}

/// Closes the batcher unless its driver finished, since a connection that failed or panicked is no longer usable.
struct CloseOnDrop<'a> {
    batcher: &'a Batcher,
    finished: bool,
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.batcher.close();
        }
    }
}

/// Drives the batcher in the sender's task. If that task drops it, a new task continues for the other senders.
struct BatchDriver(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl BatchDriver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.0.as_mut().is_some_and(|driving| matches!(driving.as_mut().poll(cx), Poll::Ready(()))) {
            self.0 = None;
        }
    }
}

impl Drop for BatchDriver {
    fn drop(&mut self) {
        // Without a runtime, the connection is gone, too.
        if let Some(driving) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(driving);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use async_trait::async_trait;
    use futures::{FutureExt as _, future::join_all};
    use tokio::sync::Notify;

    use super::*;

    /// A connection that records the size of each batch and returns when notified.
    #[derive(Default)]
    struct SlowConnection {
        sent: Mutex<Vec<usize>>,
        answers: Notify,
        fails: AtomicBool,
    }

    #[async_trait]
    impl RelayConnection for Arc<SlowConnection> {
        async fn subscribe(&self, _: &[Channel]) -> Result<(), BoxError> {
            Ok(())
        }

        async fn unsubscribe(&self, _: &[Channel]) -> Result<(), BoxError> {
            Ok(())
        }

        async fn send(&self, payloads: &[(Channel, Bytes)]) -> Result<(), BoxError> {
            self.sent.lock().push(payloads.len());
            self.answers.notified().await;
            if self.fails.load(Ordering::Relaxed) { Err("it fails".into()) } else { Ok(()) }
        }
    }

    fn batcher() -> (Arc<SlowConnection>, Arc<Batcher>) {
        let connection = Arc::<SlowConnection>::default();
        (Arc::clone(&connection), Batcher::new(Box::new(connection)))
    }

    async fn send(batcher: Arc<Batcher>) -> bool {
        batcher.send(Channel::All, Bytes::new()).await.is_ok()
    }

    #[tokio::test]
    async fn first_envelope_is_sent_at_once_and_later_ones_in_batches() {
        let (connection, batcher) = batcher();
        let mut first = Box::pin(send(Arc::clone(&batcher)));
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(*connection.sent.lock(), [1], "in the sender's task");
        let others: Vec<_> = (0..300).map(|_| tokio::spawn(send(Arc::clone(&batcher)))).collect();
        while batcher.places.available_permits() > MAX_QUEUED - 301 {
            tokio::task::yield_now().await;
        }
        connection.answers.notify_one();
        assert!(first.await, "a sender whose envelope is sent does not drive the others");
        let others = tokio::spawn(join_all(others));
        while !others.is_finished() {
            connection.answers.notify_one();
            tokio::task::yield_now().await;
        }
        assert!(others.await.unwrap().into_iter().all(Result::unwrap));
        assert_eq!(*connection.sent.lock(), [1, MAX_BATCH, 300 - MAX_BATCH]);
    }

    #[tokio::test]
    async fn queued_envelopes_are_sent_when_the_driver_is_dropped() {
        let (connection, batcher) = batcher();
        let mut first = Box::pin(send(Arc::clone(&batcher)));
        assert!((&mut first).now_or_never().is_none());
        let second = tokio::spawn(send(Arc::clone(&batcher)));
        tokio::task::yield_now().await;
        drop(first);
        connection.answers.notify_one();
        while connection.sent.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
        connection.answers.notify_one();
        assert!(second.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_all_senders_fail_when_the_connection_ends() {
        for fails in [true, false] {
            let (connection, batcher) = batcher();
            connection.fails.store(fails, Ordering::Relaxed);
            let waiting = tokio::spawn(join_all((0..3).map(|_| send(Arc::clone(&batcher)))));
            tokio::task::yield_now().await;
            if fails {
                connection.answers.notify_one();
            }
            // A call that hangs fails after 2 s.
            let outcomes = tokio::time::timeout(Duration::from_secs(3), waiting).await.unwrap().unwrap();
            assert_eq!(outcomes, [false; 3]);
            assert!(batcher.broken().await.is_some() && !send(batcher).await);
        }
        let (_, batcher) = batcher();
        let waiting = tokio::spawn(join_all((0..3).map(|_| send(Arc::clone(&batcher)))));
        tokio::task::yield_now().await;
        batcher.close();
        assert_eq!(waiting.await.unwrap(), [false; 3]);
        assert!(batcher.broken().await.is_none());
    }
}
