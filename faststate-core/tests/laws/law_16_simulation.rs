//! A simulation of law 16 in paused time: nodes over one store transfer money between accounts, set timers and run jobs,
//! while stores and transports fail and nodes are killed.
//!
//! `FASTSTATE_SEED=7 FASTSTATE_TRANSFERS=20000 FASTSTATE_NODES=50 cargo test -p faststate-core --test laws law_16_money`
//! changes the seed and the size.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use faststate_core::{
    Access, Error, Event, Handle, Key, LocalBroadcaster, MemoryStore, ReactiveState as _, Scope, StateConfig,
    StateRegistry, Store, Viewer,
    internal::{follow_tokio_time, now},
    store::{PendingSummary, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::{
    BroadcastFault, FaultyBroadcaster, FaultyStore, Overridden, StoreFault, StoreOverride,
};
use futures::future::join_all;
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    purse::{Accepted, OPENING_BALANCE, Pay, Print, Printed, Purse, Receive, Refunded, Remind, Ring},
    simulation::Mortal,
};

const PURSES: usize = 100;
const WRITERS: usize = 40;
/// The number of parts of a simulation. The sums are checked after each of them.
const ROUNDS: usize = 2;
/// The time after which a writer sends its event to another node.
const CALL_TIMEOUT: Duration = Duration::from_millis(2500);
/// The time within which all messages are finished once the faults end. The longest pause before a message is tried again
/// after a few failures is shorter.
const QUIET_AFTER: Duration = Duration::from_secs(600);

/// A node with its own faults between it, the shared store and the transport.
struct Node {
    registry: Arc<StateRegistry>,
    store: Arc<FaultyStore>,
    broadcaster: Arc<FaultyBroadcaster>,
    dead: Arc<AtomicBool>,
}

struct World {
    memory: Arc<MemoryStore>,
    /// The store that the nodes use.
    store: Arc<dyn Store>,
    hub: LocalBroadcaster,
    nodes: Mutex<Vec<Arc<Node>>>,
    printed: Printed,
    is_round_over: AtomicBool,
    deaths: AtomicUsize,
}

impl World {
    fn new(seed: u64, nodes: usize, mutant: Option<Mutant>) -> Arc<Self> {
        let memory = Arc::new(MemoryStore::new());
        let world = Arc::new(Self {
            store: match mutant {
                None => Arc::clone(&memory) as _,
                Some(mutant) => Arc::new(Overridden(MutantStore { memory: Arc::clone(&memory), mutant })),
            },
            memory,
            hub: LocalBroadcaster::new(),
            nodes: Mutex::default(),
            printed: Printed::default(),
            is_round_over: AtomicBool::new(false),
            deaths: AtomicUsize::new(0),
        });
        *world.nodes.lock() = (0..nodes).zip(seed * 1000..).map(|(_, seed)| world.node(seed)).collect();
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
        let config = StateConfig::record().access(Access::public()).persist().sends_messages();
        let registry = StateRegistry::builder()
            .store(Arc::clone(&store))
            .broadcaster(Arc::clone(&broadcaster))
            .resource(self.printed.clone())
            .job::<Print>()
            .state::<Purse>(config, |state| {
                let purses = state.event::<Pay>().event::<Remind>().message::<Receive>();
                purses.message::<Accepted>().message::<Refunded>().message::<Ring>()
            })
            .build()
            .unwrap();
        Arc::new(Node { registry, store, broadcaster, dead })
    }

    fn some_node(&self, dice: &mut StdRng) -> Arc<Node> {
        let nodes = self.nodes.lock();
        Arc::clone(&nodes[dice.random_range(0..nodes.len())])
    }

    /// Kills a node like `kill -9`, and starts another in its place. Its outstanding store calls may still take effect.
    fn kill(&self, at: usize, seed: u64) {
        let node = self.node(seed);
        let dead = std::mem::replace(&mut self.nodes.lock()[at], node);
        dead.dead.store(true, SeqCst);
        dead.store.set(StoreFault::Hang);
        self.deaths.fetch_add(1, SeqCst);
    }

    /// Ends all faults.
    fn heal(&self) {
        for node in self.nodes.lock().iter() {
            node.store.set(StoreFault::None);
            node.broadcaster.release();
            node.broadcaster.announce_loss();
        }
    }

