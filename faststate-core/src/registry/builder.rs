//! What a registry is made of, and whether that can work.

use std::{
    any::type_name,
    collections::{BTreeMap, HashSet},
    fmt,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::{
    Access, Audience, BuildError, Route, StateConfig, StateRegistry,
    config::Saved,
    instance::Current,
    mistakes::Mistakes,
    nodes::maintain_membership,
    reload::ReloadLimit,
    shared::Shared,
    state_registry::Ear,
    states::{
        AnyView, DecodedAttempt, DynInstanceTable, EventEntry, Home, Initial, InstanceTable, Presence, Tell,
    },
    turn::GRACE,
    upkeep::{keep_instances, keep_store, look_again},
};
use crate::{
    BoxError, Broadcaster, Event, Key, MemoryStore, ReactiveState, Scope, View,
    event::Resources,
    key::check_name,
    metrics::{EventMeter, StateMeter, StoreMeter},
    store::{CircuitBreaker, Store, WriteBehind},
    wire::{Decoded, Input, InputError},
};

/// The registry's own memory, where states live that are not persisted.
const MEMORY: &str = "memory";
/// The store that `persist()` means.
const DEFAULT: &str = "default";

/// What meters call events that the application sends itself: no event can have this name.
const BY_APPLICATION: &str = "(application)";

/// What a [`StateRegistry`] is made of.
pub struct RegistryBuilder {
    states: Vec<Declared>,
    /// As they were given.
    stores: BTreeMap<String, Arc<dyn Store>>,
    broadcaster: Option<Arc<dyn Broadcaster>>,
    node: Option<String>,
    resources: Resources,
    deadline: Duration,
    background: usize,
    max_instances: usize,
    mistakes: Vec<String>,
}

/// A state that was declared, and how to put it together once the stores are known.
struct Declared {
    name: &'static str,
    config: StateConfig,
    routes: Vec<Route>,
    finish: Box<Finish>,
}

type Finish = dyn FnOnce(Home, Arc<Shared>) -> Arc<dyn DynInstanceTable>;

/// What one state is made of: its events, views and beginnings.
pub struct StateBuilder<S> {
    name: &'static str,
    has_id: bool,
    events: Vec<EventEntry<S>>,
    views: Vec<Arc<dyn AnyView<S>>>,
    initial: Option<Initial<S>>,
    presence: Option<Presence<S>>,
    audience: Option<Tell<S>>,
}

impl RegistryBuilder {
    pub(super) fn new() -> Self {
        Self {
            states: Vec::new(),
            stores: BTreeMap::new(),
            broadcaster: None,
            node: None,
            resources: Resources::default(),
            deadline: Duration::from_secs(2),
            background: 10_000,
            max_instances: 250_000,
            mistakes: Vec::new(),
        }
    }

    /// Adds a state: how it is kept, and its events and views.
    #[must_use]
    pub fn state<S: ReactiveState>(
        mut self,
        config: StateConfig,
        describe: impl FnOnce(StateBuilder<S>) -> StateBuilder<S>,
    ) -> Self {
        let built = describe(StateBuilder {
            name: S::NAME,
            has_id: config.scope.has_id(),
            events: Vec::new(),
            views: Vec::new(),
            initial: None,
            presence: None,
            audience: None,
        });
        built.check(&config, &mut self.mistakes);
        let routes = built.events.iter().map(|event| event.route.clone()).collect();
        let declared = config.clone();
        let finish = move |home, shared| built.finish(declared, home, shared) as Arc<dyn DynInstanceTable>;
        self.states.push(Declared { name: S::NAME, config, routes, finish: Box::new(finish) });
        self
    }

    /// The default store: where `persist()` saves.
    #[must_use]
    pub fn store(self, store: impl Store) -> Self {
        self.store_named(DEFAULT, store)
    }

    /// One more store, for `persist_in(name)`. The name `memory` replaces the registry's own memory.
    #[must_use]
    pub fn store_named(mut self, name: impl Into<String>, store: impl Store) -> Self {
        let name = name.into();
        if self.stores.contains_key(&name) {
            self.mistakes.push(format!("the store `{name}` is given twice: give each a name of its own"));
        }
        self.stores.insert(name, Arc::new(store));
        self
    }

    /// Connects this registry with others over the same stores.
    #[must_use]
    pub fn broadcaster(mut self, broadcaster: impl Broadcaster) -> Self {
        self.broadcaster = Some(Arc::new(broadcaster));
        self
    }

    /// What this node is called in [`Health`](crate::Health) and in the logs of the others (random). Names
    /// are for people: two nodes of one name are two nodes.
    #[must_use]
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = Some(name.into());
        self
    }

    /// A value that `prepare`, work after a commit and handles can reach by its type: a database pool, say.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.resources.insert(value);
        self
    }

    /// How long a call may take from its arrival, and a call of a store (2 s, over 50 ms and at most an hour).
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.min(Duration::from_hours(1));
        self
    }

    /// How many pieces of work after commits may run at a time (10,000).
    #[must_use]
    pub const fn max_background(mut self, pieces: usize) -> Self {
        self.background = pieces;
        self
    }

    /// How many instances may be in memory at a time (250,000). Idle ones leave; one that is followed
    /// or used never does, and at the cap a new one is refused.
    #[must_use]
    pub const fn max_instances(mut self, instances: usize) -> Self {
        self.max_instances = instances;
        self
    }

    /// Puts the registry together and starts its housekeeping.
    ///
    /// # Errors
    /// Every mistake at once: duplicate or illegal names, a shared state without declared access, an
    /// unknown store, signals that cannot be encoded, a call outside a tokio runtime; with a
    /// broadcaster also a state that is not saved in a shared store.
    pub fn build(mut self) -> Result<Arc<StateRegistry>, BuildError> {
        self.check();
        if !self.mistakes.is_empty() {
            return Err(BuildError(self.mistakes));
        }
        let shared = Arc::new(Shared::new(
            self.resources,
            self.deadline,
            self.background,
            self.max_instances,
            self.broadcaster.clone(),
            self.node.unwrap_or_else(|| format!("{:08x}", rand::random::<u32>())).into(),
        ));
        let guarded = |store| Arc::new(CircuitBreaker::shared(store).deadline(self.deadline));
        let guards: BTreeMap<_, _> =
            self.stores.into_iter().map(|(name, store)| (name, guarded(store))).collect();
        let mut stores: BTreeMap<_, Arc<dyn Store>> =
            guards.iter().map(|(name, guard)| (name.clone(), Arc::clone(guard) as _)).collect();
        stores.entry(MEMORY.to_owned()).or_insert_with(|| Arc::new(MemoryStore::new()));
        let mut states = BTreeMap::new();
        let mut meters: BTreeMap<String, Arc<StoreMeter>> = BTreeMap::new();
        let mut limits: BTreeMap<String, Arc<ReloadLimit>> = BTreeMap::new();
        for Declared { name, config, finish, .. } in self.states {
            let named = store_name(&config);
            let Some(store) = stores.get(named).map(Arc::clone) else { continue };
            let meter = Arc::clone(meters.entry(named.to_owned()).or_default());
            let reload_limit = Arc::clone(limits.entry(named.to_owned()).or_insert_with(ReloadLimit::new));
            let is_sessions = matches!(config.scope, Scope::Session | Scope::Component);
            let home = match config.every {
                None => Home { store, guard: guards.get(named).map(Arc::clone), meter, reload_limit },
                Some(interval) => {
                    let store: Arc<dyn Store> = WriteBehind::new(store, interval);
                    stores.insert(format!("{named} of {name}"), Arc::clone(&store));
                    Home { store, guard: None, meter, reload_limit }
                }
            };
            let home = if is_sessions { home.returning(&shared.new_sessions) } else { home };
            states.insert(name, finish(home, Arc::clone(&shared)));
        }
        // Set once, here.
        let _ = shared.states.set(states.values().map(Arc::downgrade).collect());
        shared.new_sessions.belong_to(states.values().map(Arc::downgrade).collect());
        let registry =
            Arc::new(StateRegistry { states, stores, meters, shared, mistakes: Mistakes::default() });
        let weak = Arc::downgrade(&registry);
        registry.shared.environment.attach(Weak::clone(&weak) as _);
        if let Some(broadcaster) = self.broadcaster {
            broadcaster.attach(Arc::new(Ear(Weak::clone(&weak))));
            tokio::spawn(maintain_membership(Weak::clone(&weak)));
        }
        for states in registry.states.values() {
            tokio::spawn(keep_instances(Arc::downgrade(states), states.config().ttl));
            if let Some(returns) = states.returns() {
                tokio::spawn(look_again(Arc::downgrade(states), returns));
            }
        }
        for name in registry.stores.keys() {
            tokio::spawn(keep_store(name.clone(), Arc::downgrade(&registry)));
        }
        Ok(registry)
    }

    fn check(&mut self) {
        let mistakes = &mut self.mistakes;
        if self.deadline <= GRACE {
            mistakes.push(format!(
                "the deadline is {:?}, of which a turn keeps {GRACE:?} for its answer, so every event would be refused: set a `deadline` above that (2 s unless it is set)",
                self.deadline
            ));
        }
        if tokio::runtime::Handle::try_current().is_err() {
            mistakes.push("there is no tokio runtime: call `build` inside of one".to_owned());
        }
        let (mut names, mut taken) = (HashSet::new(), HashSet::new());
        for Declared { name, config, routes, .. } in &self.states {
            if !names.insert(*name) {
                mistakes.push(format!("two states are named `{name}`: rename one"));
            }
            let store = store_name(config);
            if store != MEMORY && !self.stores.contains_key(store) {
                mistakes.push(format!(
                    "the state `{name}` is saved in the store `{store}`, which is not there: add it with `store` or `store_named`"
                ));
            }
            if self.broadcaster.is_some() && config.store == Saved::Memory && !config.each_node {
                mistakes.push(format!(
                    "the state `{name}` is not saved in a store that all nodes share: add `persist()`, or `each_node()` if each is to have its own, or leave out the broadcaster"
                ));
            }
            if config.each_node && config.store != Saved::Memory {
                mistakes.push(format!(
                    "the state `{name}` is each node's own, and saved where all nodes find it: leave out `each_node()` or `persist()`"
                ));
            }
            if config.every.is_some() && config.store == Saved::Memory {
                mistakes.push(format!(
                    "the state `{name}` is saved every now and then, but nowhere: add `persist()` or `persist_in`"
                ));
            }
            if self.broadcaster.is_some() && config.every.is_some() {
                mistakes.push(format!(
                    "the state `{name}` is acknowledged before it is saved, so other nodes could not see it: leave out `persist_every`, or the broadcaster"
                ));
            }
            for Route { method, path, event, .. } in routes {
                if !taken.insert((method, path)) {
                    mistakes.push(format!(
                        "`{method} {path}` is the path of two events, one of them `{name}.{event}`: change one"
                    ));
                }
            }
        }
    }
}

