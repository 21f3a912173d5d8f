//! The context that all states of a registry share.

use std::{
    future::Future,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    Error,
    cluster::nodes::Nodes,
    dyn_table::DynInstanceTable,
    interface::StreamRevoker,
    messages::driver::Dispatcher,
    new_sessions::NewSessions,
    panics::{panic_text, poll_once},
};
use crate::{
    Handle, Key, ReactiveState, Revocation,
    broadcast::{Broadcaster, Change},
    event::{Environment, Resources},
    store::StoreError,
};

/// Minimum interval between two evictions of idle instances by a full registry.
const EVICTION_INTERVAL: Duration = Duration::from_millis(100);

/// The context that all states of a registry share.
///
/// # Locking
/// `revokers` protects the list of revokers, `crowded` the time of the last eviction. Neither is held while another lock
/// is taken or across an await, and no event takes either of them.
pub(super) struct Shared {
    pub(super) environment: Arc<Environment>,
    pub(super) deadline: Duration,
    pub(super) started: Instant,
    pub(super) nodes: Option<Nodes>,
    pub(super) new_sessions: Arc<NewSessions>,
    /// This node's name.
    pub(super) node: Arc<str>,
    revokers: Mutex<Vec<Weak<dyn StreamRevoker>>>,
    #[cfg(feature = "inspector")]
    pub(super) watchers: super::observe::trace::Watchers,
    pub(super) events: AtomicU64,
    pub(super) conflicts: AtomicU64,
    tasks: TaskTracker,
    background: Arc<Semaphore>,
    instances: AtomicUsize,
    max_instances: usize,
    /// The instance tables of all states, from which idle instances are evicted.
    pub(super) tables: OnceLock<Vec<Weak<dyn DynInstanceTable>>>,
    /// When a full registry last evicted idle instances.
    crowded: Mutex<Option<Instant>>,
    /// The messages and jobs that this node delivers.
    pub(super) messages: Arc<Dispatcher>,
    /// Whether this node has left the others, so that it takes over no more messages. Relaxed, because it orders no other
    /// memory.
    has_left: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        resources: Resources,
        deadline: Duration,
        background: usize,
        max_instances: usize,
        broadcaster: Option<Arc<dyn Broadcaster>>,
        node: Arc<str>,
        messages: Dispatcher,
    ) -> Self {
        Self {
            environment: Arc::new(Environment::new(resources)),
            deadline,
            started: Instant::now(),
            nodes: broadcaster.map(Nodes::new),
            new_sessions: NewSessions::new(),
            node,
            revokers: Mutex::default(),
            #[cfg(feature = "inspector")]
            watchers: super::observe::trace::Watchers::default(),
            events: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            background: Arc::new(Semaphore::new(background.min(Semaphore::MAX_PERMITS))),
            instances: AtomicUsize::new(0),
            max_instances,
            tables: OnceLock::new(),
            crowded: Mutex::new(None),
            messages: Arc::new(messages),
            has_left: AtomicBool::new(false),
        }
    }

    /// Claims messages and jobs of an instance for this node, after a save that began at `asked`, and delivers them.
    pub(super) fn claim_messages(&self, key: &Key, ids: Vec<u128>, asked: Instant) {
        if let Some(driver) = self.messages.claim(key, ids, asked) {
            self.spawn(driver);
        }
    }

    /// Makes this node take over no more messages, and lets the other nodes take those that it has claimed.
    pub(super) async fn stop_messages(&self) {
        self.has_left.store(true, Ordering::Relaxed);
        let hand_over = self.messages.hand_over();
        if timeout(self.deadline, hand_over).await.is_err() {
            tracing::warn!("some messages were not handed over; other nodes take them within 30 s");
        }
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    /// Returns a handle, unless the registry has been dropped.
    pub(super) fn handle<S: ReactiveState>(&self, key: &Key) -> Option<Handle<S>> {
        Some(Handle::new(self.environment.registry().ok()?, key.clone()))
    }

    /// Polls `future` once, and spawns it as a task if it is pending.
    pub(super) fn detach(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut future = future.boxed();
        if poll_once(future.as_mut()).is_pending() {
            self.tasks.spawn(future);
        }
    }

    /// Spawns `future` as a task without polling it here.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(future.boxed());
    }

    /// Spawns `future` as a task and waits for it. Dropping the returned future does not stop the task.
    pub(super) async fn detached<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        self.tasks
            .spawn(future.boxed())
            .await
            .map_err(|error| Error::internal("a task of the engine failed", &error.into()))
    }

    /// Spawns an event's background work.
    pub(super) fn background<W: Future<Output = ()> + Send>(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce() -> W + Send + 'static,
    ) {
        self.spawn(async move {
            let _permit = permit;
            // The closure is called inside the task as well, because a panic must not fail the committed event.
            let worked = std::panic::AssertUnwindSafe(async { work().await }).catch_unwind().await;
            if let Err(panic) = worked {
                tracing::error!(error = %panic_text(&*panic), "work after a commit panicked");
            }
        });
    }

    /// Reserves permits for this number of background tasks.
    pub(super) fn room_for(&self, pieces: usize) -> Result<Vec<OwnedSemaphorePermit>, Error> {
        (0..pieces)
            .map(|_| {
                Arc::clone(&self.background)
                    .try_acquire_owned()
                    .map_err(|_| Error::Busy("too much work after commits"))
            })
            .collect()
    }

    /// Waits until all tasks of the engine have ended, and, unless the transport refuses, until the other nodes have been
    /// notified.
    pub(super) async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        if let Some(nodes) = &self.nodes {
            nodes.settle().await;
        }
    }

    /// Counts one more instance. Returns false if the limit is reached.
    pub(super) fn instance_enters(&self) -> bool {
        self.instances
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                (held < self.max_instances).then_some(held + 1)
            })
            .is_ok()
    }

    /// Evicts idle instances of every state, at most once every 100 ms.
    pub(super) fn make_room(&self) {
        let now = Instant::now();
        {
            let mut crowded = self.crowded.lock();
            if crowded.is_some_and(|at| now - at < EVICTION_INTERVAL) {
                return;
            }
            *crowded = Some(now);
        }
        let tables = self.tables.get().into_iter().flatten();
        tables.filter_map(Weak::upgrade).for_each(|table| table.evict_idle());
    }

    pub(super) fn instances_leave(&self, count: usize) {
        self.instances.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn instances(&self) -> usize {
        self.instances.load(Ordering::Relaxed)
    }

    pub(super) fn guard_streams(&self, revoker: Weak<dyn StreamRevoker>) {
        let mut revokers = self.revokers.lock();
        revokers.retain(|revoker| revoker.strong_count() > 0);
        revokers.push(revoker);
    }

    /// Closes streams on this node.
    pub(super) fn close_streams(&self, revocation: &Revocation) {
        self.revokers().iter().for_each(|revoker| revoker.revoke(revocation));
    }

    /// Schedules an access check of every stream on this node.
    pub(super) fn doubt_streams(&self) {
        self.revokers().iter().for_each(|revoker| revoker.recheck_soon());
    }

    fn revokers(&self) -> Vec<Arc<dyn StreamRevoker>> {
        self.revokers.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Closes streams on this node, and sends the revocation to the other nodes.
    pub(super) async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.close_streams(&revocation);
        let Some(nodes) = &self.nodes else { return Ok(()) };
        let deadline = Instant::now() + self.deadline;
        if nodes.revoke(revocation, deadline).await {
            return Ok(());
        }
        Err(Error::Unavailable(StoreError::Unavailable(
            "the other nodes have not been notified yet; this node keeps trying for up to 5 minutes".into(),
        )))
    }

    /// Queues a change for the other nodes. It is sent after the turn.
    pub(super) fn publish(&self, change: impl FnOnce() -> Change) {
        if let Some(nodes) = &self.nodes {
            nodes.publish(change());
        }
    }

    /// Returns a future that sends the queued changes to the other nodes, or `None` if there are none or another task is
    /// sending them.
    pub(super) fn publishing(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.nodes.as_ref()?.publishing()
    }
}
