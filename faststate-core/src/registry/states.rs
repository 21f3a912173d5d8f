//! All instances of one state.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use dashmap::{DashMap, Entry};
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

pub(super) use super::any_view::AnyView;
use super::{
    Access, Audience, Call, Error, Job, Mutation, Outcome, Rendered, Route, StateConfig, StateSnapshot,
    arriving::Arriving,
    instance::{Current, Instance, Slot},
    new_sessions::{NewSessions, Returning},
    nodes::Nodes,
    presence::TellsState,
    reload::{ReloadLimit, Reloads},
    shared::{Shared, guard, panic_text},
    turn::Command,
};
use crate::{
    BoxError, Elements, Key, ReactiveState, Version, Viewer,
    broadcast::Change,
    metrics::{EventMeter, StateMeter, Stopwatch, StoreMeter},
    store::{CircuitBreaker, Store, StoreError},
    topics::Follower,
    wire::{Input, InputError, SignalPath},
};

/// How a state begins; `None` if there is no such instance.
pub(super) type Initial<S> =
    Box<dyn Fn(Key) -> BoxFuture<'static, Result<Option<S>, BoxError>> + Send + Sync>;
/// The event that tells a state how many streams follow it.
pub(super) type Presence<S> = Box<TellsState<S, usize>>;
/// The event that tells a state who follows it.
pub(super) type Tell<S> = Box<TellsState<S, Audience>>;

/// An event as it is known by name.
pub(super) struct EventEntry<S> {
    pub(super) route: Route,
    pub(super) decode: fn(&Input, &Key) -> Result<DecodedAttempt<S>, InputError>,
    pub(super) meter: Arc<EventMeter>,
}

pub(super) type DecodedAttempt<S> = (Box<dyn Mutation<S>>, &'static [&'static str]);

/// Where a state is saved.
pub(super) struct Home {
    pub(super) store: Arc<dyn Store>,
    /// The same store, unless it is this process's memory.
    pub(super) guard: Option<Arc<CircuitBreaker<dyn Store>>>,
    pub(super) meter: Arc<StoreMeter>,
    /// Of all states in this store.
    pub(super) reload_limit: Arc<ReloadLimit>,
}

impl Home {
    /// The same for a state that sessions own: the records of new ones stay in memory.
    pub(super) fn returning(self, sessions: &Arc<NewSessions>) -> Self {
        let store = Returning { store: self.store, sessions: Arc::clone(sessions) };
        Self { store: Arc::new(store), ..self }
    }
}

/// A state as this node has it.
pub(super) struct Present<S> {
    pub(super) instance: Arc<Instance<S>>,
    pub(super) current: Arc<Current<S>>,
    /// Whether the store did not answer when it was asked whether this is the newest.
    pub(super) stale: bool,
}

/// All instances of one state.
pub(super) struct InstanceTable<S: ReactiveState> {
    pub(super) me: Weak<Self>,
    pub(super) config: StateConfig,
    pub(super) access: Access,
    pub(super) store: Arc<dyn Store>,
    pub(super) guard: Option<Arc<CircuitBreaker<dyn Store>>>,
    pub(super) events: BTreeMap<&'static str, EventEntry<S>>,
    pub(super) views: Vec<Arc<dyn AnyView<S>>>,
    pub(super) initial: Option<Initial<S>>,
    pub(super) presence: Option<Presence<S>>,
    pub(super) audience: Option<Tell<S>>,
    pub(super) shared: Arc<Shared>,
    pub(super) instances: DashMap<Key, Arc<Instance<S>>>,
    pub(super) meter: StateMeter,
    pub(super) store_meter: Arc<StoreMeter>,
    pub(super) reloads: Mutex<Reloads<S>>,
    pub(super) reload_limit: Arc<ReloadLimit>,
    /// Of events that the application sends itself.
    pub(super) application: Arc<EventMeter>,
}

