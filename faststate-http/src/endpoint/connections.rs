//! The open streams of one endpoint: limits, closing and draining.

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

use faststate_core::{
    Revocation, SessionId, Viewer,
    internal::{Count, StreamRevoker},
};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use slab::Slab;
use tokio::{sync::Notify, time::Instant};

use super::limits::{Limits, limit};

/// The id of the next stream. All endpoints of the process share this counter, because they may share a
/// registry, which treats two streams with the same id as one.
static NEXT_STREAM_ID: AtomicU64 = AtomicU64::new(0);

/// The open streams of one endpoint. Enforces their limits, closes the streams of a viewer, and drains them.
///
/// # Locking
/// `open` protects the table of streams and its counts, `window` protects the length of the drain, and each
/// stream's `viewer` lock protects its viewer. No code holds two of these locks, or one of them across an
/// await.
///
/// `closing`, `recheck_requested` and `draining` are stored before the stream's waker is called, and the
/// stream's task registers the waker before it reads them, so no change is missed.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<OpenStreams>,
    /// Notified of every stream that ends during a drain.
    ended: Notify,
    /// The number of calls so far that closed streams or requested rechecks. Such a call can miss a stream
    /// that is opening. Therefore the stream reads this number before and after it enters the table, and
    /// rechecks access if the number has changed. `SeqCst` is stronger than required: the lock of `open`
    /// already orders the accesses.
    closings: AtomicU64,
    draining: AtomicBool,
    /// The length of the drain.
    window: Mutex<Duration>,
    meter: StreamMeter,
}

/// Counters over all streams, including the ended ones.
#[derive(Debug, Default)]
pub(super) struct StreamMeter {
    pub(super) opened: Count,
    /// The number of refused streams, indexed by [`StreamLimit`].
    pub(super) refused: [Count; 3],
    pub(super) writes: Count,
    pub(super) bytes: Count,
}

#[derive(Debug, Default)]
struct OpenStreams {
    streams: Slab<Arc<OpenStream>>,
    sessions: HashMap<SessionId, usize>,
    addresses: HashMap<IpAddr, usize>,
}

/// The part of a stream that other tasks access.
#[derive(Debug)]
struct OpenStream {
    viewer: Mutex<Viewer>,
    closing: AtomicBool,
    /// Whether access must be rechecked earlier than the interval of rechecks requires.
    recheck_requested: AtomicBool,
    waker: AtomicWaker,
}

/// Permission to keep a stream open. Dropping it removes the stream from the table and its counts.
#[derive(Debug)]
pub(super) struct StreamPermit {
    streams: Arc<Connections>,
    stream: Arc<OpenStream>,
    slot: usize,
    id: u64,
    session: Option<SessionId>,
    address: Option<IpAddr>,
}

/// The limit that refuses a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamLimit {
    Node,
    Session,
    Address,
}

impl Connections {
    /// Registers a stream, or returns the limit that refuses it.
    pub(super) fn enter(
        self: &Arc<Self>,
        limits: &Limits,
        viewer: Viewer,
        address: Option<IpAddr>,
    ) -> Result<StreamPermit, StreamLimit> {
        let entered = self.try_enter(limits, viewer, address);
        match &entered {
            Ok(_) => self.meter.opened.add(1),
            Err(reached) => self.meter.refused[*reached as usize].add(1),
        }
        entered
    }

    fn try_enter(
        self: &Arc<Self>,
        limits: &Limits,
        viewer: Viewer,
        address: Option<IpAddr>,
    ) -> Result<StreamPermit, StreamLimit> {
        let session = viewer.session_id().copied();
        let mut open = self.open.lock();
        let or_zero = |count: Option<&usize>| count.copied().unwrap_or(0);
        if open.streams.len() >= limit(limits.streams) {
            return Err(StreamLimit::Node);
        }
        if session.is_some_and(|id| or_zero(open.sessions.get(&id)) >= limit(limits.streams_per_session)) {
            return Err(StreamLimit::Session);
        }
        if address.is_some_and(|ip| or_zero(open.addresses.get(&ip)) >= limit(limits.streams_per_address)) {
            return Err(StreamLimit::Address);
        }
        session.iter().for_each(|id| *open.sessions.entry(*id).or_default() += 1);
        address.iter().for_each(|ip| *open.addresses.entry(*ip).or_default() += 1);
        let stream = Arc::new(OpenStream {
            viewer: Mutex::new(viewer),
            closing: AtomicBool::new(false),
            recheck_requested: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let slot = open.streams.insert(Arc::clone(&stream));
        let id = NEXT_STREAM_ID.fetch_add(1, Ordering::Relaxed);
        Ok(StreamPermit { streams: Arc::clone(self), stream, slot, id, session, address })
    }

    #[cfg(feature = "metrics")]
    pub(super) const fn meter(&self) -> &StreamMeter {
        &self.meter
    }

    pub(super) fn len(&self) -> usize {
        self.open.lock().streams.len()
    }

    /// Returns the number of calls so far that closed streams or requested rechecks.
    pub(super) fn closings(&self) -> u64 {
        self.closings.load(Ordering::SeqCst)
    }

    /// Ends every stream for whose viewer `ends` returns true. Returns the number of these streams.
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

    /// Ends each stream at a random moment of the window. Returns when all have ended, or shortly after the
    /// window.
    pub(super) async fn drain(&self, window: Duration) {
        *self.window.lock() = window;
        self.draining.store(true, Ordering::Release);
        self.all().iter().for_each(|stream| stream.waker.wake());
        // Slightly longer than the window, so that the last streams end by themselves.
        let deadline = Instant::now() + window + window / 10 + Duration::from_millis(50);
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.len() == 0 || tokio::time::timeout_at(deadline, ended).await.is_err() {
                return;
            }
        }
    }

    fn all(&self) -> Vec<Arc<OpenStream>> {
        self.open.lock().streams.iter().map(|(_, stream)| Arc::clone(stream)).collect()
    }
}

impl StreamRevoker for Connections {
    fn revoke(&self, revocation: &Revocation) {
        self.close(|viewer| revocation.concerns(viewer));
    }

