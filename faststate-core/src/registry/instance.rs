//! One instance: its current state, its queue and its topics.

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

use self::{queue::Queue, revision::Revision};
use super::{
    cluster::arrivals::Arrived, cluster::fairness::KeyQuota, followers::audience::Listeners,
    followers::counts::Counts,
};
use crate::{Key, ReactiveState, broadcast::Interest, store::Precondition, topics::Topic, wire::SignalPath};

/// Minimum interval between two epochs that clients' cursors start.
const MIN_RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// One instance in memory. It can be dropped while it has no followers and no queued events, because the store
/// contains its state.
///
/// # Locking
/// - `queue` protects the queued commands. Only the holder of the instance's turn takes commands out of it.
/// - `topics` protects the followed topics. A change of `current` happens under it, so that a follower that joins sees
///   either the old state and the later frame, or the new state.
/// - `current` is written only in the instance's turn, and while `topics` is held unless it was empty. Any task may read
///   it.
/// - `freshness`, `arrived` and `quota` protect one value each.
///
/// The order is `queue`, `topics`, `current`, `freshness`; `arrived` and `quota` are taken alone. No lock is held across
/// an await.
pub(super) struct Instance<S> {
    pub(super) key: Key,
    /// The path of its signals.
    pub(super) nest: SignalPath,
    pub(super) queue: Mutex<Queue<S>>,
    /// The state in memory, if it was loaded.
    pub(super) current: RwLock<Option<Arc<Revision<S>>>>,
    pub(super) topics: Mutex<Topics>,
    pub(super) freshness: Mutex<Freshness>,
    /// The changes and elements that other nodes have sent.
    pub(super) arrived: Mutex<Arrived>,
    /// This node's turn among the nodes that change the key.
    pub(super) quota: Mutex<KeyQuota>,
    /// Whether the store did not respond to the last call. Acquire and release order it with the topics' marks.
    stale: AtomicBool,
}

/// The followed topics of an instance, and its followers.
#[derive(Default)]
pub(super) struct Topics {
    pub(super) open: Vec<(Slot, Arc<Topic>)>,
    /// The number of topics that each stream follows.
    pub(super) streams: HashMap<u64, u32>,
    /// The node's interest in the key, while it has followers.
    pub(super) interest: Option<Interest>,
    pub(super) present: Counts<usize>,
    /// The audience, if the state has an audience event.
    pub(super) listeners: Option<Box<Listeners>>,
    /// Keeps the node subscribed for a while after its last follower has left.
    pub(super) lingers: Option<Lingers>,
}

/// An interest that outlives the node's last follower, and the time at which it ends.
pub(super) struct Lingers {
    pub(super) interest: Interest,
    pub(super) until: Instant,
}

/// One topic of an instance: the signals, or the view at this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Signals,
    View(usize),
}

/// When an instance was last used and confirmed, and what is in doubt about it.
pub(super) struct Freshness {
    pub(super) used: Instant,
    /// When the store last confirmed the current version.
    pub(super) verified: Option<Instant>,
    /// When the record expires, as far as this node knows.
    pub(super) expires: Option<Instant>,
    /// Whether the instance must be loaded again before it is used.
    pub(super) suspect: bool,
    /// Whether the store may contain a change of this node that was not sent to the other nodes.
    pub(super) unpublished: bool,
    /// Whether a deletion may have succeeded, so that the state in memory must not be shown.
    pub(super) perhaps_deleted: bool,
    /// The time since which the store may contain a newer version of which this node was not notified. The instance
    /// stays in use, because each save expects a version.
    pub(super) doubted: Option<Instant>,
    /// Whether the instance waits to be reloaded, is being reloaded, or pauses before that.
    pub(super) reloading: bool,
    /// Boxed, because most instances have none.
    incidents: Option<Box<Incidents>>,
}

/// The incidents of an instance: unknown outcomes, unreadable records, retries.
#[derive(Default)]
struct Incidents {
    /// When a client's cursor last started a new epoch.
    renewed: Option<Instant>,
    /// When a load last returned a record that cannot be decoded.
    unreadable: Option<Instant>,
    /// The number of consecutive pauses between reloads.
    pauses: u32,
    /// A save or deletion that may still take effect.
    unsettled: Option<Unsettled>,
}

/// A save or deletion of unknown outcome.
struct Unsettled {
    /// Its precondition. Once the store holds anything else, the save can no longer take effect.
    expect: Precondition,
    /// The time after which it can no longer take effect, if the store has responded since.
    until: Option<Instant>,
}

impl Freshness {
    /// Records a save of unknown outcome: the record must be loaded, and the other nodes notified.
    pub(super) fn doubt(&mut self, expect: Precondition) {
        (self.suspect, self.unpublished) = (true, true);
        self.incidents().unsettled = Some(Unsettled { expect, until: None });
    }

    /// Records that a save or deletion that this node began after `asked` succeeded. No earlier one can take effect any
    /// more.
    pub(super) fn saved(&mut self, asked: Instant, ttl: Option<Duration>) {
        if let Some(incidents) = &mut self.incidents {
            incidents.unsettled = None;
        }
        self.confirmed(asked, ttl);
    }