/// All instances of some state: what the registry knows of it.
#[async_trait]
pub(super) trait DynInstanceTable: Send + Sync {
    fn config(&self) -> &StateConfig;
    fn routes(&self) -> Vec<Route>;
    fn has_event(&self, name: &str) -> bool;
    fn has_view(&self, name: &str) -> bool;
    fn allows(&self, key: &Key, viewer: &Viewer) -> bool;
    async fn dispatch(&self, call: Call) -> Result<Outcome, Error>;
    async fn run(&self, key: &Key, job: Job) -> Result<Outcome, Error>;
    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error>;
    async fn delete(&self, key: &Key) -> Result<(), Error>;
    async fn visible(&self, key: &Key, view: Option<&str>) -> Result<Rendered, Error>;
    async fn follow(
        &self,
        key: &Key,
        view: Option<&str>,
        cursor: Option<Version>,
        stream: u64,
        user: Option<&str>,
    ) -> Result<Follower, Error>;
    fn followers(&self, key: &Key) -> usize;
    /// Topics that are followed, and followers of them.
    fn topics(&self) -> (usize, usize);
    /// Another node changed this key.
    fn changed(&self, change: Change);
    /// An event on another node sends elements to all followers of this key.
    fn elements_elsewhere(&self, key: &Key, version: Option<Version>, elements: Vec<Elements>);
    /// Other nodes may have changed anything.
    fn lost(&self);
    /// Another node has come.
    fn node_came(&self);
    /// Another node has left, and has told of all its changes.
    fn node_left(&self, node: u64);
    /// Whether this node may have saved something that it could not tell the others yet.
    fn has_untold(&self) -> bool;
    /// Other nodes are gone, perhaps without having told of their last changes.
    fn nodes_died(&self, nodes: &[u64]);
    /// So many streams of another node follow this key; perhaps it asks how many do here.
    fn present_elsewhere(&self, key: &Key, node: u64, count: usize, asks: bool);
    /// These users and so many guests follow this key on another node; perhaps it asks who does here.
    fn audience_elsewhere(&self, key: &Key, node: u64, audience: Audience, asks: bool);
    /// Changes whenever the store answers again after a rest.
    fn returns(&self) -> Option<watch::Receiver<u64>>;
    /// The store answers again after a rest: it may hold anything.
    fn returned(&self);
    /// Whether what is in memory of an instance may be stale.
    fn is_stale(&self, key: &Key) -> bool;
    #[cfg(feature = "metrics")]
    fn meter(&self) -> &StateMeter;
    /// Keeps followed and used records alive, and lets idle instances go.
    async fn upkeep(&self);
    /// Lets every idle instance go.
    fn let_go(&self);
    /// Lets these instances go, those of this state that are idle.
    fn let_go_of(&self, keys: &[Key]);
}

#[async_trait]
impl<S: ReactiveState> DynInstanceTable for InstanceTable<S> {
    fn config(&self) -> &StateConfig {
        &self.config
    }

    fn routes(&self) -> Vec<Route> {
        self.events.values().map(|event| event.route.clone()).collect()
    }

    fn has_event(&self, name: &str) -> bool {
        self.events.contains_key(name)
    }

    fn has_view(&self, name: &str) -> bool {
        self.views.iter().any(|view| view.name() == name)
    }

    fn allows(&self, key: &Key, viewer: &Viewer) -> bool {
        self.access.allows(viewer, key)
    }

    async fn dispatch(&self, call: Call) -> Result<Outcome, Error> {
        let Call { key, event, viewer, input, id, wants_view } = call;
        if !self.access.allows(&viewer, &key) {
            return Err(Error::Unknown);
        }
        let event = self.events.get(&*event).ok_or(Error::Unknown)?;
        let watch = Stopwatch::start();
        let outcome = match (event.decode)(&input, &key) {
            Ok((attempt, fields)) => {
                self.send(&key, Arriving { attempt, fields, viewer, id, wants_view }).await
            }
            Err(error) => Err(error.into()),
        };
        event.meter.count(&outcome, watch);
        outcome
    }

    async fn run(&self, key: &Key, job: Job) -> Result<Outcome, Error> {
        let Job { attempt, viewer, id } = job;
        let attempt = *attempt.downcast::<Box<dyn Mutation<S>>>().map_err(|_| Error::Unknown)?;
        let watch = Stopwatch::start();
        let outcome = self.send(key, Arriving { attempt, fields: &[], viewer, id, wants_view: false }).await;
        self.application.count(&outcome, watch);
        outcome
    }

    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error> {
        let Present { current, stale, .. } = self.current(key, self.deadline()).await?;
        Ok(StateSnapshot { state: Arc::clone(&current.state) as _, version: current.version, stale })
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let (me, instance) = (self.me()?, self.instance(key)?);
        me.take_turn(&instance, Command::Delete, self.deadline()).await.map(drop)
    }

