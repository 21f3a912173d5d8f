//! One instance: its present state, its queue, its topics.

pub(super) mod eviction;
pub(super) mod queue;
pub(super) mod revision;
pub(super) mod staleness;
pub(super) mod table;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use self::{queue::Queue, revision::Current};
use super::{
    cluster::arrivals::Arrived, cluster::fairness::KeyQuota, followers::audience::Listeners,
    followers::counts::Counts,
};
use crate::{Key, ReactiveState, broadcast::Interest, store::Precondition, topics::Topic, wire::SignalPath};

/// The minimum interval between epochs that clients' cursors start.
const RENEWAL: Duration = Duration::from_secs(60);

/// One instance in memory. It can be dropped while it has no followers and no queued events, because the store
/// contains its state.
pub(super) struct Instance<S> {
    pub(super) key: Key,
    /// Where its signals are nested.
    pub(super) nest: SignalPath,
    pub(super) queue: Mutex<Queue<S>>,
    /// Read by anybody, written only in the instance's turn and under the lock of `topics`.
    pub(super) current: RwLock<Option<Arc<Current<S>>>>,
    pub(super) topics: Mutex<Topics>,
    pub(super) upkeep: Mutex<Freshness>,
    /// What other nodes have sent.
    pub(super) arrived: Mutex<Arrived>,
    /// This node's turn among the nodes that change the key.
    pub(super) run: Mutex<KeyQuota>,
    /// Whether the store did not answer when it was asked last.
    stale: AtomicBool,
}

/// The followed topics of an instance, and its followers.
#[derive(Default)]
pub(super) struct Topics {
    pub(super) open: Vec<(Slot, Arc<Topic>)>,
    /// How many topics each stream follows.
    pub(super) streams: HashMap<u64, u32>,
    /// The node's interest in the key, while it has followers.
    pub(super) interest: Option<Interest>,
    pub(super) present: Counts<usize>,
    /// The audience, if the state is notified of it.
    pub(super) listeners: Option<Box<Listeners>>,
    /// Keeps the node subscribed for a while after its last follower has left.
    pub(super) lingers: Option<Lingers>,
}

/// An interest that outlives the node's last follower, and the time at which it ends.
pub(super) struct Lingers {
    pub(super) interest: Interest,
    pub(super) until: Instant,
}

/// Which topic of an instance: the signals, or the view at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Signals,
    View(usize),
}

/// When an instance was used and looked up.
pub(super) struct Freshness {
    pub(super) used: Instant,
    /// When the store last confirmed the current version.
    pub(super) verified: Option<Instant>,
    /// When the record expires, as far as this node knows.
    pub(super) expires: Option<Instant>,
    /// Whether the instance must be loaded again before it is used.
    pub(super) suspect: bool,
    /// Whether the store may contain a change of this node that was not sent to the other nodes.
    pub(super) untold: bool,
    /// Whether a deletion may have succeeded: what is in memory is not to be shown.
    pub(super) perhaps_deleted: bool,
    /// Since when the store may contain a newer version without a notification to this node. The instance stays in
    /// use, because each save expects a version.
    pub(super) doubted: Option<Instant>,
    /// Whether the instance waits to be reloaded, is being reloaded, or pauses before that.
    pub(super) reloading: bool,
    /// In a box: most instances have none.
    trouble: Option<Box<Trouble>>,
}

/// What is rarely known of an instance.
#[derive(Default)]
struct Trouble {
    /// When a client's cursor last started a new epoch.
    renewed: Option<Instant>,
    /// When a load last gave a record that cannot be read.
    unreadable: Option<Instant>,
    /// The number of pauses between reloads in a row.
    pauses: u32,
    /// A save or deletion that may still take effect.
    unsettled: Option<Unsettled>,
}

/// A save or deletion of unknown outcome.
struct Unsettled {
    /// What it expects: as soon as the store has anything else, it cannot take effect any more.
    expect: Precondition,
    /// When it cannot take effect any more, if the store has answered since.
    until: Option<Instant>,
}

impl Freshness {
    /// Records a save of unknown outcome: the record must be loaded, and the other nodes notified.
    pub(super) fn doubt(&mut self, expect: Precondition) {
        (self.suspect, self.untold) = (true, true);
        self.trouble().unsettled = Some(Unsettled { expect, until: None });
    }

    /// A save or deletion of this node succeeded that was begun after `asked`: no earlier one can any more.
    pub(super) fn saved(&mut self, asked: Instant, ttl: Option<Duration>) {
        if let Some(trouble) = &mut self.trouble {
            trouble.unsettled = None;
        }
        self.confirmed(asked, ttl);
    }

    /// A load that was begun at `asked` found this, and it is the current version now. A save of unknown
    /// outcome may still take effect, for up to `settles` after the store's first answer.
    pub(super) fn loaded(
        &mut self,
        found: Precondition,
        asked: Instant,
        ttl: Option<Duration>,
        settles: Duration,
    ) {
        if let Some(trouble) = &mut self.trouble
            && let Some(unsettled) = &mut trouble.unsettled
        {
            let until = *unsettled.until.get_or_insert_with(|| Instant::now() + settles);
            if unsettled.expect == found && asked < until && !settles.is_zero() {
                self.expires = ttl.map(|ttl| Instant::now() + ttl);
                self.end_doubt(asked);
                return;
            }
            trouble.unsettled = None;
        }
        self.confirmed(asked, ttl);
    }