pub(super) fn store_name(config: &StateConfig) -> &str {
    match &config.store {
        Saved::Memory => MEMORY,
        Saved::Store(name) if name.is_empty() => DEFAULT,
        Saved::Store(name) => name,
    }
}

impl<S: ReactiveState> StateBuilder<S> {
    /// An event that can be called over HTTP.
    #[must_use]
    pub fn event<E: Event<State = S>>(mut self) -> Self {
        let path = match E::PATH {
            Some(path) => path.into(),
            None if self.has_id => format!("/faststate/{}/{{id}}/{}", S::NAME, E::NAME).into(),
            None => format!("/faststate/{}/{}", S::NAME, E::NAME).into(),
        };
        let route = Route { method: E::METHOD, path, state: S::NAME, event: E::NAME };
        self.events.push(EventEntry { route, decode: decode::<E>, meter: Arc::default() });
        self
    }

    /// A view: a topic of its own, `state.view`.
    #[must_use]
    pub fn view(mut self, view: impl View<State = S>) -> Self {
        self.views.push(Arc::new(view));
        self
    }

    /// How an instance begins that was never saved, instead of with `Default`; `None` if there is no
    /// such instance, which is a 404.
    #[must_use]
    pub fn initial<F>(self, initial: impl Fn(Key) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<S>> + Send + 'static,
    {
        self.try_initial(move |key| {
            let first = initial(key);
            async move { Ok(first.await) }
        })
    }

    /// Like [`initial`](Self::initial), where looking it up may fail: then what asked for it fails too,
    /// as unavailable.
    #[must_use]
    pub fn try_initial<F>(mut self, initial: impl Fn(Key) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<S>, BoxError>> + Send + 'static,
    {
        self.initial = Some(Box::new(move |key| Box::pin(initial(key))));
        self
    }

    /// The event that tells an instance how many streams follow it, on all nodes, sent by the engine some
    /// 200 ms after that number has changed, once for all who came and went until then.
    ///
    /// Each node that has followers tells it what it knows, so that an event that finds the number there
    /// already should change nothing. The followers of a node that died are counted for 5 seconds more, and
    /// those of one that was the last with any until somebody follows again.
    #[must_use]
    pub fn presence<E: Event<State = S>>(
        mut self,
        event: impl Fn(usize) -> E + Send + Sync + 'static,
    ) -> Self {
        self.presence = Some(Box::new(move |count| Box::new(event(count))));
        self
    }

    /// The event that tells an instance who follows it, on all nodes, sent by the engine some 200 ms after
    /// that has changed, once for all who came and went until then.
    ///
    /// Each node that has followers tells it what it knows, as for [`presence`](Self::presence).
    #[must_use]
    pub fn audience<E: Event<State = S>>(
        mut self,
        event: impl Fn(Audience) -> E + Send + Sync + 'static,
    ) -> Self {
        self.audience = Some(Box::new(move |audience| Box::new(event(audience))));
        self
    }

    fn check(&self, config: &StateConfig, mistakes: &mut Vec<String>) {
        let state = self.name;
        if check_name(state).is_err() {
            mistakes.push(format!(
                "`{state}` cannot name a state ({}): rename it to `[a-z][a-z0-9_]*` without `__`",
                type_name::<S>()
            ));
        }
        if config.scope.is_shared() && config.access.is_none() {
            mistakes.push(format!(
                "the state `{state}` is shared and says nothing of who may see it: add `.access(Access::public())` or another policy"
            ));
        }
        let events = self.events.iter().map(|event| ("event", event.route.event));
        let views = self.views.iter().map(|view| ("view", view.name()));
        let mut seen = HashSet::new();
        for (kind, name) in events.chain(views) {
            if check_name(name).is_err() {
                mistakes.push(format!(
                    "`{name}` cannot name the {kind} of `{state}`: rename it to `[a-z][a-z0-9_]*` without `__`"
                ));
            }
            if !seen.insert((kind, name)) {
                mistakes.push(format!("the state `{state}` has two {kind}s named `{name}`: rename one"));
            }
        }
        for route in self.events.iter().map(|event| &event.route) {
            if route.path.contains("{id}") != self.has_id || !route.path.starts_with('/') {
                mistakes.push(format!(
                    "the path `{}` of the event `{state}.{}` must begin with `/` and contain `{{id}}` for records and components, and only for them",
                    route.path, route.event
                ));
            }
        }
        if let Err(error) = Current::start(S::default()).and_then(|first| first.image().map(drop)) {
            mistakes.push(format!("the default value of `{state}` cannot be shown ({error}): see the log"));
        }
    }

    fn finish(self, config: StateConfig, home: Home, shared: Arc<Shared>) -> Arc<InstanceTable<S>> {
        let meters = self.events.iter().map(|event| (event.route.event, Arc::clone(&event.meter)));
        let application = Arc::<EventMeter>::default();
        let mut meters: Vec<_> = meters.collect();
        meters.push((BY_APPLICATION, Arc::clone(&application)));
        Arc::new_cyclic(|me| InstanceTable {
            meter: StateMeter { events: meters, ..StateMeter::default() },
            application,
            store_meter: home.meter,
            reloads: Mutex::default(),
            reload_limit: home.reload_limit,
            me: Weak::clone(me),
            access: config.access.clone().unwrap_or_else(Access::public),
            config,
            store: home.store,
            guard: home.guard,
            events: self.events.into_iter().map(|event| (event.route.event, event)).collect(),
            views: self.views,
            initial: self.initial,
            presence: self.presence,
            audience: self.audience,
            shared,
            instances: DashMap::new(),
        })
    }
}

fn decode<E: Event>(input: &Input, key: &Key) -> Result<DecodedAttempt<E::State>, InputError> {
    let Decoded { event, fields } = input.decode::<E>(key)?;
    Ok((Box::new(event), fields))
}

impl fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states: Vec<_> = self.states.iter().map(|declared| declared.name).collect();
        f.debug_struct("RegistryBuilder").field("states", &states).finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for StateBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
