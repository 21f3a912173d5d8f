//! Where the engine's parts meet: what hangs, vanishes, panics or fails at the wrong moment.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Access, Broadcaster, Context, Error, Event, EventId, Handle, Key, LocalBroadcaster, MemoryStore,
    ReactiveState, Registry, Rejection, Scene, StateConfig, StateRegistry, Store, Version, Viewer,
    broadcast::{BroadcastError, Change, Inbox, Interest},
    conformance::faults::{BroadcastFault, FaultyBroadcaster, FaultyStore, StoreFault},
    registry::{Answer, TopicName},
    store::{Expect, Loaded, Receipt, Record, Saving, StoreError},
};
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    board::{Board, board, poll_once, until, with},
    tab::Tab,
};

fn id(text: &str) -> EventId {
    text.parse().unwrap()
}

/// Two nodes over one store, and what stands between each and the store and the other one.
struct Two {
    a: Arc<StateRegistry>,
    b: Arc<StateRegistry>,
    store_b: Arc<FaultyStore>,
    to_b: Arc<FaultyBroadcaster>,
}

fn two(config: impl Fn(StateConfig) -> StateConfig) -> Two {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store_b = FaultyStore::new(Arc::clone(&memory));
    let hub = LocalBroadcaster::new();
    let to_b = FaultyBroadcaster::new(Arc::new(hub.peer()));
    let a = with(|builder| builder.store(memory).broadcaster(hub), |c| config(c).persist());
    let b = with(
        |builder| builder.store(Arc::clone(&store_b)).broadcaster(Arc::clone(&to_b)),
        |c| config(c).persist(),
    );
    Two { a, b, store_b, to_b }
}

async fn add_one(board: &Handle<Board>) -> Result<Answer, Error> {
    let outcome = board.update(|board| {
        board.count += 1;
        Ok(())
    });
    Ok(outcome.await?.answer)
}

