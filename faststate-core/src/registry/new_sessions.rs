//! New sessions, whose clients have not yet returned the session cookie.
//!
//! A client that ignores cookies starts a session with each request. Therefore the records of new sessions
//! are kept in memory only, and the number of new sessions is limited, per node and per client address. At a
//! limit, each further session displaces the oldest one that has no request in progress. When a request
//! carries a session's cookie, the session's records move to the store.

mod records;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;
use parking_lot::Mutex;

use self::records::{HeldRecord, SessionRecords};
pub(super) use self::store::NewSessionStore;
use super::{Error, dyn_table::DynInstanceTable};
use crate::{EventId, Key, Scope, SessionId, store::Precondition};

/// Size of the records of all new sessions, in bytes, from which on each further session displaces the oldest
/// one.
const NODE_BYTES: usize = 32 * 1024 * 1024;
/// Maximum number of sessions whose first event is remembered.
const MAX_FIRST_EVENTS: usize = 10_000;
/// Maximum number of instances of one new session.
const SESSION_INSTANCES: usize = 64;

/// The maximum numbers of new sessions.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// The maximum per node.
    pub node: usize,
    /// The maximum per client address.
    pub address: usize,
}

/// The new sessions of one registry.
///
/// An endpoint calls [`begin`](Self::begin) when a session starts, and [`returned`](Self::returned) when its
/// client returns the cookie. Until then, the session has a `Place`.
///
/// # Locking
/// `order` protects the list of places, `first_events` protects the first event of each session, and each
/// place's `instances` lock protects the keys of its instances. None of these locks is held across an await
/// or while another lock is taken.
///
/// Each place's `records` have an asynchronous lock. [`returned`](Self::returned) holds it while it moves the
/// records to the store, so that the session's saves wait.
pub struct NewSessions {
    places: DashMap<SessionId, Arc<Place>>,
    order: Mutex<Order>,
    /// The number of places. While it is 0, lookups are skipped.
    count: AtomicUsize,
    /// The size of all records, in bytes.
    bytes: AtomicUsize,
    /// The event that started each session. The client may repeat this event with the new cookie, and the
    /// repeat must be recognised.
    first_events: Mutex<FirstEvents>,
    /// The tables from which the instances of displaced sessions are removed.
    tables: OnceLock<Vec<Weak<dyn DynInstanceTable>>>,
}

/// One new session, with its instances and its records.
struct Place {
    session: SessionId,
    address: Option<IpAddr>,
    /// The key of this place in [`Order::all`].
    number: u64,
    /// 1 until the request that started the session has ended, then 0. Only at 0 can the session be
    /// displaced.
    requests: AtomicUsize,
    instances: Mutex<Vec<Key>>,
    records: tokio::sync::Mutex<SessionRecords>,
}

/// The places in the order in which their sessions started.
#[derive(Default)]
struct Order {
    /// The number of the next place.
    next: u64,
    all: BTreeMap<u64, Arc<Place>>,
    addresses: HashMap<Option<IpAddr>, BTreeSet<u64>>,
}

/// The first events of the newest sessions.
#[derive(Default)]
struct FirstEvents {
    events: HashMap<SessionId, EventId>,
    /// The keys of `events`, oldest first.
    order: VecDeque<SessionId>,
}

/// A guard that protects a new session from displacement. The request that started the session holds it.
pub struct NewSession {
    place: Arc<Place>,
}

