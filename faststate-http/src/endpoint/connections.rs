//! Every stream that is open on this node.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use faststate_core::{Revocation, SessionId, Viewer, internal::Count, registry::StreamRevoker};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use slab::Slab;
use tokio::{sync::Notify, time::Instant};

use super::limits::{Limits, limit};

/// The next stream's name. Of the process, since several endpoints may share a registry, which takes two streams of
/// one name for one.
static NAMES: AtomicU64 = AtomicU64::new(0);

/// Every stream that is open on this node: counted against the limits, closed for a viewer, drained.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Mutex<Open>,
    ended: Notify,
    /// Raised with each call that closes streams, so that one that is just opening notices.
    closings: AtomicU64,
    draining: AtomicBool,
    window: Mutex<Duration>,
    meter: Meter,
}

/// What went through the streams.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) opened: Count,
    /// Of the node, a session, an address.
    pub(super) full: [Count; 3],
    pub(super) writes: Count,
    pub(super) bytes: Count,
}

#[derive(Debug, Default)]
struct Open {
    streams: Slab<Arc<Stream>>,
    sessions: HashMap<SessionId, usize>,
    addresses: HashMap<IpAddr, usize>,
}

/// What others can tell a stream.
#[derive(Debug)]
struct Stream {
    viewer: Mutex<Viewer>,
    closing: AtomicBool,
    /// Whether its access is to be checked soon.
    doubtful: AtomicBool,
    waker: AtomicWaker,
}

/// A stream's place among the open ones, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    streams: Arc<Streams>,
    stream: Arc<Stream>,
    slot: usize,
    name: u64,
    session: Option<SessionId>,
    address: Option<IpAddr>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Node,
    Session,
    Address,
}

impl Streams {
    pub(super) fn enter(
        self: &Arc<Self>,
        limits: &Limits,
        viewer: Viewer,
        address: Option<IpAddr>,
    ) -> Result<Permit, Full> {
        let entered = self.try_enter(limits, viewer, address);
        match &entered {
            Ok(_) => self.meter.opened.add(1),
            Err(full) => self.meter.full[*full as usize].add(1),
        }
        entered
    }