/// Merges what comes until the page shows this count, within the five seconds of law 13.
async fn shows_count(tab: &mut Tab, count: i64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        tab.read();
        if tab.shows(&Board { count, ..Board::default() }).is_ok() {
            return;
        }
        assert!(Instant::now() < deadline, "the page does not show {count}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Panics when it is dropped.
#[derive(Serialize, Deserialize)]
struct Bomb;

impl Event for Bomb {
    type State = Board;
    const NAME: &'static str = "bomb";

    fn apply(&self, _: &mut Board, _: &mut Context<Board>) -> Result<(), Rejection> {
        Ok(())
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "the bomb goes off");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_07_an_event_that_panics_when_dropped_leaves_a_working_instance() {
    let registry = with(|builder| builder.deadline(Duration::from_millis(200)), |config| config);
    let board = board(&registry);
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (blocked, begun) = (Mutex::new(blocked), Arc::new(AtomicBool::new(false)));
    let first = tokio::spawn({
        let (board, begun) = (board.clone(), Arc::clone(&begun));
        let change = move |_: &mut Board| {
            begun.store(true, Ordering::SeqCst);
            let _ = blocked.lock().recv();
            Ok(())
        };
        async move { board.update(change).await.map(drop) }
    });
    until("the first begins", async || begun.load(Ordering::SeqCst)).await;
    assert!(matches!(board.send(Bomb).await, Err(Error::TimedOut)));
    drop(release);
    let _ = first.await;
    until("the instance works again", async || add_one(&board).await.is_ok()).await;
}

#[test]
fn a_runtime_that_ends_in_a_turn_leaves_a_working_instance() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let first = runtime();
    let registry = {
        let _in_runtime = first.enter();
        with(|builder| builder.store(Arc::clone(&store)), |config| config.persist())
    };
    let board = board(&registry);
    store.set(StoreFault::Hang);
    first.block_on(async { assert!(poll_once(&mut Box::pin(add_one(&board))).is_pending()) });
    drop(first);
    store.set(StoreFault::None);
    runtime().block_on(async { assert_eq!(add_one(&board).await.unwrap(), Answer::Changed) });
}

/// A note, which exists only where somebody wrote one down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    text: String,
}

impl ReactiveState for Note {
    const NAME: &'static str = "note";
}

#[derive(Serialize, Deserialize)]
struct Write {
    text: String,
}

impl Event for Write {
    type State = Note;
    const NAME: &'static str = "write";

    fn apply(&self, note: &mut Note, _: &mut Context<Note>) -> Result<(), Rejection> {
        note.text.clone_from(&self.text);
        Ok(())
    }
}

/// The notes "a" to "y" exist once `exist` is set; looking "z" up never ends while it is not.
fn notes(
    exist: &Arc<AtomicBool>,
    configure: impl FnOnce(faststate_core::registry::RegistryBuilder) -> faststate_core::registry::RegistryBuilder,
    config: impl FnOnce(StateConfig) -> StateConfig,
) -> Arc<StateRegistry> {
    let exist = Arc::clone(exist);
    configure(StateRegistry::builder())
        .state::<Note>(config(StateConfig::record().access(Access::public())), |state| {
            state.event::<Write>().initial(move |key| {
                let exists = exist.load(Ordering::SeqCst);
                async move {
                    if key.id().as_deref() == Some("z") && !exists {
                        pending::<()>().await;
                    }
                    exists.then(|| Note { text: "new".to_owned() })
                }
            })
        })
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn law_13_an_initial_that_hangs_is_an_error() {
    let exist = Arc::default();
    let registry = notes(&exist, |builder| builder, |config| config);
    let note = registry.record::<Note>("z").unwrap();
    for _ in 0..3 {
        let asked = Instant::now();
        assert!(matches!(note.read().await, Err(Error::TimedOut)));
        assert!(asked.elapsed() <= Duration::from_secs(2));
    }
    exist.store(true, Ordering::SeqCst);
    assert_eq!(note.read().await.unwrap().text, "new", "the instance works");
}

#[tokio::test]
async fn law_04_a_record_that_is_deleted_is_gone_on_every_node() {
    let exist = Arc::new(AtomicBool::new(true));
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = LocalBroadcaster::new();
    let peer = hub.peer();
    let a = notes(&exist, |b| b.store(Arc::clone(&memory)).broadcaster(hub), |c| c.persist());
    let b = notes(&exist, |b| b.store(Arc::clone(&memory)).broadcaster(peer), |c| c.persist());
    let (here, there) = (a.record::<Note>("a").unwrap(), b.record::<Note>("a").unwrap());
    here.send(Write { text: "hello".to_owned() }).await.unwrap();
    let viewer = Viewer::application();
    let mut tabs = [Tab::open(&a, &viewer, &["note:a"]).await, Tab::open(&b, &viewer, &["note:a"]).await];
    exist.store(false, Ordering::SeqCst);
    here.delete().await.unwrap();
    for tab in &mut tabs {
        let piece = tab.next().await;
        tab.page.feed(&piece).unwrap();
        tab.read();
        tab.follows(&Note::default());
    }
    for note in [&here, &there] {
        for _ in 0..2 {
            assert!(matches!(note.read().await, Err(Error::Unknown)));
            assert!(matches!(note.send(Write { text: "x".to_owned() }).await, Err(Error::Unknown)));
        }
    }
    exist.store(true, Ordering::SeqCst);
    there.send(Write { text: "again".to_owned() }).await.unwrap();
    assert_eq!(here.read().await.unwrap().text, "again");
    for tab in &mut tabs {
        let piece = tab.next().await;
        tab.page.feed(&piece).unwrap();
        tab.read();
        tab.follows(&Note { text: "again".to_owned() });
    }
}

/// A store whose answer to a delete is lost, and that may refuse to say more.
#[derive(Debug, Default)]
struct LosesDeletes {
    inner: MemoryStore,
    down: AtomicBool,
}

#[async_trait]
impl Store for LosesDeletes {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("down".into()));
        }
        self.inner.load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Expect,
        receipt: Option<&Receipt>,
    ) -> Result<Saving, StoreError> {
        self.inner.save(key, record, expect, receipt).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.inner.delete(key, version).await?;
        self.down.store(true, Ordering::SeqCst);
        Err(StoreError::Unavailable("the answer is lost".into()))
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.inner.touch(key, ttl).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn law_13_followers_hear_of_a_delete_whose_answer_was_lost() {
    let store = Arc::new(LosesDeletes::default());
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    add_one(&board).await.unwrap();
    let mut tab = Tab::open(&registry, &Viewer::application(), &["board"]).await;
    shows_count(&mut tab, 1).await;
    assert!(board.delete().await.is_err());
    assert!(board.read().await.is_err(), "what may be deleted is not shown as if it were not");
    sleep(Duration::from_secs(30)).await;
    store.down.store(false, Ordering::SeqCst);
    shows_count(&mut tab, 0).await;
}

#[tokio::test(start_paused = true)]
async fn law_13_followers_hear_of_a_save_whose_outcome_was_unknown() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let registry = with(|builder| builder.store(Arc::clone(&store)), |config| config.persist());
    let board = board(&registry);
    let mut tab = Tab::open(&registry, &Viewer::application(), &["board"]).await;
    store.next_saves([StoreFault::HangAfter]);
    store.set(StoreFault::Fail);
    assert!(matches!(add_one(&board).await, Err(Error::OutcomeUnknown)));
    sleep(Duration::from_secs(30)).await;
    store.set(StoreFault::None);
    shows_count(&mut tab, 1).await;
}