impl NewSessions {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            places: DashMap::new(),
            order: Mutex::default(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            first_events: Mutex::default(),
            tables: OnceLock::new(),
        })
    }

    /// Sets the tables from which the instances of displaced sessions are removed. Only the first call has an effect.
    pub(super) fn set_tables(&self, tables: Vec<Weak<dyn DynInstanceTable>>) {
        let _ = self.tables.set(tables);
    }

    /// Adds a session that has just started. It cannot be displaced before the returned guard is dropped.
    ///
    /// # Errors
    /// [`Error::Busy`] if a limit is reached and every session that counts towards it has a request in
    /// progress.
    pub fn begin(
        &self,
        session: SessionId,
        address: Option<IpAddr>,
        caps: Caps,
    ) -> Result<Arc<NewSession>, Error> {
        let (place, displaced) = {
            let mut order = self.order.lock();
            // At most one session is displaced: one of the same address makes room on the node as well.
            let displaced = if order.addresses.get(&address).is_some_and(|own| own.len() >= caps.address) {
                let oldest = order.oldest_idle(Some(address));
                order.take(oldest.ok_or(Error::Busy("too many new sessions from your address"))?)
            } else if order.all.len() >= caps.node || self.bytes.load(Ordering::Relaxed) >= NODE_BYTES {
                let oldest = order.oldest_idle(None);
                order.take(oldest.ok_or(Error::Busy("too many new sessions"))?)
            } else {
                None
            };
            let number = order.next;
            order.next += 1;
            let place = Arc::new(Place {
                session,
                address,
                number,
                requests: AtomicUsize::new(1),
                instances: Mutex::default(),
                records: tokio::sync::Mutex::default(),
            });
            order.all.insert(number, Arc::clone(&place));
            order.addresses.entry(address).or_default().insert(number);
            (place, displaced)
        };
        self.places.insert(session, Arc::clone(&place));
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = displaced {
            self.forget(&place);
        }
        Ok(Arc::new(NewSession { place }))
    }

    /// Moves the records of a session to the store if the session was new. The caller has received a request
    /// with the session's cookie.
    pub async fn returned(&self, session: &SessionId) {
        let Some(place) = self.place(session) else { return };
        let mut records = place.records.lock().await;
        let keys: Vec<Key> = records.held.keys().cloned().collect();
        for key in keys {
            let Some(HeldRecord { record, receipts, store }) = records.held.get(&key) else { continue };
            // If another node has saved the record in the meantime, the save is a conflict and changes nothing.
            if let Err(error) = store.save(&key, record, Precondition::Absent, receipts.last()).await {
                tracing::warn!(
                    ?key,
                    error = &error as &dyn std::error::Error,
                    "a new session was not saved; the next request tries again"
                );
                return;
            }
            if let Some(held) = records.held.remove(&key) {
                self.bytes.fetch_sub(held.record.data.len(), Ordering::Relaxed);
            }
        }
        records.moved = true;
        drop(records);
        let found = { self.order.lock().take(place.number) };
        if let Some(place) = found {
            self.places.remove(&place.session);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Records the event that started a new session.
    pub fn begins_with(&self, session: SessionId, event: EventId) {
        let mut first_events = self.first_events.lock();
        if first_events.order.len() >= MAX_FIRST_EVENTS
            && let Some(oldest) = first_events.order.pop_front()
        {
            first_events.events.remove(&oldest);
        }
        first_events.order.push_back(session);
        first_events.events.insert(session, event);
    }

    /// Returns whether this event started the session.
    pub fn began_with(&self, session: &SessionId, event: &EventId) -> bool {
        self.first_events.lock().events.get(session) == Some(event)
    }

    /// Records an instance before it is created, if it belongs to a new session. Fails if the session already
    /// has [`SESSION_INSTANCES`] instances.
    pub(super) fn note(&self, key: &Key) -> Result<(), Error> {
        let Some(place) = self.owner(key) else { return Ok(()) };
        let mut instances = place.instances.lock();
        if instances.len() >= SESSION_INSTANCES {
            return Err(Error::Busy("too many instances of a new session"));
        }
        instances.push(key.clone());
        Ok(())
    }

    /// Removes a displaced session, its records and its instances.
    fn forget(&self, place: &Place) {
        self.places.remove(&place.session);
        self.count.fetch_sub(1, Ordering::Relaxed);
        let instances = std::mem::take(&mut *place.instances.lock());
        for table in self.tables.get().into_iter().flatten().filter_map(Weak::upgrade) {
            table.evict_if_idle(&instances);
        }
        // The lock is free, unless the cookie has just returned or the client disconnected during a save. In
        // the first case, `returned` subtracts the sizes of the records that it moves.
        if let Ok(mut records) = place.records.try_lock() {
            let bytes: usize = records.held.drain().map(|(_, held)| held.record.data.len()).sum();
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Returns whether there are new sessions.
    pub fn has_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    fn place(&self, session: &SessionId) -> Option<Arc<Place>> {
        if !self.has_any() {
            return None;
        }
        self.places.get(session).map(|place| Arc::clone(&place))
    }

    /// Returns the place of the new session that owns a key.
    fn owner(&self, key: &Key) -> Option<Arc<Place>> {
        if !self.has_any() || !matches!(key.scope(), Scope::Session | Scope::Component) {
            return None;
        }
        let id = u128::from_str_radix(&key.owner()?, 16).ok()?;
        self.place(&SessionId::from_bytes(id.to_be_bytes()))
    }
}

impl Order {
    /// Returns the oldest place without a request in progress: of one client address, or of all if `address`
    /// is `None`. `Some(None)` selects the sessions whose client address is unknown.
    fn oldest_idle(&self, address: Option<Option<IpAddr>>) -> Option<u64> {
        let is_idle = |number: &u64| {
            self.all.get(number).is_some_and(|place| place.requests.load(Ordering::Acquire) == 0)
        };
        match address {
            Some(address) => self.addresses.get(&address)?.iter().copied().find(is_idle),
            None => self.all.keys().copied().find(is_idle),
        }
    }

    /// Removes a place.
    fn take(&mut self, number: u64) -> Option<Arc<Place>> {
        let place = self.all.remove(&number)?;
        if let Some(own) = self.addresses.get_mut(&place.address) {
            own.remove(&number);
            if own.is_empty() {
                self.addresses.remove(&place.address);
            }
        }
        Some(place)
    }
}

impl Drop for NewSession {
    fn drop(&mut self) {
        self.place.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NewSession").field(&self.place.session).finish()
    }
}

impl fmt::Debug for NewSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSessions").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_06_session_displaced_for_its_address_is_forgotten() {
        let sessions = NewSessions::new();
        let address = |last| Some(IpAddr::from([127, 0, 0, last]));
        let begin = |last, caps| sessions.begin(SessionId::random(), address(last), caps);
        let many = Caps { node: 10, address: 10 };
        drop(begin(1, many).unwrap());
        let _busy = [begin(2, many).unwrap(), begin(2, many).unwrap()];
        // The first session makes room for its address. All others have a request in progress.
        let _new = begin(1, Caps { node: 2, address: 1 }).unwrap();
        assert_eq!((sessions.order.lock().all.len(), sessions.places.len()), (3, 3));
        assert_eq!(sessions.count.load(Ordering::Relaxed), 3);
        assert!(begin(3, Caps { node: 3, address: 1 }).is_err(), "no session can be displaced");
        assert_eq!((sessions.order.lock().all.len(), sessions.places.len()), (3, 3));
    }
}
