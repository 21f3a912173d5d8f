//! One instance: its present state, its queue, its topics.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::{Error, audience::Listeners, presence::Counts, run::Run, shared::guard, turn::Queue};
use crate::{
    Key, ReactiveState, Version,
    broadcast::Interest,
    patch::{Image, ROOM, Stored},
    store::{Expect, Record},
    topics::Topic,
    wire::Nest,
};

/// How often what somebody has seen may start a new epoch.
const RENEWAL: Duration = Duration::from_secs(60);

/// One instance in memory. It can be dropped whenever nobody follows it and no event waits: the store
/// has everything.
pub(super) struct Instance<S> {
    pub(super) key: Key,
    /// Where its signals are nested.
    pub(super) nest: Nest,
    pub(super) queue: Mutex<Queue<S>>,
    /// Read by anybody, written only in the instance's turn and under the lock of `topics`.
    pub(super) current: RwLock<Option<Arc<Current<S>>>>,
    pub(super) topics: Mutex<Topics>,
    pub(super) upkeep: Mutex<Upkeep>,
    /// This node's turn among the nodes that change the key.
    pub(super) run: Mutex<Run>,
    /// Whether the store did not answer when it was asked last.
    stale: AtomicBool,
}

/// What is followed of an instance, and by whom.
#[derive(Default)]
pub(super) struct Topics {
    pub(super) open: Vec<(Slot, Arc<Topic>)>,
    /// How many topics each stream follows.
    pub(super) streams: HashMap<u64, u32>,
    /// The node's interest in the key, while it has followers.
    pub(super) interest: Option<Interest>,
    pub(super) present: Counts,
    /// Who follows, where the state is told.
    pub(super) listeners: Listeners,
}

/// Which topic of an instance: the signals, or the view at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Signals,
    View(usize),
}

/// When an instance was used and looked up.
pub(super) struct Upkeep {
    pub(super) used: Instant,
    /// When the store last confirmed the current version.
    pub(super) verified: Option<Instant>,
    /// When the record expires, as far as this node knows.
    pub(super) expires: Option<Instant>,
    /// Whether the instance must be loaded again before it is used.
    pub(super) suspect: bool,
    /// Whether the store may hold a change of this node that the other nodes have not been told.
    pub(super) untold: bool,
    /// When a new epoch was started because of what somebody had seen.
    renewed: Option<Instant>,
    /// Whether a deletion may have succeeded: what is in memory is not to be shown.
    pub(super) perhaps_deleted: bool,
    /// Whether somebody looks again and again until the instance is not suspect any more.
    pub(super) looking: bool,
}

impl Upkeep {
    /// What became of a change is not known: the store must be asked, and the other nodes told.
    pub(super) const fn doubt(&mut self) {
        (self.suspect, self.untold) = (true, true);
    }

    /// Whether a new epoch may be started because of what somebody has seen; then not again for a while.
    pub(super) fn may_renew(&mut self) -> bool {
        let now = Instant::now();
        let may = self.renewed.is_none_or(|at| now - at >= RENEWAL);
        if may {
            self.renewed = Some(now);
        }
        may
    }

    /// What became of a deletion is not known.
    pub(super) const fn doubt_deletion(&mut self) {
        self.doubt();
        self.perhaps_deleted = true;
    }
}

/// A state at one version.
pub(super) struct Current<S> {
    pub(super) state: Arc<S>,
    /// The state as it is, or would be, stored.
    pub(super) encoded: Stored,
    pub(super) version: Version,
    pub(super) stored: bool,
    /// Written by a newer version of the application: not to be overwritten.
    pub(super) read_only: bool,
    /// What is shown of an instance that does not exist any more.
    pub(super) gone: bool,
    image: OnceLock<Result<Image, Arc<str>>>,
}

impl<S: ReactiveState> Instance<S> {
    pub(super) fn new(key: Key) -> Self {
        Self {
            nest: Nest::of(&key, None),
            key,
            queue: Mutex::default(),
            current: RwLock::new(None),
            topics: Mutex::default(),
            run: Mutex::new(Run::new(Instant::now())),
            upkeep: Mutex::new(Upkeep {
                used: Instant::now(),
                verified: None,
                expires: None,
                suspect: false,
                untold: false,
                renewed: None,
                perhaps_deleted: false,
                looking: false,
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

    /// Tells those who follow whether what they see may be stale.
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

    pub(super) fn is_idle(&self) -> bool {
        self.queue.lock().is_idle() && self.topics.lock().open.is_empty()
    }

    pub(super) fn followers(&self) -> usize {
        self.topics.lock().streams.len()
    }
}

impl<S: ReactiveState> Current<S> {
    /// A state that is not saved yet, under a new epoch.
    pub(super) fn start(state: S) -> Result<Self, Error> {
        let encoded = encode(&state, ROOM)?;
        Ok(Self::new(state, encoded, Version::start(), false))
    }

    /// What is left for those who follow an instance that does not exist any more.
    pub(super) fn gone() -> Result<Self, Error> {
        Ok(Self { gone: true, ..Self::start(S::default())? })
    }

    pub(super) fn next(&self, state: S, encoded: Stored) -> Self {
        Self::new(state, encoded, self.version.next(), true)
    }

    pub(super) fn stored(state: S, data: Bytes, version: Version, read_only: bool) -> Self {
        Self { read_only, ..Self::new(state, Stored::loaded(data), version, true) }
    }

    fn new(state: S, encoded: Stored, version: Version, stored: bool) -> Self {
        Self {
            state: Arc::new(state),
            encoded,
            version,
            stored,
            read_only: false,
            gone: false,
            image: OnceLock::new(),
        }
    }

    /// The signals, encoded once.
    pub(super) fn image(&self) -> Result<&Image, Error> {
        let image = self.image.get_or_init(|| {
            guard("`signals` panicked", || self.encoded.image(&*self.state, &self.state.signals()))
                .map_err(|error| error.to_string())
                .and_then(|image| image.map_err(|error| error.to_string()))
                .map_err(Arc::from)
        });
        image.as_ref().map_err(|error| Error::internal("the signals cannot be encoded", &(**error).into()))
    }

    pub(super) fn expect(&self) -> Expect {
        if self.stored { Expect::Version(self.version) } else { Expect::Absent }
    }

    pub(super) fn record(&self, ttl: Option<Duration>) -> Record {
        Record { schema: S::SCHEMA, version: self.version, data: self.encoded.data.clone(), ttl }
    }
}

/// The state as it is stored, of which about so many `bytes` are expected.
pub(super) fn encode<S: ReactiveState>(state: &S, bytes: usize) -> Result<Stored, Error> {
    match guard("`serialize` panicked", || Stored::of(state, bytes))? {
        Ok(encoded) => Ok(encoded),
        Err(error) => Err(Error::internal("the state cannot be encoded", &error.into())),
    }
}