    async fn purse(&self, id: usize) -> Purse {
        let key = Key::new(Purse::NAME, Scope::Record, None, Some(&id.to_string())).unwrap();
        let record = self.memory.load(&key, None).await.unwrap().record;
        record.map(|record| serde_json::from_slice(&record.data).unwrap()).unwrap_or_default()
    }
}

/// Sends an event to random nodes until one of them answers. Returns whether it was accepted.
async fn send<E: Event<State = Purse> + Clone>(
    world: &World,
    dice: &mut StdRng,
    purse: usize,
    event: &E,
    id: &str,
) -> bool {
    loop {
        let node = world.some_node(dice);
        let handle: Handle<Purse> = node.registry.record(&purse.to_string()).unwrap();
        let sending = handle.send_as(event.clone(), Viewer::application(), id.parse().unwrap());
        let sent = timeout(CALL_TIMEOUT, sending).await;
        // The reply of a dead node is lost.
        match sent {
            Ok(Ok(_)) if !node.dead.load(SeqCst) => return true,
            Ok(Err(Error::Rejected(_))) if !node.dead.load(SeqCst) => return false,
            Ok(Err(error @ Error::Internal { .. })) => panic!("{error}"),
            _ => {}
        }
        // If the circuit breakers of all nodes are open, they refuse without delay, and the paused time would not advance.
        sleep(Duration::from_millis(1)).await;
    }
}

/// Sends transfers, and sometimes sets a timer and requests a job.
async fn write(world: Arc<World>, name: String, transfers: usize, mut dice: StdRng) {
    for transfer in 0..transfers {
        let (from, to) = (dice.random_range(0..PURSES), dice.random_range(0..PURSES));
        let pay = Pay { to: to.to_string(), amount: dice.random_range(1..30) };
        send(&world, &mut dice, from, &pay, &format!("{name}-{transfer}")).await;
        if dice.random_range(0..10) == 0 {
            let at = now() + Duration::from_millis(dice.random_range(0..60_000));
            let remind = Remind { name: format!("{name}-{transfer}"), at };
            assert!(send(&world, &mut dice, from, &remind, &format!("{name}-{transfer}")).await);
        }
        sleep(Duration::from_millis(dice.random_range(0..300))).await;
    }
}

/// Injects faults into one node after another.
async fn harm(world: Arc<World>, mut dice: StdRng) {
    while !world.is_round_over.load(SeqCst) {
        sleep(Duration::from_millis(dice.random_range(5..60))).await;
        let (at, node) = {
            let nodes = world.nodes.lock();
            let at = dice.random_range(0..nodes.len());
            (at, Arc::clone(&nodes[at]))
        };
        match dice.random_range(0..10) {
            0 => world.kill(at, dice.random()),
            1 | 2 => {
                node.store.set([StoreFault::Hang, StoreFault::Fail][dice.random_range(0..2)]);
                let pause = Duration::from_millis(dice.random_range(10..8000));
                tokio::spawn(async move {
                    sleep(pause).await;
                    if !node.dead.load(SeqCst) {
                        node.store.set(StoreFault::None);
                        node.broadcaster.release();
                    }
                });
            }
            3 => node.broadcaster.announce_loss(),
            fault => {
                let late = StoreFault::Late(Duration::from_millis(dice.random_range(1..9000)));
                let faults = [StoreFault::FailAfter, StoreFault::HangAfter, StoreFault::Conflict, late];
                node.store.next_saves([faults[fault % 4]]);
            }
        }
    }
}

