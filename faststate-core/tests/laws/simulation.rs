//! A simulation of 50 nodes in paused time, with seeded failures of the store and the transport: laws 2, 4 and 5 hold
//! while nodes are killed and restarted.
//!
//! `FASTSTATE_SEED=7 cargo test -p faststate-core --test laws fifty` repeats a seed. The actions and their times are then
//! the same; the engine's own jitter and ids are not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Access, Broadcaster, Key, LocalBroadcaster, MemoryStore, Registry as _, StateConfig, StateRegistry,
    Store, Version, Viewer,
    broadcast::{BroadcastError, Change, Inbox, Interest},
    registry::{Applied, Outcome},
    store::{Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::{
    BroadcastFault, FaultyBroadcaster, FaultyStore, Overridden, StoreFault, StoreOverride,
};
use futures::future::join_all;
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    board::{Add, Board, Lines, Title, add},
    tab::Tab,
};

const BOARDS: usize = 12;
const WRITERS: u64 = 40;
const TABS: u64 = 100;
/// Time after which a writer sends its event to another node.
const CALL_TIMEOUT: Duration = Duration::from_millis(2500);
/// Time within which a node reloads every followed instance without a notice. Longer than the engine's own interval.
const SELF_RECOVERY: Duration = Duration::from_secs(80);

/// A node with its own faults between it, the shared store and the transport.
struct Node {
    registry: Arc<StateRegistry>,
    store: Arc<FaultyStore>,
    broadcaster: Arc<FaultyBroadcaster>,
    dead: Arc<AtomicBool>,
}

/// The parameters of a simulation.
#[derive(Clone, Copy)]
struct Plan {
    nodes: usize,
    /// The number of events per writer.
    events: u64,
    /// Whether nodes are killed. The other nodes detect this and reload.
    kills_nodes: bool,
    /// Whether the transport notifies nodes at the end that it has lost messages.
    announces_losses: bool,
    /// Whether nodes have time to detect losses without a notice.
    waits_for_recovery: bool,
    /// Whether the store is a mutant that ignores preconditions.
    is_mutant_store: bool,
}

struct World {
    memory: Arc<MemoryStore>,
    /// The store that the nodes use.
    store: Arc<dyn Store>,
    hub: LocalBroadcaster,
    nodes: Mutex<Vec<Arc<Node>>>,
    over: AtomicBool,
    deaths: AtomicUsize,
    moves: AtomicUsize,
}

impl World {
    fn new(seed: u64, plan: Plan) -> Arc<Self> {
        let memory = Arc::new(MemoryStore::new());
        let world = Arc::new(Self {
            store: if plan.is_mutant_store {
                Arc::new(Overridden(LastWriteWins(Arc::clone(&memory))))
            } else {
                Arc::clone(&memory) as _
            },
            memory,
            hub: LocalBroadcaster::new(),
            nodes: Mutex::default(),
            over: AtomicBool::new(false),
            deaths: AtomicUsize::new(0),
            moves: AtomicUsize::new(0),
        });
        let nodes = (0..plan.nodes).zip(seed * 1000..).map(|(_, seed)| world.node(seed)).collect();
        *world.nodes.lock() = nodes;
        world
    }

    fn node(&self, seed: u64) -> Arc<Node> {
        let mut dice = StdRng::seed_from_u64(seed);
        let dead = Arc::<AtomicBool>::default();
        let latency = Mutex::new(StdRng::seed_from_u64(dice.random()));
        let transport = Mortal { inner: self.hub.peer(), dead: Arc::clone(&dead), latency };
        let broadcaster = FaultyBroadcaster::new(Arc::new(transport));
        let deaf = Arc::clone(&dead);
        broadcaster.set(move |_| match dice.random_range(0..12) {
            _ if deaf.load(SeqCst) => BroadcastFault::Lose,
            0 => BroadcastFault::Lose,
            1 => BroadcastFault::Repeat,
            2 => BroadcastFault::Delay,
            3 => BroadcastFault::Strip,
            _ => BroadcastFault::None,
        });
        let store = FaultyStore::new(Arc::clone(&self.store));
        store.set(StoreFault::Slow(Duration::from_millis(1 + seed % 3)));
        let registry = StateRegistry::builder()
            .store(Arc::clone(&store))
            .broadcaster(Arc::clone(&broadcaster))
            .state::<Board>(StateConfig::record().access(Access::public()).persist(), |state| {
                let boards = state.event::<Add>().view(Lines).view(Title);
                boards.initial(|_| async { Some(Board::default()) })
            })
            .build()
            .unwrap();
        Arc::new(Node { registry, store, broadcaster, dead })
    }