    async fn visible(&self, key: &Key, view: Option<&str>) -> Result<Rendered, Error> {
        let slot = self.slot(view)?;
        let Present { instance, current, .. } = self.current(key, self.deadline()).await?;
        match slot {
            Slot::Signals => {
                Ok(Rendered::Signals(instance.nest.json(Some(current.image()?), Some(current.version))))
            }
            Slot::View(at) => {
                let view = &self.views[at];
                let elements = guard("a view panicked", || view.render(&current.state))?;
                Ok(Rendered::View(
                    elements,
                    SignalPath::of(key, Some(view.name())).json(None, Some(current.version)),
                ))
            }
        }
    }

    async fn follow(
        &self,
        key: &Key,
        view: Option<&str>,
        cursor: Option<Version>,
        stream: u64,
        user: Option<&str>,
    ) -> Result<Follower, Error> {
        let slot = self.slot(view)?;
        self.join(key, slot, cursor, stream, user).await
    }

    fn followers(&self, key: &Key) -> usize {
        self.loaded(key).map_or(0, |instance| instance.followers())
    }

    fn topics(&self) -> (usize, usize) {
        let open = |instance: &Instance<S>| {
            let topics = instance.topics.lock();
            let followers: usize = topics.open.iter().map(|(_, topic)| topic.followers()).sum();
            (topics.open.len(), followers)
        };
        let add = |(topics, followers), (more_topics, more)| (topics + more_topics, followers + more);
        self.instances.iter().map(|instance| open(&instance)).fold((0, 0), add)
    }

    fn changed(&self, change: Change) {
        self.arrive(change);
    }

    fn elements_elsewhere(&self, key: &Key, version: Option<Version>, elements: Vec<Elements>) {
        self.elements_arrive(key, version, elements);
    }

    fn lost(&self) {
        if self.nodes().is_none() {
            return;
        }
        self.reload_followed();
        self.exchange_counts();
    }

    fn node_came(&self) {
        self.exchange_counts();
    }

    fn node_left(&self, node: u64) {
        self.forget_nodes(&[node]);
    }

    fn has_untold(&self) -> bool {
        self.nodes().is_some() && self.instances.iter().any(|instance| instance.upkeep.lock().untold)
    }

    fn nodes_died(&self, nodes: &[u64]) {
        self.forget_nodes(nodes);
        self.lost();
    }

    fn present_elsewhere(&self, key: &Key, node: u64, count: usize, asks: bool) {
        self.hear(key, node, count, asks);
    }

    fn audience_elsewhere(&self, key: &Key, node: u64, audience: Audience, asks: bool) {
        self.hear(key, node, audience, asks);
    }

    fn returns(&self) -> Option<watch::Receiver<u64>> {
        self.guard.as_ref().map(|guard| guard.returns())
    }

    fn returned(&self) {
        let unfollowed = self.instances.iter().filter(|instance| instance.followers() == 0);
        unfollowed.for_each(|instance| instance.upkeep.lock().suspect = true);
        self.reload_followed();
    }

    fn is_stale(&self, key: &Key) -> bool {
        self.loaded(key).is_some_and(|instance| instance.is_stale())
    }

    #[cfg(feature = "metrics")]
    fn meter(&self) -> &StateMeter {
        &self.meter
    }

    async fn upkeep(&self) {
        self.keep().await;
    }

    fn let_go(&self) {
        self.let_go_idle(Duration::ZERO);
    }

    fn let_go_of(&self, keys: &[Key]) {
        let gone = keys.iter().filter(|key| key.state() == S::NAME && self.remove_idle(key)).count();
        self.shared.instances_leave(gone);
    }
}