/// Waits until nothing is pending, and checks the sums.
async fn check(world: &World, name: &str) {
    world.heal();
    let began = Instant::now();
    loop {
        let pending = world.memory.pending(9).await.unwrap();
        let due = world.memory.due(9).await.unwrap().keys;
        if pending == PendingSummary::default() && due.is_empty() {
            break;
        }
        assert_eq!(pending.parked, 0, "{name}: messages are parked");
        assert!(began.elapsed() < QUIET_AFTER, "{name}: {pending:?}, {due:?}");
        sleep(Duration::from_secs(1)).await;
    }
    // The longest timer, and a lease.
    sleep(Duration::from_secs(70)).await;
    let purses = join_all((0..PURSES).map(|id| world.purse(id))).await;
    let sum: i64 = purses.iter().map(|purse| purse.balance).sum();
    assert_eq!(sum, PURSES as i64 * OPENING_BALANCE, "{name}: the sum is unchanged");
    let total = |count: fn(&Purse) -> usize| purses.iter().map(count).sum::<usize>();
    let accepted = total(|purse| purse.accepted as usize);
    let refused = total(|purse| purse.refused as usize);
    let sent = total(|purse| purse.sent.values().sum::<u32>() as usize);
    let received = total(|purse| purse.received.values().map(Vec::len).sum());
    assert_eq!((accepted, refused), (received, sent - received), "{name}: each transfer has one answer");
    assert!(accepted > sent / 4 && refused > 0, "{name}: {accepted} of {sent} were accepted");
    for (id, purse) in purses.iter().enumerate() {
        for (sender, numbers) in &purse.received {
            assert!(numbers.is_sorted_by(|a, b| a < b), "{name}: from {sender} to {id}: {numbers:?}");
        }
        let fired: BTreeSet<_> = purse.fired.iter().collect();
        assert_eq!((fired.len(), purse.fired.len()), (purse.timers as usize, fired.len()), "{name}: {id}");
    }
    let jobs = total(|purse| purse.jobs as usize);
    assert_eq!(world.printed.0.lock().len(), jobs, "{name}: each job ran under one id");
    eprintln!(
        "{name}: {accepted} of {sent} transfers accepted, {jobs} jobs, {} deaths",
        world.deaths.load(SeqCst)
    );
}

async fn simulate(seed: u64, nodes: usize, transfers: usize, mutant: Option<Mutant>) {
    follow_tokio_time();
    let world = World::new(seed, nodes, mutant);
    let mut seeds = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS {
        let mut dice = || StdRng::seed_from_u64(seeds.random());
        world.is_round_over.store(false, SeqCst);
        let harm = tokio::spawn(harm(Arc::clone(&world), dice()));
        let each = transfers / WRITERS / ROUNDS;
        let writers = (0..WRITERS)
            .map(|at| tokio::spawn(write(Arc::clone(&world), format!("{round}-{at}"), each, dice())));
        join_all(writers).await.into_iter().for_each(Result::unwrap);
        world.is_round_over.store(true, SeqCst);
        harm.await.unwrap();
        check(&world, &format!("seed {seed}, round {round}")).await;
    }
    assert!(world.deaths.load(SeqCst) >= 5, "seed {seed}: there were too few faults");
}

/// A number from the environment, or the default.
fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |value| value.parse().expect("it is a number"))
}

#[tokio::test(start_paused = true)]
async fn law_16_money_is_neither_lost_nor_made_by_failing_nodes() {
    let seed = setting("FASTSTATE_SEED", 1) as u64;
    simulate(seed, setting("FASTSTATE_NODES", 20), setting("FASTSTATE_TRANSFERS", 1_000), None).await;
}

/// A promise that a store breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// It does not keep the receipts of messages.
    ForgetsReceipts,
    /// It saves the change of a sender, but not its messages.
    ForgetsMessages,
}

#[derive(Debug)]
struct MutantStore {
    memory: Arc<MemoryStore>,
    mutant: Mutant,
}

#[async_trait]
impl StoreOverride for MutantStore {
    fn inner(&self) -> &dyn Store {
        &*self.memory
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let forgets = self.mutant == Mutant::ForgetsReceipts;
        let receipt = receipt.filter(|receipt| !(forgets && receipt.is_message()));
        let mut record = record.clone();
        if self.mutant == Mutant::ForgetsMessages && record.version.seq.is_multiple_of(5) {
            record = Record::new(record.schema, record.version, record.data, record.ttl);
        }
        self.memory.save(key, &record, expect, receipt).await
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the sum is unchanged")]
async fn law_16_mutant_store_without_receipts_is_caught() {
    simulate(1, 10, 500, Some(Mutant::ForgetsReceipts)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the sum is unchanged")]
async fn law_16_mutant_store_that_forgets_messages_is_caught() {
    simulate(2, 10, 500, Some(Mutant::ForgetsMessages)).await;
}