#[tokio::test(start_paused = true)]
async fn law_13_a_loss_is_made_good_once_the_store_is_back() {
    let Two { a, b, store_b, to_b, .. } = two(|config| config);
    let mut tab = Tab::open(&b, &Viewer::application(), &["board"]).await;
    to_b.set(|_| BroadcastFault::Lose);
    store_b.set(StoreFault::Fail);
    add_one(&board(&a)).await.unwrap();
    a.settle().await;
    to_b.announce_loss();
    sleep(Duration::from_secs(30)).await;
    store_b.set(StoreFault::None);
    shows_count(&mut tab, 1).await;
}

#[tokio::test(start_paused = true)]
async fn law_04_a_change_that_finds_the_queue_full_is_not_lost() {
    let Two { a, b, store_b, .. } = two(|config| config.queue(1));
    let mut tab = Tab::open(&b, &Viewer::application(), &["board"]).await;
    store_b.set(StoreFault::Hang);
    let there = board(&b);
    let (mut running, mut waiting) = (Box::pin(add_one(&there)), Box::pin(add_one(&there)));
    assert!(poll_once(&mut running).is_pending() && poll_once(&mut waiting).is_pending());
    add_one(&board(&a)).await.unwrap();
    a.settle().await;
    assert!(running.await.is_err() && waiting.await.is_err());
    store_b.set(StoreFault::None);
    shows_count(&mut tab, 1).await;
}

