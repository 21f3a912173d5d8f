//! Letters leave at once, and what comes while some are on their way leaves together after them.

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

use super::{Channel, RelayConnection, connection::in_time};
use crate::BoxError;

/// How many letters may wait; who has more waits with them.
const WAITING: usize = 1024;
/// How many letters are sent together.
const TOGETHER: usize = 256;

/// Where the letters for a line leave, for as long as the line holds.
///
/// Whoever finds nobody at it carries: its own letter, in its own task, and then what has come meanwhile. So a
/// letter that is alone waits for no other task, and the busier the service is, the more share a call.
pub(super) struct Batcher {
    pub(super) line: Box<dyn RelayConnection>,
    letters: Mutex<Letters>,
    room: Semaphore,
    ended: CancellationToken,
}

#[derive(Default)]
struct Letters {
    waiting: Vec<Outgoing>,
    /// Whether somebody carries.
    carried: bool,
    /// Nothing leaves here any more.
    closed: bool,
    failure: Option<BoxError>,
}

/// A letter on its way, and who waits for it to be sent.
struct Outgoing {
    letter: (Channel, Bytes),
    sent: oneshot::Sender<()>,
}

/// The line is gone, and the letter perhaps lost.
pub(super) struct Gone;

impl Batcher {
    pub(super) fn new(line: Box<dyn RelayConnection>) -> Arc<Self> {
        Arc::new(Self {
            line,
            letters: Mutex::default(),
            room: Semaphore::new(WAITING),
            ended: CancellationToken::new(),
        })
    }

    /// Sends a letter; returns when the service has it.
    ///
    /// # Cancellation
    /// The letter is sent or not. Whatever else was being carried still is.
    pub(super) async fn send(self: &Arc<Self>, channel: Channel, payload: Bytes) -> Result<(), Gone> {
        let _room = self.room.acquire().await.map_err(|_| Gone)?;
        let (sent, mut outcome) = oneshot::channel();
        let carries = {
            let mut letters = self.letters.lock();
            if letters.closed {
                return Err(Gone);
            }
            letters.waiting.push(Outgoing { letter: (channel, payload), sent });
            !std::mem::replace(&mut letters.carried, true)
        };
        let mut courier = carries.then(|| BatchDriver(Some(Box::pin(carry(Arc::clone(self))))));
        poll_fn(|cx| {
            if let Some(courier) = &mut courier {
                courier.poll(cx);
            }
            Pin::new(&mut outcome).poll(cx)
        })
        .await
        .map_err(|_| Gone)
    }

    /// Waits until the line is of no use any more; says why, unless that is known.
    pub(super) async fn broken(&self) -> Option<BoxError> {
        self.ended.cancelled().await;
        self.letters.lock().failure.take()
    }

    /// The line is gone: whoever waits with a letter is told so.
    pub(super) fn close(&self) {
        let told = {
            let mut letters = self.letters.lock();
            letters.closed = true;
            std::mem::take(&mut letters.waiting)
        };
        drop(told);
        self.room.close();
        self.ended.cancel();
    }

    /// What leaves next; with nothing, nobody carries any more.
    fn next(&self) -> Vec<Outgoing> {
        let mut letters = self.letters.lock();
        let next = letters.waiting.len().min(TOGETHER);
        letters.carried = next > 0;
        letters.waiting.drain(..next).collect()
    }
}

/// Carries until nothing waits.
async fn carry(outlet: Arc<Batcher>) {
    let mut carrying = CloseOnDrop { outlet: &outlet, ended: false };
    loop {
        let next = outlet.next();
        if next.is_empty() {
            carrying.ended = true;
            return;
        }
        // What nobody waits for any more is published again by whoever gave up, or has been replaced.
        let wanted = next.into_iter().filter(|outgoing| !outgoing.sent.is_closed());
        let (letters, sent): (Vec<_>, Vec<_>) =
            wanted.map(|Outgoing { letter, sent }| (letter, sent)).unzip();
        if letters.is_empty() {
            continue;
        }
        match outlet.ended.run_until_cancelled(in_time(outlet.line.send(&letters))).await {
            Some(Ok(())) => sent.into_iter().for_each(|sent| _ = sent.send(())),
            Some(Err(error)) => {
                outlet.letters.lock().failure = Some(error);
                return;
            }
            None => return,
        }
    }
}

