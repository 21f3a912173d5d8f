//! Revocations that are queued for the other nodes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    peer_message::PeerMessage,
    send::{RETRY_DELAY, send},
};
use crate::{Revocation, broadcast::Broadcaster};

/// Maximum number of queued revocations. When it is exceeded, they are replaced by a request to recheck all streams.
const MAX_QUEUED: usize = 4096;
/// Number of revocations that are sent concurrently.
const MAX_BATCH: usize = 128;
/// How long to keep sending a revocation to nodes that cannot be reached. After this time, every stream has been
/// rechecked anyway.
const RETRY_PERIOD: Duration = Duration::from_mins(5);

/// The queue of revocations in front of the broadcaster: one bounded list, and one task that sends them.
pub(super) struct Revocations {
    list: Mutex<List>,
    /// The number of the latest revocation that was sent together with all earlier ones.
    sent: watch::Sender<u64>,
}

#[derive(Default)]
struct List {
    /// Oldest first.
    queued: VecDeque<QueuedRevocation>,
    /// After an overflow: until when to send the request to recheck all streams, and the number of the last revocation
    /// that it replaces.
    overflow: Option<(Instant, u64)>,
    /// The number of the latest revocation.
    latest: u64,
    /// Whether a task is sending.
    running: bool,
}

struct QueuedRevocation {
    number: u64,
    revocation: Revocation,
    until: Instant,
}

impl Revocations {
    pub(in crate::registry) fn new() -> Arc<Self> {
        Arc::new(Self { list: Mutex::default(), sent: watch::Sender::new(0) })
    }

    /// Queues a revocation, and returns whether it was sent by the deadline.
    ///
    /// # Cancellation
    /// A revocation whose future is dropped is still sent.
    pub(in crate::registry) async fn send(
        self: &Arc<Self>,
        broadcaster: &Arc<dyn Broadcaster>,
        revocation: Revocation,
        deadline: Instant,
    ) -> bool {
        let mut sent = self.sent.subscribe();
        let (number, begins) = self.list.lock().push(revocation, Instant::now());
        if begins {
            // Not tracked by `settle`, because the transport may be unavailable for a long time.
            tokio::spawn(send_all(Arc::clone(self), Arc::clone(broadcaster)));
        }
        let sent = sent.wait_for(|latest| *latest >= number);
        matches!(tokio::time::timeout_at(deadline, sent).await, Ok(Ok(_)))
    }
}

/// Sends until the list is empty, or until the registry has been dropped and only this task is left.
async fn send_all(revocations: Arc<Revocations>, broadcaster: Arc<dyn Broadcaster>) {
    loop {
        let next = revocations.list.lock().next(Instant::now());
        let Some((messages, last)) = next else { return };
        let sent = join_all(messages.iter().map(|message| send(&*broadcaster, None, message))).await;
        if sent.into_iter().all(|sent| sent) {
            revocations.list.lock().mark_sent(last);
            revocations.sent.send_replace(last);
            continue;
        }
        tokio::time::sleep(RETRY_DELAY).await;
        if Arc::strong_count(&revocations) == 1 {
            return;
        }
    }
}

impl List {
    /// Adds a revocation. Returns its number, and whether the caller must start the sending task.
    fn push(&mut self, revocation: Revocation, now: Instant) -> (u64, bool) {
        let until = now + RETRY_PERIOD;
        self.latest += 1;
        if self.queued.len() >= MAX_QUEUED {
            tracing::warn!(
                "too many revocations are queued for the other nodes: asking them to recheck all streams"
            );
            self.queued.clear();
            self.overflow = Some((until, self.latest));
        } else {
            self.queued.push_back(QueuedRevocation { number: self.latest, revocation, until });
        }
        (self.latest, !std::mem::replace(&mut self.running, true))
    }

    /// The next batch of messages, and the number of the last revocation in it. With `None`, the sending task ends.
    fn next(&mut self, now: Instant) -> Option<(Vec<PeerMessage>, u64)> {
        self.overflow = self.overflow.filter(|(until, _)| *until > now);
        if let Some((_, last)) = self.overflow {
            return Some((vec![PeerMessage::RecheckStreams], last));
        }
        while self.queued.pop_front_if(|oldest| oldest.until <= now).is_some() {}
        let batch = self.queued.iter().take(MAX_BATCH);
        let last = batch.clone().next_back().map(|queued| queued.number);
        self.running = last.is_some();
        let messages = batch.map(|queued| PeerMessage::Revoke { revocation: queued.revocation });
        last.map(|last| (messages.collect(), last))
    }

    /// Removes the revocations up to this number, which were sent.
    fn mark_sent(&mut self, last: u64) {
        self.overflow = self.overflow.filter(|(_, latest)| *latest > last);
        while self.queued.pop_front_if(|oldest| oldest.number <= last).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn law_06_revocations_beyond_the_cap_become_one_recheck() {
        let (mut list, now) = (List::default(), Instant::now());
        for number in 1..=MAX_QUEUED as u64 {
            assert_eq!(list.push(Revocation::user("a"), now), (number, number == 1), "one task sends");
        }
        let (messages, last) = list.next(now).unwrap();
        assert_eq!((messages.len(), last), (MAX_BATCH, MAX_BATCH as u64));
        for _ in 0..MAX_QUEUED {
            list.push(Revocation::user("b"), now);
            assert!(list.queued.len() <= MAX_QUEUED);
        }
        let (messages, covered) = list.next(now).unwrap();
        assert_eq!((messages, covered), (vec![PeerMessage::RecheckStreams], MAX_QUEUED as u64 + 1));
        list.mark_sent(covered);
        let (messages, last) = list.next(now).unwrap();
        assert_eq!(
            (messages.len(), last),
            (MAX_BATCH, covered + MAX_BATCH as u64),
            "later revocations are sent"
        );
        list.mark_sent(list.latest);
        assert!(list.next(now).is_none());
        assert!(list.push(Revocation::user("c"), now).1, "a task starts again");
    }

    #[tokio::test(start_paused = true)]
    async fn law_06_revocation_is_dropped_after_every_recheck() {
        let (mut list, now) = (List::default(), Instant::now());
        list.push(Revocation::user("a"), now);
        list.push(Revocation::user("b"), now + RETRY_PERIOD / 2);
        assert_eq!(list.next(now + RETRY_PERIOD).unwrap().0.len(), 1);
        assert!(list.next(now + RETRY_PERIOD * 2).is_none());
    }
}
