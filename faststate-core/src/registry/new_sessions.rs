//! New sessions, whose clients have not yet returned the session cookie.
//!
//! A client that ignores cookies starts a session with each request. Therefore the records of new sessions
//! are kept in memory only. The number of new sessions is limited, per node and per client address, and so is
//! the size of their records. At a limit, a session displaces the oldest one that has no request in progress.
//! When a request carries a session's cookie, the session's records move to the store.

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

use self::records::{HeldRecord, NodeBytes, SessionRecords};
pub(super) use self::store::NewSessionStore;
use super::{Error, dyn_table::DynInstanceTable};
use crate::{EventId, Key, Scope, SessionId, store::Precondition};

/// Maximum number of sessions whose first event is remembered.
const MAX_FIRST_EVENTS: usize = 10_000;
/// Maximum number of instances of one new session.
const MAX_SESSION_INSTANCES: usize = 64;

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
    /// The size of all records. The records of a displaced session count until no call uses them any more.
    bytes: Arc<NodeBytes>,
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
            bytes: Arc::default(),
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
                let oldest = order.oldest_idle(Some(address), None);
                order.take(oldest.ok_or(Error::Busy("too many new sessions from your address"))?)
            } else if order.all.len() >= caps.node {
                let oldest = order.oldest_idle(None, None);
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
                records: tokio::sync::Mutex::new(SessionRecords::new(Arc::clone(&self.bytes))),
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
            records.remove(&key);
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
    /// has [`MAX_SESSION_INSTANCES`] instances.
    pub(super) fn note(&self, key: &Key) -> Result<(), Error> {
        let Some(place) = self.owner(key) else { return Ok(()) };
        let mut instances = place.instances.lock();
        if instances.len() >= MAX_SESSION_INSTANCES {
            return Err(Error::Busy("too many instances of a new session"));
        }
        instances.push(key.clone());
        Ok(())
    }

    /// Displaces the oldest session without a request in progress, except the one that owns this key. Returns whether
    /// there was one.
    fn displace_for(&self, key: &Key) -> bool {
        let own = self.owner(key).map(|place| place.number);
        let displaced = {
            let mut order = self.order.lock();
            let oldest = order.oldest_idle(None, own);
            oldest.and_then(|number| order.take(number))
        };
        let Some(place) = displaced else { return false };
        self.forget(&place);
        true
    }

    /// Removes a displaced session and its instances. Its records are dropped with the last call that uses them.
    fn forget(&self, place: &Place) {
        self.places.remove(&place.session);
        self.count.fetch_sub(1, Ordering::Relaxed);
        let instances = std::mem::take(&mut *place.instances.lock());
        for table in self.tables.get().into_iter().flatten().filter_map(Weak::upgrade) {
            table.evict_if_idle(&instances);
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
    /// is `None`. `Some(None)` selects the sessions whose client address is unknown. The place `except` is skipped.
    fn oldest_idle(&self, address: Option<Option<IpAddr>>, except: Option<u64>) -> Option<u64> {
        let is_idle = |number: &u64| {
            let place = self.all.get(number).filter(|_| Some(*number) != except);
            place.is_some_and(|place| place.requests.load(Ordering::Acquire) == 0)
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
    use super::{records::MAX_NODE_BYTES, *};
    use crate::{
        MemoryStore, Store as _, Version,
        store::{Record, SaveOutcome, StoreError},
    };

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

    const CAPS: Caps = Caps { node: 10_000, address: 10_000 };

    /// Returns the store of a state that sessions own.
    fn store(sessions: &Arc<NewSessions>) -> NewSessionStore {
        NewSessionStore { store: Arc::new(MemoryStore::new()), sessions: Arc::clone(sessions) }
    }

    /// Saves the first record of a session.
    async fn save(
        store: &NewSessionStore,
        session: SessionId,
        bytes: usize,
    ) -> Result<SaveOutcome, StoreError> {
        let key = Key::new("note", Scope::Session, Some(&session.to_string()), None).unwrap();
        let record = Record::new(1, Version::start(), vec![b'1'; bytes], None);
        store.save(&key, &record, Precondition::Absent, None).await
    }

    #[tokio::test]
    async fn law_06_session_displaced_during_a_save_leaves_no_bytes() {
        let sessions = NewSessions::new();
        let store = store(&sessions);
        let (first, second) = (SessionId::random(), SessionId::random());
        drop(sessions.begin(first, None, CAPS).unwrap());
        save(&store, first, 1000).await.unwrap();
        assert_eq!(sessions.bytes.get(), 1000);
        let place = sessions.place(&first).unwrap();
        let records = place.records.lock().await;
        drop(sessions.begin(second, None, Caps { node: 1, address: 1 }).unwrap());
        drop(records);
        drop(place);
        assert_eq!(sessions.bytes.get(), 0, "the records are gone");
    }

    #[tokio::test]
    async fn law_06_records_of_new_sessions_stay_within_the_nodes_bytes() {
        const BYTES: usize = 60_000;
        let sessions = NewSessions::new();
        let store = store(&sessions);
        let mut busy = Vec::new();
        let mut saved = 0;
        for _ in 0..MAX_NODE_BYTES / BYTES + 10 {
            let session = SessionId::random();
            busy.push(sessions.begin(session, None, CAPS).unwrap());
            saved += usize::from(save(&store, session, BYTES).await.is_ok());
        }
        assert_eq!(saved, MAX_NODE_BYTES / BYTES, "no session can be displaced");
        assert_eq!(sessions.bytes.get(), saved * BYTES);
        busy.clear();
        let session = SessionId::random();
        let _busy = sessions.begin(session, None, CAPS).unwrap();
        assert_eq!(save(&store, session, BYTES).await.unwrap(), SaveOutcome::Saved);
        assert_eq!(sessions.bytes.get(), saved * BYTES, "it has displaced the oldest one");
    }
}