/// Closes the outlet unless the carrying came to its end: a line that fails, or panics, is of no use any more.
struct CloseOnDrop<'a> {
    outlet: &'a Batcher,
    ended: bool,
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.outlet.close();
        }
    }
}

/// Carries in the task of whoever sends, and goes on in one of its own when that one leaves: others wait.
struct BatchDriver(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl BatchDriver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.0.as_mut().is_some_and(|carrying| matches!(carrying.as_mut().poll(cx), Poll::Ready(()))) {
            self.0 = None;
        }
    }
}

impl Drop for BatchDriver {
    fn drop(&mut self) {
        // Without a runtime, at its end, there is no line either.
        if let Some(carrying) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(carrying);
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

    /// Remembers what was sent together; answers when it may.
    #[derive(Default)]
    struct Slow {
        sent: Mutex<Vec<usize>>,
        answers: Notify,
        fails: AtomicBool,
    }

    #[async_trait]
    impl RelayConnection for Arc<Slow> {
        async fn subscribe(&self, _: &[Channel]) -> Result<(), BoxError> {
            Ok(())
        }

        async fn unsubscribe(&self, _: &[Channel]) -> Result<(), BoxError> {
            Ok(())
        }

        async fn send(&self, letters: &[(Channel, Bytes)]) -> Result<(), BoxError> {
            self.sent.lock().push(letters.len());
            self.answers.notified().await;
            if self.fails.load(Ordering::Relaxed) { Err("it fails".into()) } else { Ok(()) }
        }
    }

    fn outlet() -> (Arc<Slow>, Arc<Batcher>) {
        let line = Arc::<Slow>::default();
        (Arc::clone(&line), Batcher::new(Box::new(line)))
    }

    async fn send(outlet: Arc<Batcher>) -> bool {
        outlet.send(Channel::All, Bytes::new()).await.is_ok()
    }

    #[tokio::test]
    async fn a_letter_leaves_before_anybody_waits_and_what_comes_meanwhile_leaves_together() {
        let (line, outlet) = outlet();
        let mut first = Box::pin(send(Arc::clone(&outlet)));
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(*line.sent.lock(), [1], "in the task of who sends it");
        let others: Vec<_> = (0..300).map(|_| tokio::spawn(send(Arc::clone(&outlet)))).collect();
        while outlet.room.available_permits() > WAITING - 301 {
            tokio::task::yield_now().await;
        }
        line.answers.notify_one();
        assert!(first.await, "whoever has sent its letter does not carry the others'");
        let others = tokio::spawn(join_all(others));
        while !others.is_finished() {
            line.answers.notify_one();
            tokio::task::yield_now().await;
        }
        assert!(others.await.unwrap().into_iter().all(Result::unwrap));
        assert_eq!(*line.sent.lock(), [1, TOGETHER, 300 - TOGETHER]);
    }

    #[tokio::test]
    async fn what_others_wait_for_is_carried_on_when_the_carrier_gives_up() {
        let (line, outlet) = outlet();
        let mut first = Box::pin(send(Arc::clone(&outlet)));
        assert!((&mut first).now_or_never().is_none());
        let second = tokio::spawn(send(Arc::clone(&outlet)));
        tokio::task::yield_now().await;
        drop(first);
        line.answers.notify_one();
        while line.sent.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
        line.answers.notify_one();
        assert!(second.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_a_line_that_fails_or_hangs_or_ends_tells_all_who_wait() {
        for fails in [true, false] {
            let (line, outlet) = outlet();
            line.fails.store(fails, Ordering::Relaxed);
            let waiting = tokio::spawn(join_all((0..3).map(|_| send(Arc::clone(&outlet)))));
            tokio::task::yield_now().await;
            if fails {
                line.answers.notify_one();
            }
            // One that hangs fails after 2 s.
            let told = tokio::time::timeout(Duration::from_secs(3), waiting).await.unwrap().unwrap();
            assert_eq!(told, [false; 3]);
            assert!(outlet.broken().await.is_some() && !send(outlet).await);
        }
        let (_, outlet) = outlet();
        let waiting = tokio::spawn(join_all((0..3).map(|_| send(Arc::clone(&outlet)))));
        tokio::task::yield_now().await;
        outlet.close();
        assert_eq!(waiting.await.unwrap(), [false; 3]);
        assert!(outlet.broken().await.is_none());
    }
}
