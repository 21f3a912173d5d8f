//! Revocations that the other nodes have not been told yet.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{AGAIN, PeerMessage, tell};
use crate::{Revocation, broadcast::Broadcaster};

/// How many revocations wait. Beyond it the other nodes are told to check all of their streams.
const MOST: usize = 4096;
/// How many are told at a time.
const TOGETHER: usize = 128;
/// For how long the other nodes are told of a revocation: by then each stream has been checked anyway.
const LASTS: Duration = Duration::from_mins(5);

/// Revocations that wait for the broadcaster: one bounded list, and one task that tells them.
pub(super) struct Revocations {
    list: Mutex<List>,
    /// The number of the latest one that the other nodes have been told, with all before it.
    told: watch::Sender<u64>,
}

#[derive(Default)]
struct List {
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    /// Until when the other nodes are told that there were more than fit, and which the last of those was.
    overflow: Option<(Instant, u64)>,
    /// The latest one's number.
    latest: u64,
    /// Whether a task tells them.
    running: bool,
}

struct Waiting {
    number: u64,
    revocation: Revocation,
    until: Instant,
}

impl Revocations {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { list: Mutex::default(), told: watch::Sender::new(0) })
    }

    /// Has the other nodes told, and waits for that until the deadline; says whether they were. Goes on without
    /// the caller.
    pub(super) async fn tell(
        self: &Arc<Self>,
        broadcaster: &Arc<dyn Broadcaster>,
        revocation: Revocation,
        deadline: Instant,
    ) -> bool {
        let mut told = self.told.subscribe();
        let (number, begins) = self.list.lock().push(revocation, Instant::now());
        if begins {
            // Not among the tasks that `settle` waits for: the transport may be away for long.
            tokio::spawn(tell_all(Arc::clone(self), Arc::clone(broadcaster)));
        }
        let told = told.wait_for(|told| *told >= number);
        matches!(tokio::time::timeout_at(deadline, told).await, Ok(Ok(_)))
    }
}

/// Tells until nothing waits, or nothing is left of the registry but this task.
async fn tell_all(revocations: Arc<Revocations>, broadcaster: Arc<dyn Broadcaster>) {
    loop {
        let next = revocations.list.lock().next(Instant::now());
        let Some((words, last)) = next else { return };
        let told = join_all(words.iter().map(|words| tell(&*broadcaster, None, words))).await;
        if told.into_iter().all(|told| told) {
            revocations.list.lock().is_told(last);
            revocations.told.send_replace(last);
            continue;
        }
        tokio::time::sleep(AGAIN).await;
        if Arc::strong_count(&revocations) == 1 {
            return;
        }
    }
}

impl List {
    /// Adds a revocation; returns its number, and whether a task is to be started.
    fn push(&mut self, revocation: Revocation, now: Instant) -> (u64, bool) {
        let until = now + LASTS;
        self.latest += 1;
        if self.waiting.len() >= MOST {
            tracing::warn!("too many revocations wait for the other nodes: they check all of their streams");
            self.waiting.clear();
            self.overflow = Some((until, self.latest));
        } else {
            self.waiting.push_back(Waiting { number: self.latest, revocation, until });
        }
        (self.latest, !std::mem::replace(&mut self.running, true))
    }

    /// What is told next, and the number of the last one in it; with nothing, no task tells any more.
    fn next(&mut self, now: Instant) -> Option<(Vec<PeerMessage>, u64)> {
        self.overflow = self.overflow.filter(|(until, _)| *until > now);
        if let Some((_, last)) = self.overflow {
            return Some((vec![PeerMessage::RevokedMany], last));
        }
        while self.waiting.pop_front_if(|oldest| oldest.until <= now).is_some() {}
        let batch = self.waiting.iter().take(TOGETHER);
        let last = batch.clone().next_back().map(|waiting| waiting.number);
        self.running = last.is_some();
        let words = batch.map(|waiting| PeerMessage::Revoked { revocation: waiting.revocation });
        last.map(|last| (words.collect(), last))
    }

    /// The other nodes have been told of everything up to this one.
    fn is_told(&mut self, last: u64) {
        self.overflow = self.overflow.filter(|(_, latest)| *latest > last);
        while self.waiting.pop_front_if(|oldest| oldest.number <= last).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn law_06_revocations_that_wait_are_bounded_and_become_a_summary() {
        let (mut list, now) = (List::default(), Instant::now());
        for number in 1..=MOST as u64 {
            assert_eq!(list.push(Revocation::user("a"), now), (number, number == 1), "one task tells");
        }
        let (words, last) = list.next(now).unwrap();
        assert_eq!((words.len(), last), (TOGETHER, TOGETHER as u64));
        for _ in 0..MOST {
            list.push(Revocation::user("b"), now);
            assert!(list.waiting.len() <= MOST);
        }
        let (words, covered) = list.next(now).unwrap();
        assert_eq!((words, covered), (vec![PeerMessage::RevokedMany], MOST as u64 + 1));
        list.is_told(covered);
        let (words, last) = list.next(now).unwrap();
        assert_eq!((words.len(), last), (TOGETHER, covered + TOGETHER as u64), "those after it are told");
        list.is_told(list.latest);
        assert!(list.next(now).is_none());
        assert!(list.push(Revocation::user("c"), now).1, "a task starts again");
    }

    #[tokio::test(start_paused = true)]
    async fn law_06_revocation_is_dropped_once_every_stream_was_checked() {
        let (mut list, now) = (List::default(), Instant::now());
        list.push(Revocation::user("a"), now);
        list.push(Revocation::user("b"), now + LASTS / 2);
        assert_eq!(list.next(now + LASTS).unwrap().0.len(), 1);
        assert!(list.next(now + LASTS * 2).is_none());
    }
}