    fn recheck_soon(&self) {
        self.closings.fetch_add(1, Ordering::SeqCst);
        for stream in self.all() {
            stream.recheck_requested.store(true, Ordering::Release);
            stream.waker.wake();
        }
    }
}

impl StreamPermit {
    /// Returns the stream's id, which is unique in this process.
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// Registers the waker that is called when the stream is closed, rechecked or drained.
    pub(super) fn register_waker(&self, waker: &Waker) {
        self.stream.waker.register(waker);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.stream.closing.load(Ordering::Acquire)
    }

    /// Returns whether an early recheck of access was requested, and clears the request.
    pub(super) fn take_recheck_request(&self) -> bool {
        self.stream.recheck_requested.swap(false, Ordering::AcqRel)
    }

    /// Returns the delay after which the stream must end, or `None` if the endpoint is not draining. Each
    /// call chooses another random delay within the drain's window.
    pub(super) fn drain_delay(&self) -> Option<Duration> {
        self.streams.is_draining().then(|| self.streams.window.lock().mul_f64(rand::random::<f64>()))
    }

    /// Counts one write of `bytes` bytes to the stream.
    pub(super) fn count_write(&self, bytes: usize) {
        self.streams.meter.writes.add(1);
        self.streams.meter.bytes.add(bytes);
    }

    /// Replaces the viewer after a recheck.
    pub(super) fn set_viewer(&self, viewer: Viewer) {
        *self.stream.viewer.lock() = viewer;
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        open.streams.try_remove(self.slot);
        if let Some(session) = &self.session {
            decrement(&mut open.sessions, session);
        }
        if let Some(address) = &self.address {
            decrement(&mut open.addresses, address);
        }
        drop(open);
        if self.streams.is_draining() {
            self.streams.ended.notify_waiters();
        }
    }
}

/// Decrements a count and removes it at zero.
fn decrement<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
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
    fn law_06_streams_are_capped_by_node_session_and_address() {
        let streams = Arc::new(Connections::default());
        let limits =
            Limits { streams: 3, streams_per_session: 1, streams_per_address: 2, ..Limits::default() };
        let someone = viewer();
        let first = streams.enter(&limits, someone.clone(), ip("1.1.1.1")).unwrap();
        assert_eq!(streams.enter(&limits, someone.clone(), ip("2.2.2.2")).unwrap_err(), StreamLimit::Session);
        let _second = streams.enter(&limits, viewer(), ip("1.1.1.1")).unwrap();
        assert_eq!(streams.enter(&limits, viewer(), ip("1.1.1.1")).unwrap_err(), StreamLimit::Address);
        let _third = streams.enter(&limits, viewer(), None).unwrap();
        assert_eq!(streams.enter(&limits, viewer(), None).unwrap_err(), StreamLimit::Node);
        drop(first);
        let again = streams.enter(&limits, someone, ip("1.1.1.1")).unwrap();
        assert_eq!(streams.len(), 3);
        drop(again);
    }

    #[test]
    fn streams_of_two_endpoints_have_different_ids() {
        let endpoints = [Arc::new(Connections::default()), Arc::new(Connections::default())];
        let enter = |streams: &Arc<Connections>| streams.enter(&Limits::default(), viewer(), None).unwrap();
        let permits = endpoints.each_ref().map(enter);
        assert_ne!(permits[0].id(), permits[1].id(), "a registry treats streams with one id as the same");
    }

    #[test]
    fn law_06_ended_streams_leave_no_counts() {
        let streams = Arc::new(Connections::default());
        let unlimited =
            Limits { streams: 0, streams_per_session: 0, streams_per_address: 0, ..Limits::default() };
        let all: Vec<_> = (0..100).map(|_| streams.enter(&unlimited, viewer(), ip("::1")).unwrap()).collect();
        assert_eq!(streams.len(), 100);
        drop(all);
        let open = streams.open.lock();
        assert!(open.streams.is_empty() && open.sessions.is_empty() && open.addresses.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn law_15_drain_returns_with_the_last_stream_or_its_window() {
        let streams = Arc::new(Connections::default());
        let permit = streams.enter(&Limits::default(), viewer(), None).unwrap();
        assert_eq!(permit.drain_delay(), None);
        let start = Instant::now();
        streams.drain(Duration::from_secs(5)).await;
        assert!(start.elapsed() >= Duration::from_secs(5) && start.elapsed() < Duration::from_secs(6));
        assert!(permit.drain_delay().unwrap() <= Duration::from_secs(5));
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
