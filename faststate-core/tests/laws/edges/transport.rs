//! A transport between nodes that hangs, refuses calls or is slow.

use super::*;
use crate::board::Add;

/// A transport whose faults the test sets.
#[derive(Debug)]
struct Transport {
    inner: LocalBroadcaster,
    join_hangs: AtomicBool,
    refusals: AtomicUsize,
}

impl Transport {
    fn new(inner: LocalBroadcaster) -> Arc<Self> {
        Arc::new(Self { inner, join_hangs: AtomicBool::new(false), refusals: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Broadcaster for Transport {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        let refuse = |left: usize| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse).is_ok() {
            return Err(BroadcastError::new("not now"));
        }
        self.inner.publish(change).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        self.inner.notify(key, message).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        if self.join_hangs.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        self.inner.join(key).await
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.inner.attach(inbox);
    }
}

/// Two nodes that share a store, each with such a transport.
fn transported() -> ([Arc<StateRegistry>; 2], [Arc<Transport>; 2]) {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = LocalBroadcaster::new();
    let transports = [Transport::new(hub.peer()), Transport::new(hub)];
    let nodes = transports.each_ref().map(|transport| {
        let (memory, transport) = (Arc::clone(&memory), Arc::clone(transport));
        with(|builder| builder.store(memory).broadcaster(transport), |config| config.persist())
    });
    (nodes, transports)
}

#[tokio::test(start_paused = true)]
async fn law_13_hanging_broadcaster_is_an_error() {
    let ([node, _], [transport, _]) = transported();
    transport.join_hangs.store(true, Ordering::SeqCst);
    let asked = Instant::now();
    let refused = node.engine().follow(&TopicName::signals("board"), &Viewer::application(), None, 1).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    assert!(asked.elapsed() <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn law_13_following_ends_within_the_deadline() {
    let Two { b, store_b, .. } = two(|config| config);
    store_b.set(StoreFault::Slow(Duration::from_millis(1500)));
    let asked = Instant::now();
    let refused = b.engine().follow(&TopicName::signals("board"), &Viewer::application(), None, 1).await;
    assert!(refused.is_err(), "following loads twice");
    assert!(asked.elapsed() <= Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn law_04_refused_last_change_reaches_other_nodes() {
    let ([a, b], [transport, _]) = transported();
    let mut tab = Tab::open(&b, &Viewer::application(), &["board"]).await;
    transport.refusals.store(3, Ordering::SeqCst);
    add_one(&board(&a)).await.unwrap();
    add_one(&board(&a)).await.unwrap();
    shows_count(&mut tab, 2).await;
}

#[tokio::test(start_paused = true)]
async fn law_15_accepted_changes_are_broadcast_once_settled() {
    let ([a, b], [transport, _]) = transported();
    let mut tab = Tab::open(&b, &Viewer::application(), &["board"]).await;
    transport.refusals.store(3, Ordering::SeqCst);
    add_one(&board(&a)).await.unwrap();
    a.settle().await;
    b.settle().await;
    tab.read();
    assert!(tab.shows(&Board { count: 1, ..Board::default() }).is_ok());
}

#[tokio::test(start_paused = true)]
async fn law_15_settle_returns_while_the_transport_is_down() {
    let ([a, b], [transport, _]) = transported();
    let mut tab = Tab::open(&b, &Viewer::application(), &["board"]).await;
    transport.refusals.store(usize::MAX, Ordering::SeqCst);
    add_one(&board(&a)).await.unwrap();
    let asked = Instant::now();
    a.settle().await;
    assert!(asked.elapsed() <= Duration::from_secs(5), "{:?}", asked.elapsed());
    // The accepted changes are broadcast when the transport is back.
    transport.refusals.store(0, Ordering::SeqCst);
    shows_count(&mut tab, 1).await;
}

#[tokio::test(start_paused = true)]
async fn law_06_changes_beyond_the_outbox_are_reported_dropped() {
    let (store, hub) = (FaultyStore::new(Arc::new(MemoryStore::new())), LocalBroadcaster::new());
    let transports = [Transport::new(hub.peer()), Transport::new(hub)];
    let [a, b] = transports.each_ref().map(|transport| {
        StateRegistry::builder()
            .store(Arc::clone(&store))
            .broadcaster(Arc::clone(transport))
            .state::<Board>(StateConfig::record().access(Access::public()).persist(), |state| {
                state.event::<Add>().initial(|_| async { Some(Board::default()) })
            })
            .build()
            .unwrap()
    });
    let mut tab = Tab::open(&b, &Viewer::application(), &["board:followed"]).await;
    transports[0].refusals.store(usize::MAX, Ordering::SeqCst);
    let add_one = async |id: &str| {
        a.record::<Board>(id).unwrap().send(Add { amount: 1 }).await.unwrap();
    };
    add_one("followed").await;
    for id in 0..17_000 {
        add_one(&id.to_string()).await;
    }
    tab.read();
    tab.shows(&Board::default()).unwrap();
    transports[0].refusals.store(0, Ordering::SeqCst);
    let asked = Instant::now();
    shows_count(&mut tab, 1).await;
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}: the slow look would find it too",
        asked.elapsed()
    );
}

#[tokio::test]
async fn deadline_that_refuses_every_event_is_a_mistake() {
    let built = |deadline| StateRegistry::builder().deadline(Duration::from_millis(deadline)).build();
    let mistake = built(50).unwrap_err().to_string();
    assert!(mistake.contains("set a longer `deadline`"), "{mistake}");
    assert!(built(0).is_err() && built(51).is_ok());
}

#[tokio::test(start_paused = true)]
async fn law_04_follower_that_joins_as_the_last_leaves_gets_changes() {
    let Two { a, b, store_b, .. } = two(|config| config);
    let viewer = Viewer::application();
    let first = Tab::open(&b, &viewer, &["board"]).await;
    store_b.set(StoreFault::Slow(Duration::from_millis(100)));
    let elsewhere = Some(Version::start());
    let topic = TopicName::signals("board");
    let mut joining = Box::pin(b.engine().follow(&topic, &viewer, elsewhere, 99));
    assert!(poll_once(&mut joining).is_pending());
    drop(first);
    let mut follower = joining.await.unwrap();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(follower.poll_frames(&mut cx, false).is_ready());
    assert!(follower.poll_frames(&mut cx, false).is_pending());
    add_one(&board(&a)).await.unwrap();
    until("the change arrives", async || follower.poll_frames(&mut cx, false).is_ready()).await;
}

#[tokio::test(start_paused = true)]
async fn many_simultaneous_follows_are_accepted() {
    let Two { b, store_b, .. } = two(|config| config.max_queued_events(4));
    store_b.set(StoreFault::Slow(Duration::from_millis(50)));
    let topic = TopicName::signals("board");
    let viewer = Viewer::application();
    let followers = join_all((0..500).map(|stream| b.engine().follow(&topic, &viewer, None, stream))).await;
    assert!(followers.iter().all(Result::is_ok));
    assert!(store_b.loads() < 20, "one load serves all waiting callers: {}", store_b.loads());
}