    fn confirmed(&mut self, asked: Instant, ttl: Option<Duration>) {
        (self.suspect, self.untold, self.perhaps_deleted) = (false, false, false);
        self.expires = ttl.map(|ttl| Instant::now() + ttl);
        if let Some(trouble) = &mut self.trouble {
            trouble.unreadable = None;
        }
        self.end_doubt(asked);
    }

    /// What is in memory was not older than the store at `asked`.
    pub(super) fn end_doubt(&mut self, asked: Instant) {
        self.verified = self.verified.max(Some(asked));
        self.doubted = self.doubted.filter(|doubted| *doubted >= asked);
    }

    /// A load gave a record that cannot be read. Returns whether that is news.
    pub(super) fn note_unreadable(&mut self) -> bool {
        self.suspect = true;
        self.trouble().unreadable.replace(Instant::now()).is_none()
    }

    /// Whether the record could not be read when it was last loaded.
    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable_since().is_some()
    }

    pub(super) fn unreadable_since(&self) -> Option<Instant> {
        self.trouble.as_ref()?.unreadable
    }

    /// The pause before the next reload, if it still is necessary: it doubles from the first to the longest,
    /// and is up to half as short, at random.
    pub(super) fn next_reload_pause(&mut self, (first, longest): (Duration, Duration)) -> Duration {
        let trouble = self.trouble();
        let pause = first.saturating_mul(1 << trouble.pauses.min(16)).min(longest);
        trouble.pauses += 1;
        pause.mul_f64(rand::random_range(0.5..1.0))
    }

    /// No reload is necessary or useful any more. An instance that is still in doubt is loaded when it is
    /// used.
    pub(super) fn end_reloading(&mut self) {
        self.suspect |= self.doubted.take().is_some();
        self.reloading = false;
        if let Some(trouble) = &mut self.trouble {
            trouble.pauses = 0;
        }
    }

    fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    /// Whether a client's cursor may start a new epoch now; returns `true` at most once per interval.
    pub(super) fn may_renew(&mut self) -> bool {
        let now = Instant::now();
        let renewed = &mut self.trouble().renewed;
        let may = renewed.is_none_or(|at| now - at >= RENEWAL);
        if may {
            *renewed = Some(now);
        }
        may
    }

    /// The record was deleted. The instance is not shown until it has started over.
    pub(super) fn deleted(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.unsettled = None;
        }
        (self.suspect, self.untold, self.perhaps_deleted) = (true, true, true);
    }

    /// The outcome of a deletion that expects this is not known.
    pub(super) fn doubt_deletion(&mut self, expect: Precondition) {
        self.doubt(expect);
        self.perhaps_deleted = true;
    }
}

impl<S: ReactiveState> Instance<S> {
    pub(super) fn new(key: Key) -> Self {
        Self {
            nest: SignalPath::of(&key, None),
            key,
            queue: Mutex::default(),
            current: RwLock::new(None),
            topics: Mutex::default(),
            arrived: Mutex::default(),
            run: Mutex::new(KeyQuota::new(Instant::now())),
            upkeep: Mutex::new(Freshness {
                used: Instant::now(),
                verified: None,
                expires: None,
                suspect: false,
                untold: false,
                perhaps_deleted: false,
                doubted: None,
                reloading: false,
                trouble: None,
            }),
            stale: AtomicBool::new(false),
        }
    }

    /// The state in memory, unless it must be loaded (again) first.
    pub(super) fn usable(&self, now: Instant) -> Option<Arc<Current<S>>> {
        {
            let mut upkeep = self.upkeep.lock();
            upkeep.used = now;
            if upkeep.suspect || upkeep.expires.is_some_and(|at| at <= now) {
                return None;
            }
        }
        self.current.read().clone()
    }

    /// The state in memory, however doubtful; not one that has expired or may have been deleted.
    pub(super) fn remembered(&self) -> Option<Arc<Current<S>>> {
        let now = Instant::now();
        {
            let upkeep = self.upkeep.lock();
            if upkeep.perhaps_deleted || upkeep.expires.is_some_and(|at| at <= now) {
                return None;
            }
        }
        self.current.read().clone().filter(|current| !current.gone)
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Notifies the followers whether their view may be stale.
    pub(super) fn mark(&self, stale: bool) {
        if self.is_stale() == stale {
            return;
        }
        let topics = {
            let topics = self.topics.lock();
            self.stale.store(stale, Ordering::Release);
            topics.open.iter().for_each(|(_, topic)| topic.mark(stale));
            topics.open.clone()
        };
        topics.iter().for_each(|(_, topic)| topic.wake());
    }

    /// Whether nothing is in memory but that the instance does not exist. That it cannot be read is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.current.read().as_ref().is_none_or(|current| current.gone) && !self.upkeep.lock().is_unreadable()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.lock().is_idle() && self.topics.lock().open.is_empty()
    }

    pub(super) fn followers(&self) -> usize {
        self.topics.lock().streams.len()
    }
}

impl Topics {
    /// Takes the lingering interest if its time is over. Without it, the counts of other nodes are no longer received.
    pub(super) fn stop_lingering(&mut self) -> Option<Interest> {
        let Lingers { interest, .. } = self.lingers.take_if(|lingers| lingers.until <= Instant::now())?;
        if self.streams.is_empty() {
            self.present.others.clear();
            if let Some(listeners) = &mut self.listeners {
                listeners.counts.others.clear();
            }
        }
        Some(interest)
    }
}