    fn some_node(&self, dice: &mut StdRng) -> Arc<Node> {
        let nodes = self.nodes.lock();
        Arc::clone(&nodes[dice.random_range(0..nodes.len())])
    }

    /// Kills a node like `kill -9`, and starts another in its place.
    ///
    /// The dead node sends and receives nothing. Its outstanding store calls may still take effect.
    fn kill(&self, at: usize, seed: u64) {
        let node = self.node(seed);
        let dead = std::mem::replace(&mut self.nodes.lock()[at], node);
        dead.dead.store(true, SeqCst);
        dead.store.set(StoreFault::Hang);
        self.deaths.fetch_add(1, SeqCst);
    }

    /// Ends all faults, and notifies the nodes of lost messages if `announces_losses` is set.
    fn heal(&self, announces_losses: bool) {
        for node in self.nodes.lock().iter() {
            node.store.set(StoreFault::None);
            node.broadcaster.set(|_| BroadcastFault::None);
            if announces_losses {
                node.broadcaster.release();
                node.broadcaster.announce_loss();
            }
        }
    }
}

/// A transport with delays, which fails once its node is dead.
#[derive(Debug)]
pub(crate) struct Mortal {
    pub(crate) inner: LocalBroadcaster,
    pub(crate) dead: Arc<AtomicBool>,
    pub(crate) latency: Mutex<StdRng>,
}

impl Mortal {
    async fn way(&self) -> Result<(), BroadcastError> {
        let latency = self.latency.lock().random_range(0..4);
        sleep(Duration::from_millis(latency)).await;
        if self.dead.load(SeqCst) { Err(BroadcastError::new("the node is dead")) } else { Ok(()) }
    }
}

#[async_trait]
impl Broadcaster for Mortal {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        self.way().await?;
        self.inner.publish(change).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        self.way().await?;
        self.inner.notify(key, message).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        self.way().await?;
        self.inner.join(key).await
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.inner.attach(inbox);
    }
}

/// Sends an event to random nodes until it is acknowledged.
async fn send(world: &World, dice: &mut StdRng, board: usize, id: &str) -> Outcome {
    loop {
        let node = world.some_node(dice);
        let key = node.registry.key("board", &Viewer::application(), Some(&board.to_string())).unwrap();
        let sent = timeout(CALL_TIMEOUT, node.registry.dispatch(add(&key, 1, Some(id)))).await;
        // The reply of a dead node is lost.
        if let Ok(Ok(outcome)) = sent
            && !node.dead.load(SeqCst)
        {
            return outcome;
        }
        // If the circuit breakers of all nodes are open, they refuse without delay, and the paused time would not advance.
        sleep(Duration::from_millis(1)).await;
    }
}

/// Sends events and makes other changes. Returns the versions after the events.
async fn write(world: Arc<World>, writer: u64, events: u64, mut dice: StdRng) -> Vec<(usize, Version)> {
    let mut versions = Vec::new();
    for event in 0..events {
        let board = dice.random_range(0..BOARDS);
        if dice.random_range(0..3) == 0 {
            shake(&world.some_node(&mut dice), board, dice.random()).await;
        }
        let outcome = send(&world, &mut dice, board, &format!("{writer}-{event}")).await;
        if outcome.answer == Applied::Changed {
            versions.push((board, outcome.version));
        }
        sleep(Duration::from_millis(dice.random_range(0..300))).await;
    }
    versions
}

/// Changes other fields of a board. The outcome is ignored.
async fn shake(node: &Node, board: usize, seed: u64) {
    let board = node.registry.record::<Board>(&board.to_string()).unwrap();
    let update = board.update(move |board: &mut Board| {
        let count = board.count;
        board.shake(&mut StdRng::seed_from_u64(seed));
        board.count = count;
        Ok(())
    });
    let _ = timeout(CALL_TIMEOUT, update).await;
}