    fn try_enter(
        self: &Arc<Self>,
        limits: &Limits,
        viewer: Viewer,
        address: Option<IpAddr>,
    ) -> Result<Permit, Full> {
        let session = viewer.session_id().copied();
        let mut open = self.open.lock();
        let of = |count: Option<&usize>| count.copied().unwrap_or(0);
        if open.streams.len() >= limit(limits.streams) {
            return Err(Full::Node);
        }
        if session.is_some_and(|id| of(open.sessions.get(&id)) >= limit(limits.streams_per_session)) {
            return Err(Full::Session);
        }
        if address.is_some_and(|ip| of(open.addresses.get(&ip)) >= limit(limits.streams_per_address)) {
            return Err(Full::Address);
        }
        session.iter().for_each(|id| *open.sessions.entry(*id).or_default() += 1);
        address.iter().for_each(|ip| *open.addresses.entry(*ip).or_default() += 1);
        let stream = Arc::new(Stream {
            viewer: Mutex::new(viewer),
            closing: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let slot = open.streams.insert(Arc::clone(&stream));
        let name = NAMES.fetch_add(1, Ordering::Relaxed);
        Ok(Permit { streams: Arc::clone(self), stream, slot, name, session, address })
    }

    #[cfg(feature = "metrics")]
    pub(super) const fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(super) fn len(&self) -> usize {
        self.open.lock().streams.len()
    }

    pub(super) fn closings(&self) -> u64 {
        self.closings.load(Ordering::SeqCst)
    }

    /// Ends the streams of the viewers that `ends` picks; says how many.
    pub(super) fn close(&self, ends: impl Fn(&Viewer) -> bool) -> usize {
        self.closings.fetch_add(1, Ordering::SeqCst);
        let mut closed = 0;
        for stream in self.all() {
            let viewer = stream.viewer.lock().clone();
            if ends(&viewer) {
                stream.closing.store(true, Ordering::Release);
                stream.waker.wake();
                closed += 1;
            }
        }
        closed
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Ends each stream at a random moment of the window; returns when all have ended, or with the window.
    pub(super) async fn drain(&self, window: Duration) {
        *self.window.lock() = window;
        self.draining.store(true, Ordering::Release);
        self.all().iter().for_each(|stream| stream.waker.wake());
        // A little more than the window, so that the last ones still end by themselves.
        let over = Instant::now() + window + window / 10 + Duration::from_millis(50);
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.len() == 0 || tokio::time::timeout_at(over, ended).await.is_err() {
                return;
            }
        }
    }

    fn all(&self) -> Vec<Arc<Stream>> {
        self.open.lock().streams.iter().map(|(_, stream)| Arc::clone(stream)).collect()
    }
}

impl StreamRevoker for Streams {
    fn revoke(&self, revocation: &Revocation) {
        self.close(|viewer| revocation.concerns(viewer));
    }

    fn recheck_soon(&self) {
        self.closings.fetch_add(1, Ordering::SeqCst);
        for stream in self.all() {
            stream.doubtful.store(true, Ordering::Release);
            stream.waker.wake();
        }
    }
}

impl Permit {
    /// Names the stream within this process.
    pub(super) const fn name(&self) -> u64 {
        self.name
    }

    /// Has the stream's task woken by whoever tells it something.
    pub(super) fn listen(&self, waker: &Waker) {
        self.stream.waker.register(waker);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.stream.closing.load(Ordering::Acquire)
    }

    /// Whether access is to be checked before its time; asked once.
    pub(super) fn takes_doubt(&self) -> bool {
        self.stream.doubtful.swap(false, Ordering::AcqRel)
    }

    /// How long this stream may go on, once the node drains.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.streams.is_draining().then(|| self.streams.window.lock().mul_f64(rand::random::<f64>()))
    }

    /// A piece goes out.
    pub(super) fn sends(&self, bytes: usize) {
        self.streams.meter.writes.add(1);
        self.streams.meter.bytes.add(bytes);
    }

    pub(super) fn is(&self, viewer: Viewer) {
        *self.stream.viewer.lock() = viewer;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        open.streams.try_remove(self.slot);
        if let Some(session) = &self.session {
            leave(&mut open.sessions, session);
        }
        if let Some(address) = &self.address {
            leave(&mut open.addresses, address);
        }
        drop(open);
        if self.streams.is_draining() {
            self.streams.ended.notify_waiters();
        }
    }
}

fn leave<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer() -> Viewer {
        Viewer::session(SessionId::random())
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn law_06_streams_have_caps() {
        let streams = Arc::new(Streams::default());
        let limits =
            Limits { streams: 3, streams_per_session: 1, streams_per_address: 2, ..Limits::default() };
        let someone = viewer();
        let first = streams.enter(&limits, someone.clone(), ip("1.1.1.1")).unwrap();
        assert_eq!(streams.enter(&limits, someone.clone(), ip("2.2.2.2")).unwrap_err(), Full::Session);
        let _second = streams.enter(&limits, viewer(), ip("1.1.1.1")).unwrap();
        assert_eq!(streams.enter(&limits, viewer(), ip("1.1.1.1")).unwrap_err(), Full::Address);
        let _third = streams.enter(&limits, viewer(), None).unwrap();
        assert_eq!(streams.enter(&limits, viewer(), None).unwrap_err(), Full::Node);
        drop(first);
        let again = streams.enter(&limits, someone, ip("1.1.1.1")).unwrap();
        assert_eq!(streams.len(), 3);
        drop(again);
    }

    #[test]
    fn streams_of_two_endpoints_have_names_of_their_own() {
        let endpoints = [Arc::new(Streams::default()), Arc::new(Streams::default())];
        let enter = |streams: &Arc<Streams>| streams.enter(&Limits::default(), viewer(), None).unwrap();
        let permits = endpoints.each_ref().map(enter);
        assert_ne!(permits[0].name(), permits[1].name(), "a registry takes streams of one name for one");
    }

    #[test]
    fn law_06_nothing_is_left_of_streams_that_ended() {
        let streams = Arc::new(Streams::default());
        let unlimited =
            Limits { streams: 0, streams_per_session: 0, streams_per_address: 0, ..Limits::default() };
        let all: Vec<_> = (0..100).map(|_| streams.enter(&unlimited, viewer(), ip("::1")).unwrap()).collect();
        assert_eq!(streams.len(), 100);
        drop(all);
        let open = streams.open.lock();
        assert!(open.streams.is_empty() && open.sessions.is_empty() && open.addresses.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn law_15_a_drain_waits_for_the_streams_and_no_longer_than_its_window() {
        let streams = Arc::new(Streams::default());
        let permit = streams.enter(&Limits::default(), viewer(), None).unwrap();
        assert_eq!(permit.time_left(), None);
        let start = Instant::now();
        streams.drain(Duration::from_secs(5)).await;
        assert!(start.elapsed() >= Duration::from_secs(5) && start.elapsed() < Duration::from_secs(6));
        assert!(permit.time_left().unwrap() <= Duration::from_secs(5));
        let ending = tokio::spawn({
            let streams = Arc::clone(&streams);
            async move { streams.drain(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        drop(permit);
        let start = Instant::now();
        ending.await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