impl<S: ReactiveState> InstanceTable<S> {
    /// The present state, loaded or confirmed first if need be; where the store does not answer, what is
    /// in memory.
    pub(super) async fn current(&self, key: &Key, deadline: Instant) -> Result<Present<S>, Error> {
        let instance = self.instance(key)?;
        let alone = self.nodes().is_none() || instance.topics.lock().interest.is_some();
        if self.is_resting() {
            self.unanswered(&instance);
        }
        if let Some(current) = instance.usable(Instant::now()).filter(|_| alone) {
            return Ok(Present { instance, current, stale: false });
        }
        // With something to show, a page does not wait to the end; and not again and again.
        let patience = match (instance.remembered(), instance.is_stale()) {
            (None, _) => self.shared.deadline,
            (Some(_), false) => self.shared.deadline / 2,
            (Some(_), true) => self.shared.deadline / 8,
        };
        let patience = deadline.min(Instant::now() + patience);
        match self.refreshed(Arc::clone(&instance), patience).await {
            Ok((instance, current)) => Ok(Present { instance, current, stale: false }),
            Err(error) => {
                let unanswered = matches!(
                    error,
                    Error::Unavailable(StoreError::Unavailable(_)) | Error::TimedOut | Error::OutcomeUnknown
                );
                let Some(current) = instance.remembered().filter(|_| unanswered) else {
                    self.forget(instance);
                    return Err(error);
                };
                self.unanswered(&instance);
                Ok(Present { instance, current, stale: true })
            }
        }
    }

    /// The present state as the store has it now.
    pub(super) async fn refreshed(
        &self,
        instance: Arc<Instance<S>>,
        deadline: Instant,
    ) -> Result<(Arc<Instance<S>>, Arc<Current<S>>), Error> {
        self.looked_up(instance, Command::refresh(), deadline).await
    }

    /// The present state after a look at the store.
    pub(super) async fn looked_up(
        &self,
        instance: Arc<Instance<S>>,
        look: Command<S>,
        deadline: Instant,
    ) -> Result<(Arc<Instance<S>>, Arc<Current<S>>), Error> {
        let outcome = self.me()?.take_turn(&instance, look, deadline).await;
        let current = instance.current.read().clone();
        match (outcome, current) {
            (Ok(_), Some(current)) => Ok((instance, current)),
            (Err(error), _) => {
                self.forget(instance);
                Err(error)
            }
            (Ok(_), None) => Err(Error::Unknown),
        }
    }

    /// How an instance begins that the store does not have.
    pub(super) async fn first(&self, key: &Key, deadline: Instant) -> Result<S, Error> {
        let Some(initial) = &self.initial else { return Ok(S::default()) };
        let first = std::panic::AssertUnwindSafe(async { initial(key.clone()).await }).catch_unwind();
        match tokio::time::timeout_at(deadline, first).await.map_err(|_| Error::TimedOut)? {
            Ok(Ok(Some(state))) => Ok(state),
            Ok(Ok(None)) => Err(Error::Unknown),
            Ok(Err(source)) => Err(Error::Unavailable(crate::store::StoreError::Unavailable(source))),
            Err(panic) => Err(Error::internal("`initial` panicked", &panic_text(&*panic))),
        }
    }

    /// The instance in memory, made if need be.
    pub(super) fn instance(&self, key: &Key) -> Result<Arc<Instance<S>>, Error> {
        if let Some(instance) = self.loaded(key) {
            return Ok(instance);
        }
        self.shared.new_sessions.note(key)?;
        if !self.shared.instance_enters() {
            self.shared.make_room();
            if !self.shared.instance_enters() {
                return Err(Error::Busy("too many instances in memory"));
            }
        }
        match self.instances.entry(key.clone()) {
            Entry::Occupied(instance) => {
                self.shared.instances_leave(1);
                Ok(Arc::clone(instance.get()))
            }
            Entry::Vacant(place) => Ok(Arc::clone(&place.insert(Arc::new(Instance::new(key.clone()))))),
        }
    }

    pub(super) fn loaded(&self, key: &Key) -> Option<Arc<Instance<S>>> {
        self.instances.get(key).map(|instance| Arc::clone(&instance))
    }

    /// The way to the other nodes, unless each has its own.
    pub(super) fn nodes(&self) -> Option<&Nodes> {
        self.shared.nodes.as_ref().filter(|_| !self.config.each_node)
    }

    pub(super) fn me(&self) -> Result<Arc<Self>, Error> {
        self.me.upgrade().ok_or(Error::Busy("the registry is shutting down"))
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.shared.deadline
    }

    fn slot(&self, view: Option<&str>) -> Result<Slot, Error> {
        let Some(name) = view else { return Ok(Slot::Signals) };
        let at = self.views.iter().position(|view| view.name() == name);
        at.map(Slot::View).ok_or(Error::Unknown)
    }
}