/// Opens a tab that shows a board. Returns the tab and the node that it follows.
async fn open(world: &World, dice: &mut StdRng) -> (Tab, Arc<Node>) {
    let board = dice.random_range(0..BOARDS);
    let topics = ["", ".lines", ".title"].map(|view| format!("board:{board}{view}"));
    let node = world.some_node(dice);
    let tab = Tab::open(&node.registry, &Viewer::application(), &topics.each_ref().map(|t| &**t)).await;
    (tab, node)
}

/// Moves a tab between nodes, with streams cut inside frames, until the simulation is over.
async fn browse(
    world: Arc<World>,
    (mut tab, mut node): (Tab, Arc<Node>),
    mut dice: StdRng,
    name: String,
) -> Tab {
    loop {
        let mut cut = dice.random_range(0..40) == 0 || node.dead.load(SeqCst);
        while let Some(piece) = tab.piece() {
            let end =
                if dice.random_range(0..20) == 0 { dice.random_range(0..=piece.len()) } else { piece.len() };
            tab.page.feed(&piece[..end]).unwrap_or_else(|failure| panic!("{name}: {failure}"));
            if end < piece.len() {
                cut = true;
                break;
            }
        }
        while cut {
            tab.disconnect();
            sleep(Duration::from_millis(dice.random_range(0..100))).await;
            node = world.some_node(&mut dice);
            cut = tab.try_connect(&node.registry).await.is_err() || node.dead.load(SeqCst);
            world.moves.fetch_add(1, SeqCst);
        }
        if world.over.load(SeqCst) && !node.dead.load(SeqCst) {
            return tab;
        }
        sleep(Duration::from_millis(dice.random_range(5..50))).await;
    }
}

/// Injects faults into one node after another.
async fn harm(world: Arc<World>, kills_nodes: bool, mut dice: StdRng) {
    loop {
        sleep(Duration::from_millis(dice.random_range(5..60))).await;
        // At the end, no node may be killed that a tab still follows.
        if world.over.load(SeqCst) {
            return;
        }
        let (at, node) = {
            let nodes = world.nodes.lock();
            let at = dice.random_range(0..nodes.len());
            (at, Arc::clone(&nodes[at]))
        };
        match dice.random_range(0..10) {
            0 if kills_nodes => world.kill(at, dice.random()),
            // A pause: the node's store calls fail, and its messages are delayed.
            1 | 2 => {
                node.store.set([StoreFault::Hang, StoreFault::Fail][dice.random_range(0..2)]);
                node.broadcaster.set(|_| BroadcastFault::Delay);
                let (pause, fault) = (dice.random_range(10..3000), dice.random_range(0..4));
                tokio::spawn(async move {
                    sleep(Duration::from_millis(pause)).await;
                    if !node.dead.load(SeqCst) {
                        node.store.set(StoreFault::None);
                        node.broadcaster
                            .set(move |_| [BroadcastFault::None, BroadcastFault::Repeat][fault % 2]);
                        node.broadcaster.release();
                    }
                });
            }
            3 => node.broadcaster.announce_loss(),
            4 => node.broadcaster.release(),
            fault => {
                let faults =
                    [StoreFault::FailAfter, StoreFault::HangAfter, StoreFault::Conflict, StoreFault::Fail];
                node.store.next_saves([faults[fault % 4]]);
            }
        }
    }
}