/// A transport that does as it is told.
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
            return Err(BroadcastError("not now".into()));
        }
        self.inner.publish(change).await
    }

    async fn tell(&self, key: Option<&Key>, words: Bytes) -> Result<(), BroadcastError> {
        self.inner.tell(key, words).await
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

/// Two nodes over these transports and a store.
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
async fn law_13_a_broadcaster_that_hangs_is_an_error() {
    let ([node, _], [transport, _]) = transported();
    transport.join_hangs.store(true, Ordering::SeqCst);
    let asked = Instant::now();
    let refused = node.follow(&TopicName::signals("board"), &Viewer::application(), None, 1).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    assert!(asked.elapsed() <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn law_13_following_takes_no_longer_than_anything_else() {
    let Two { b, store_b, .. } = two(|config| config);
    store_b.set(StoreFault::Slow(Duration::from_millis(1500)));
    let asked = Instant::now();
    let refused = b.follow(&TopicName::signals("board"), &Viewer::application(), None, 1).await;
    assert!(refused.is_err(), "it looks twice");
    assert!(asked.elapsed() <= Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn law_04_the_last_change_reaches_other_nodes_although_it_was_refused_at_first() {
    let ([a, b], [transport, _]) = transported();
    let mut tab = Tab::open(&b, &Viewer::application(), &["board"]).await;
    transport.refusals.store(3, Ordering::SeqCst);
    add_one(&board(&a)).await.unwrap();
    add_one(&board(&a)).await.unwrap();
    shows_count(&mut tab, 2).await;
}

#[tokio::test(start_paused = true)]
async fn law_15_what_was_accepted_has_been_broadcast_once_settled() {
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
async fn law_04_a_follower_that_comes_as_the_last_one_leaves_hears_of_other_nodes() {
    let Two { a, b, store_b, .. } = two(|config| config);
    let viewer = Viewer::application();
    let first = Tab::open(&b, &viewer, &["board"]).await;
    store_b.set(StoreFault::Slow(Duration::from_millis(100)));
    let elsewhere = Some(Version::start());
    let topic = TopicName::signals("board");
    let mut joining = Box::pin(b.follow(&topic, &viewer, elsewhere, 99));
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
async fn a_crowd_that_follows_at_once_is_not_too_many() {
    let Two { b, store_b, .. } = two(|config| config.queue(4));
    store_b.set(StoreFault::Slow(Duration::from_millis(50)));
    let topic = TopicName::signals("board");
    let viewer = Viewer::application();
    let followers = join_all((0..500).map(|stream| b.follow(&topic, &viewer, None, stream))).await;
    assert!(followers.iter().all(Result::is_ok));
    assert!(store_b.loads() < 20, "one look serves all who wait: {}", store_b.loads());
}

#[tokio::test(start_paused = true)]
async fn law_13_a_dead_store_does_not_let_other_states_expire() {
    let dead = FaultyStore::new(Arc::new(MemoryStore::new()));
    let registry = StateRegistry::builder()
        .store(Arc::clone(&dead))
        .state::<Board>(StateConfig::global().access(Access::public()).ttl(Duration::from_secs(40)), |s| s)
        .state::<Note>(
            StateConfig::record().access(Access::public()).persist().ttl(Duration::from_secs(40)),
            |state| state.event::<Write>(),
        )
        .build()
        .unwrap();
    let board = board(&registry);
    add_one(&board).await.unwrap();
    let viewer = Viewer::application();
    let _board = registry.follow(&TopicName::signals("board"), &viewer, None, 0).await.unwrap();
    let mut notes = Vec::new();
    for n in 0..100_u64 {
        let name = format!("n{n}");
        let note = registry.record::<Note>(&name).unwrap();
        note.send(Write { text: name.clone() }).await.unwrap();
        let topic = TopicName::signals("note").of(name);
        notes.push(registry.follow(&topic, &viewer, None, n).await.unwrap());
    }
    dead.set(StoreFault::Hang);
    let version = board.read().await.unwrap().version();
    sleep(Duration::from_secs(300)).await;
    assert_eq!(board.read().await.unwrap().version(), version, "it is followed, so it lives");
}

#[tokio::test(start_paused = true)]
async fn a_state_is_kept_for_its_time_after_its_last_use_although_it_left_memory() {
    let ttl = Duration::from_secs(600);
    let registry = with(|builder| builder, |config| config.ttl(ttl));
    let board = board(&registry);
    add_one(&board).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    board.read().await.unwrap();
    sleep(Duration::from_secs(590)).await;
    assert_eq!(board.read().await.unwrap().count, 1);
}

#[tokio::test]
async fn law_06_a_state_finds_room_among_the_idle_instances_of_another() {
    let registry = StateRegistry::builder()
        .max_instances(3)
        .state::<Board>(StateConfig::global().access(Access::public()), |state| state)
        .state::<Note>(StateConfig::record().access(Access::public()), |state| state.event::<Write>())
        .build()
        .unwrap();
    for name in ["a", "b", "c"] {
        registry.record::<Note>(name).unwrap().read().await.unwrap();
    }
    add_one(&board(&registry)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_03_a_receipt_lives_ten_minutes_whatever_was_there_before() {
    let store = MemoryStore::new();
    let key = Key::new("board", faststate_core::Scope::Global, None, None).unwrap();
    let mut version = None;
    let mut save = async |name: &str| {
        let next = Version::start();
        let record = Record { schema: 1, version: next, data: "{}".into(), ttl: None };
        let expect = version.map_or(Expect::Absent, Expect::Version);
        let receipt = Receipt::new(&key, "add", &id(name));
        assert_eq!(store.save(&key, &record, expect, Some(&receipt)).await.unwrap(), Saving::Saved, "{name}");
        version = Some(next);
    };
    for name in ["1", "2", "3", "4", "5", "again"] {
        save(name).await;
    }
    sleep(Duration::from_secs(600)).await;
    // More have ended than one save takes away.
    save("again").await;
    save("6").await;
    let receipt = Receipt::new(&key, "add", &id("again"));
    assert!(store.load(&key, Some(&receipt)).await.unwrap().receipt);
}

static WORKED: AtomicUsize = AtomicUsize::new(0);

/// Changes nothing and leaves work behind, which may panic as it begins.
#[derive(Serialize, Deserialize)]
struct Ring {
    panics: bool,
    counts: bool,
}

impl Event for Ring {
    type State = Board;
    const NAME: &'static str = "ring";

    fn apply(&self, board: &mut Board, context: &mut Context<Board>) -> Result<(), Rejection> {
        let panics = self.panics;
        board.count += i64::from(self.counts);
        context.after(move |_| {
            assert!(!panics, "as it begins");
            async {
                WORKED.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(())
    }
}

#[tokio::test]
async fn law_03_work_without_a_change_is_done_once_per_event() {
    let registry = crate::board::registry();
    let board = board(&registry);
    let ring = || board.send_as(Ring { panics: false, counts: false }, Viewer::application(), id("ring"));
    assert_eq!(ring().await.unwrap().answer, Answer::Unchanged);
    assert_eq!(ring().await.unwrap().answer, Answer::Repeated);
    registry.settle().await;
    assert_eq!(WORKED.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn work_that_panics_as_it_begins_does_not_fail_the_event() {
    let registry = crate::board::registry();
    let board = board(&registry);
    let outcome = board.send(Ring { panics: true, counts: true }).await.unwrap();
    assert_eq!(outcome.answer, Answer::Changed);
    registry.settle().await;
}

static STOCK: AtomicUsize = AtomicUsize::new(1);

/// Buys the last one.
#[derive(Serialize, Deserialize)]
struct Buy;

impl Event for Buy {
    type State = Board;
    const NAME: &'static str = "buy";

    async fn prepare(&mut self, _: &Scene) -> Result<(), Rejection> {
        if STOCK.load(Ordering::SeqCst) == 0 { Err(Rejection::conflict("sold out")) } else { Ok(()) }
    }

    fn apply(&self, board: &mut Board, _: &mut Context<Board>) -> Result<(), Rejection> {
        board.count += 1;
        Ok(())
    }
}

#[tokio::test]
async fn law_03_a_repeat_is_a_repeat_even_where_prepare_would_refuse_it_now() {
    let registry = crate::board::registry();
    let board = board(&registry);
    let buy = |name| board.send_as(Buy, Viewer::application(), id(name));
    assert_eq!(buy("mine").await.unwrap().answer, Answer::Changed);
    STOCK.store(0, Ordering::SeqCst);
    assert_eq!(buy("mine").await.unwrap().answer, Answer::Repeated);
    assert!(matches!(buy("yours").await, Err(Error::Rejected(_))));
    assert!(matches!(board.send(Buy).await, Err(Error::Rejected(_))));
}

/// The note of a newer version of the application.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct NewNote {
    text: String,
    #[serde(default)]
    color: String,
}

impl ReactiveState for NewNote {
    const NAME: &'static str = "note";
    const SCHEMA: u32 = 2;
}

#[tokio::test]
async fn a_newer_schema_is_read_only_for_an_older_node_that_follows() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = LocalBroadcaster::new();
    let peer = hub.peer();
    let exist = Arc::new(AtomicBool::new(true));
    let old = notes(&exist, |b| b.store(Arc::clone(&memory)).broadcaster(hub), |c| c.persist());
    let new = StateRegistry::builder()
        .store(memory)
        .broadcaster(peer)
        .state::<NewNote>(StateConfig::record().access(Access::public()).persist(), |state| state)
        .build()
        .unwrap();
    let (older, newer) = (old.record::<Note>("a").unwrap(), new.record::<NewNote>("a").unwrap());
    older.send(Write { text: "one".to_owned() }).await.unwrap();
    let mut tab = Tab::open(&old, &Viewer::application(), &["note:a"]).await;
    newer
        .update(|note| {
            note.color = "red".to_owned();
            note.text = "two".to_owned();
            Ok(())
        })
        .await
        .unwrap();
    let piece = tab.next().await;
    tab.page.feed(&piece).unwrap();
    tab.follows(&Note { text: "two".to_owned() });
    assert!(matches!(older.send(Write { text: "three".to_owned() }).await, Err(Error::Busy(_))));
    assert_eq!(newer.read().await.unwrap().color, "red");
}

#[derive(Serialize, Deserialize)]
struct Present(usize);

impl Event for Present {
    type State = Note;
    const NAME: &'static str = "present";

    fn apply(&self, note: &mut Note, _: &mut Context<Note>) -> Result<(), Rejection> {
        note.text = self.0.to_string();
        Ok(())
    }
}

#[tokio::test]
async fn a_follower_may_be_dropped_anywhere() {
    let registry = StateRegistry::builder()
        .state::<Note>(StateConfig::record().access(Access::public()), |state| {
            state.event::<Write>().presence(Present)
        })
        .build()
        .unwrap();
    let topic = TopicName::signals("note").of("a");
    let viewer = Viewer::application();
    let follower = registry.follow(&topic, &viewer, None, 1).await.unwrap();
    let note = registry.record::<Note>("a").unwrap();
    until("the presence is told", async || note.read().await.unwrap().text == "1").await;
    std::thread::spawn(move || drop(follower)).join().unwrap();
    assert_eq!(note.followers(), 0);
}

#[tokio::test(start_paused = true)]
async fn forever_is_a_hundred_years() {
    let registry =
        with(|builder| builder.deadline(Duration::MAX), |config| config.ttl(Duration::MAX).queue(0));
    let board = board(&registry);
    let mut adding = Box::pin(add_one(&board));
    assert!(matches!(poll_once(&mut adding), Poll::Ready(Ok(Answer::Changed))));
    sleep(Duration::from_secs(60)).await;
}