    /// Records that a load that began at `asked` found the current version. A save of unknown outcome may still take
    /// effect, for up to `settles` after the store's first response.
    pub(super) fn loaded(
        &mut self,
        found: Precondition,
        asked: Instant,
        ttl: Option<Duration>,
        settles: Duration,
    ) {
        if let Some(incidents) = &mut self.incidents
            && let Some(unsettled) = &mut incidents.unsettled
        {
            let until = *unsettled.until.get_or_insert_with(|| Instant::now() + settles);
            if unsettled.expect == found && asked < until && !settles.is_zero() {
                self.expires = ttl.map(|ttl| Instant::now() + ttl);
                self.end_doubt(asked);
                return;
            }
            incidents.unsettled = None;
        }
        self.confirmed(asked, ttl);
    }

    fn confirmed(&mut self, asked: Instant, ttl: Option<Duration>) {
        (self.suspect, self.unpublished, self.perhaps_deleted) = (false, false, false);
        self.expires = ttl.map(|ttl| Instant::now() + ttl);
        if let Some(incidents) = &mut self.incidents {
            incidents.unreadable = None;
        }
        self.end_doubt(asked);
    }

    /// Records that the state in memory was not older than the store at `asked`.
    pub(super) fn end_doubt(&mut self, asked: Instant) {
        self.verified = self.verified.max(Some(asked));
        self.doubted = self.doubted.filter(|doubted| *doubted >= asked);
    }

    /// Records that a load returned a record that cannot be decoded. Returns whether the previous load did not.
    pub(super) fn note_unreadable(&mut self) -> bool {
        self.suspect = true;
        self.incidents().unreadable.replace(Instant::now()).is_none()
    }

    /// Whether the record could not be decoded when it was last loaded.
    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable_since().is_some()
    }

    pub(super) fn unreadable_since(&self) -> Option<Instant> {
        self.incidents.as_ref()?.unreadable
    }

    /// Returns the pause before the next reload. Pauses double from the first to the longest, and each is shortened by a
    /// random part of up to one half.
    pub(super) fn next_reload_pause(&mut self, (first, longest): (Duration, Duration)) -> Duration {
        let incidents = self.incidents();
        let pause = first.saturating_mul(1 << incidents.pauses.min(16)).min(longest);
        incidents.pauses += 1;
        pause.mul_f64(rand::random_range(0.5..1.0))
    }

    /// Ends the reloads of the instance. If it is still in doubt, it is loaded when it is used.
    pub(super) fn end_reloading(&mut self) {
        self.suspect |= self.doubted.take().is_some();
        self.reloading = false;
        if let Some(incidents) = &mut self.incidents {
            incidents.pauses = 0;
        }
    }

    fn incidents(&mut self) -> &mut Incidents {
        self.incidents.get_or_insert_default()
    }

    /// Whether a client's cursor may start a new epoch now; returns `true` at most once per interval.
    pub(super) fn may_renew(&mut self) -> bool {
        let now = Instant::now();
        let renewed = &mut self.incidents().renewed;
        let may = renewed.is_none_or(|at| now - at >= MIN_RENEWAL_INTERVAL);
        if may {
            *renewed = Some(now);
        }
        may
    }

    /// Records that the record was deleted. The instance is not shown until it has started over.
    pub(super) fn deleted(&mut self) {
        if let Some(incidents) = &mut self.incidents {
            incidents.unsettled = None;
        }
        (self.suspect, self.unpublished, self.perhaps_deleted) = (true, true, true);
    }

    /// Records a deletion of unknown outcome with this precondition.
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
            quota: Mutex::new(KeyQuota::new(Instant::now())),
            freshness: Mutex::new(Freshness {
                used: Instant::now(),
                verified: None,
                expires: None,
                suspect: false,
                unpublished: false,
                perhaps_deleted: false,
                doubted: None,
                reloading: false,
                incidents: None,
            }),
            stale: AtomicBool::new(false),
        }
    }

    /// Returns the state in memory, unless it must be loaded first.
    pub(super) fn usable(&self, now: Instant) -> Option<Arc<Revision<S>>> {
        {
            let mut freshness = self.freshness.lock();
            freshness.used = now;
            if freshness.suspect || freshness.expires.is_some_and(|at| at <= now) {
                return None;
            }
        }
        self.current.read().clone()
    }

    /// Returns the state in memory even if it is in doubt, unless it has expired or may have been deleted.
    pub(super) fn remembered(&self) -> Option<Arc<Revision<S>>> {
        let now = Instant::now();
        {
            let freshness = self.freshness.lock();
            if freshness.perhaps_deleted || freshness.expires.is_some_and(|at| at <= now) {
                return None;
            }
        }
        self.current.read().clone().filter(|current| !current.gone)
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Sets whether the state may be stale, and notifies the followers.
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

    /// Whether the instance does not exist or was never loaded. An instance whose record cannot be decoded is not empty,
    /// so that the failure is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.current.read().as_ref().is_none_or(|current| current.gone)
            && !self.freshness.lock().is_unreadable()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.lock().is_idle() && self.topics.lock().open.is_empty()
    }

    pub(super) fn followers(&self) -> usize {
        self.topics.lock().streams.len()
    }
}

impl Topics {
    /// Takes the lingering interest if its time is over, and forgets the counts of other nodes, which are then no longer
    /// received.
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