async fn simulate(seed: u64, plan: Plan) {
    let world = World::new(seed, plan);
    let began = Instant::now();
    let mut seeds = StdRng::seed_from_u64(seed);
    let mut dice = || StdRng::seed_from_u64(seeds.random());
    // Save every board first, because each node starts an unsaved board under its own epoch.
    for board in 0..BOARDS {
        send(&world, &mut dice(), board, &format!("first-{board}")).await;
    }
    // Open the tabs before the faults start, because they cannot render their pages again.
    let mut tabs = Vec::new();
    for tab in 0..TABS {
        let mut dice = dice();
        let open = open(&world, &mut dice).await;
        let name = format!("seed {seed}, tab {tab}");
        tabs.push(tokio::spawn(browse(Arc::clone(&world), open, dice, name)));
    }
    let harm = tokio::spawn(harm(Arc::clone(&world), plan.kills_nodes, dice()));
    let writers =
        (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&world), writer, plan.events, dice())));
    let versions: Vec<_> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    world.over.store(true, SeqCst);
    harm.await.unwrap();
    let tabs: Vec<_> = join_all(tabs).await.into_iter().map(Result::unwrap).collect();
    // Send one more event to each board after the tabs have stopped moving to other nodes.
    for board in 0..BOARDS {
        send(&world, &mut dice(), board, &format!("last-{board}")).await;
    }
    sleep(Duration::from_secs(1)).await;

    let mut counted = 0;
    for board in 0..BOARDS {
        let key = Key::new("board", faststate_core::Scope::Record, None, Some(&board.to_string())).unwrap();
        let record = world.memory.load(&key, None).await.unwrap().record.unwrap();
        counted += serde_json::from_slice::<Board>(&record.data).unwrap().count;
    }
    let sent = WRITERS * plan.events + 2 * BOARDS as u64;
    assert_eq!(u64::try_from(counted), Ok(sent), "seed {seed}: each event counts once (law 2)");
    let mut taken = BTreeMap::<_, BTreeSet<_>>::new();
    for (board, version) in versions {
        let is_new = taken.entry((board, version.epoch)).or_default().insert(version.seq);
        assert!(is_new, "seed {seed}: two events of board {board} led to {version}");
    }
    assert_eq!(taken.len(), BOARDS, "seed {seed}: no board starts over");

    let took = began.elapsed();
    world.heal(plan.announces_losses);
    sleep(if plan.waits_for_recovery { SELF_RECOVERY } else { Duration::from_secs(5) }).await;
    for mut tab in tabs {
        tab.catches_up(&world.memory).await;
    }
    let count = |counter: &AtomicUsize| counter.load(SeqCst);
    eprintln!(
        "seed {seed}: {sent} events on {} nodes in {took:.1?}, {} deaths, {TABS} tabs connected {} times more",
        plan.nodes,
        count(&world.deaths),
        count(&world.moves)
    );
    assert!(
        (count(&world.deaths) >= 5) == plan.kills_nodes && count(&world.moves) > 100,
        "seed {seed}: there were too few faults"
    );
}

/// The seed of this run, from the environment or the default.
fn seed(usual: u64) -> u64 {
    std::env::var("FASTSTATE_SEED").map_or(usual, |seed| seed.parse().expect("FASTSTATE_SEED is a number"))
}

const FIFTY: Plan = Plan {
    nodes: 50,
    events: 15,
    kills_nodes: true,
    announces_losses: true,
    waits_for_recovery: false,
    is_mutant_store: false,
};

#[tokio::test(start_paused = true)]
async fn law_02_04_05_hold_for_fifty_failing_nodes_with_notices() {
    simulate(seed(1), FIFTY).await;
}

#[tokio::test(start_paused = true)]
async fn law_02_04_05_hold_for_fifty_failing_nodes_without_notices() {
    simulate(
        seed(3),
        Plan { kills_nodes: false, announces_losses: false, waits_for_recovery: true, ..FIFTY },
    )
    .await;
}

/// A mutant store that ignores preconditions, so that the last save wins.
#[derive(Debug)]
struct LastWriteWins(Arc<MemoryStore>);

#[async_trait]
impl StoreOverride for LastWriteWins {
    fn inner(&self) -> &dyn Store {
        &*self.0
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        _: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let there = self.0.load(key, None).await?.record;
        let expect = there.map_or(Precondition::Absent, |there| Precondition::Version(there.version));
        self.0.save(key, record, expect, receipt).await
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "law")]
async fn law_02_mutant_store_without_preconditions_is_caught() {
    simulate(5, Plan { nodes: 5, is_mutant_store: true, ..FIFTY }).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "law 4")]
async fn law_04_mutant_transport_without_loss_notices_is_caught() {
    // The run is too short for a periodic reload. A later change repairs a loss in about one of thirty runs, so three seeds
    // in a row are enough.
    for seed in 6..9 {
        simulate(seed, Plan { events: 3, kills_nodes: false, announces_losses: false, ..FIFTY }).await;
    }
}
