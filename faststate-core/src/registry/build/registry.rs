//! Builders of registries and states, and the checks of `build()`.

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

use crate::{
    BoxError, Broadcaster, Event, Key, MemoryStore, ReactiveState, Scope, View,
    event::Resources,
    key::check_name,
    metrics::{EventMeter, StateMeter, StoreMeter},
    registry::{
        Access, Audience, BuildError, StateConfig, StateRegistry,
        cluster::inbox::{ClusterInbox, maintain_membership},
        config::{DEFAULT, MEMORY, Saved},
        dyn_table::DynInstanceTable,
        instance::{
            eviction::{maintain_instances, maintain_store, reload_on_recovery},
            queue::GRACE,
            revision::Current,
            table::{AnyView, DecodedAttempt, EventEntry, Home, Initial, InstanceTable, Presence, Tell},
        },
        load::limit::ReloadLimit,
        mistakes::Mistakes,
        request::Route,
        shared::Shared,
    },
    store::{CircuitBreaker, Store, WriteBehind},
    wire::{Decoded, Input, InputError},
};

/// Metrics label of the events that the application sends itself. No event can have this name.
const BY_APPLICATION: &str = "(application)";

/// Builds a [`StateRegistry`].
pub struct RegistryBuilder {
    states: Vec<Declared>,
    /// The stores as passed in, without a circuit breaker.
    stores: BTreeMap<String, Arc<dyn Store>>,
    broadcaster: Option<Arc<dyn Broadcaster>>,
    node: Option<String>,
    resources: Resources,
    deadline: Duration,
    background: usize,
    max_instances: usize,
    mistakes: Vec<String>,
}

/// A declared state. `finish` creates its instance table once the stores are known.
struct Declared {
    name: &'static str,
    config: StateConfig,
    routes: Vec<Route>,
    finish: Box<Finish>,
}

type Finish = dyn FnOnce(Home, Arc<Shared>) -> Arc<dyn DynInstanceTable>;

/// Builds one state of a registry: its events, its views and its first value.
pub struct StateBuilder<S> {
    name: &'static str,
    has_id: bool,
    events: Vec<EventEntry<S>>,
    views: Vec<Arc<dyn AnyView<S>>>,
    initial: Option<Initial<S>>,
    presence: Option<Presence<S>>,
    audience: Option<Tell<S>>,
}

impl StateRegistry {
    /// Starts to build a registry.
    #[must_use]
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::new()
    }
}

impl RegistryBuilder {
    pub(in crate::registry) fn new() -> Self {
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

    /// Adds a state with its configuration. `describe` adds its events and views.
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

    /// Sets the default store, which `persist()` uses.
    #[must_use]
    pub fn store(self, store: impl Store) -> Self {
        self.store_named(DEFAULT, store)
    }

    /// Adds a store for `persist_in(name)`. A store named `memory` replaces the registry's own memory.
    #[must_use]
    pub fn store_named(mut self, name: impl Into<String>, store: impl Store) -> Self {
        let name = name.into();
        if self.stores.contains_key(&name) {
            self.mistakes.push(format!("two stores are named `{name}`: rename one"));
        }
        self.stores.insert(name, Arc::new(store));
        self
    }

    /// Connects this registry with the registries of other nodes that share its stores.
    #[must_use]
    pub fn broadcaster(mut self, broadcaster: impl Broadcaster) -> Self {
        self.broadcaster = Some(Arc::new(broadcaster));
        self
    }

    /// Sets this node's name in [`Health`](crate::Health) and in the logs of other nodes (default: random).
    ///
    /// Names are for people only: two nodes with the same name are still two nodes.
    #[must_use]
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = Some(name.into());
        self
    }

    /// Adds a value, such as a database pool, that `prepare`, background work and handles can access by its type.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.resources.insert(value);
        self
    }

    /// Sets the time that a call may take from its arrival, and that one store call may take.
    ///
    /// The default is 2 s. The deadline must be longer than 50 ms, and is capped at 1 hour.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.min(Duration::from_hours(1));
        self
    }

    /// Sets how many background tasks of events may run concurrently (default: 10,000).
    #[must_use]
    pub const fn max_background(mut self, pieces: usize) -> Self {
        self.background = pieces;
        self
    }

    /// Sets how many instances may be in memory at once (default: 250,000).
    ///
    /// Idle instances are evicted. Instances that are followed or in use are not, so a call that needs one more instance
    /// is refused at the limit.
    #[must_use]
    pub const fn max_instances(mut self, instances: usize) -> Self {
        self.max_instances = instances;
        self
    }

    /// Builds the registry and starts its background tasks.
    ///
    /// # Errors
    /// Returns all mistakes at once: duplicate or invalid names, a shared state without an access policy, an unknown
    /// store, signals that cannot be encoded, a call outside a tokio runtime, and, with a broadcaster, a state that is not
    /// saved in a shared store.
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
            let named = config.store_name();
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
        // This is the only place that sets it.
        let _ = shared.states.set(states.values().map(Arc::downgrade).collect());
        shared.new_sessions.set_states(states.values().map(Arc::downgrade).collect());
        let registry =
            Arc::new(StateRegistry { states, stores, meters, shared, mistakes: Mistakes::default() });
        let weak = Arc::downgrade(&registry);
        registry.shared.environment.attach(Weak::clone(&weak) as _);
        if let Some(broadcaster) = self.broadcaster {
            broadcaster.attach(Arc::new(ClusterInbox(Weak::clone(&weak))));
            tokio::spawn(maintain_membership(Weak::clone(&weak)));
        }
        for states in registry.states.values() {
            tokio::spawn(maintain_instances(Arc::downgrade(states), states.config().ttl));
            if let Some(returns) = states.returns() {
                tokio::spawn(reload_on_recovery(Arc::downgrade(states), returns));
            }
        }
        for name in registry.stores.keys() {
            tokio::spawn(maintain_store(name.clone(), Arc::downgrade(&registry)));
        }
        Ok(registry)
    }

    fn check(&mut self) {
        let mistakes = &mut self.mistakes;
        if self.deadline <= GRACE {
            mistakes.push(format!(
                "the deadline is {:?}, but a turn reserves {GRACE:?} for its reply, so every event would be refused: set a longer `deadline` (default: 2 s)",
                self.deadline
            ));
        }
        if tokio::runtime::Handle::try_current().is_err() {
            mistakes.push("there is no tokio runtime: call `build` inside one".to_owned());
        }
        let (mut names, mut taken) = (HashSet::new(), HashSet::new());
        for Declared { name, config, routes, .. } in &self.states {
            if !names.insert(*name) {
                mistakes.push(format!("two states are named `{name}`: rename one"));
            }
            let store = config.store_name();
            if store != MEMORY && !self.stores.contains_key(store) {
                mistakes.push(format!(
                    "the state `{name}` is saved in the store `{store}`, which does not exist: add it with `store` or `store_named`"
                ));
            }
            if self.broadcaster.is_some() && config.store == Saved::Memory && !config.each_node {
                mistakes.push(format!(
                    "the state `{name}` is not saved in a store that all nodes share: add `persist()`, add `node_local()` if each node has its own instances, or remove the broadcaster"
                ));
            }
            if config.each_node && config.store != Saved::Memory {
                mistakes.push(format!(
                    "the state `{name}` is both local to a node and saved in a shared store: remove `node_local()` or `persist()`"
                ));
            }
            if config.every.is_some() && config.store == Saved::Memory {
                mistakes.push(format!(
                    "the state `{name}` has `persist_every` but no store: add `persist()` or `persist_in`"
                ));
            }
            if self.broadcaster.is_some() && config.every.is_some() {
                mistakes.push(format!(
                    "the state `{name}` acknowledges events before it saves them, so other nodes could miss them: remove `persist_every` or the broadcaster"
                ));
            }
            for Route { method, path, event, .. } in routes {
                if !taken.insert((method, path)) {
                    mistakes.push(format!(
                        "two events have the path `{method} {path}`, one of them `{name}.{event}`: change one"
                    ));
                }
            }
        }
    }
}

impl<S: ReactiveState> StateBuilder<S> {
    /// Adds an event that can be called over HTTP.
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

    /// Adds a view, which is followed as a separate topic, `state.view`.
    #[must_use]
    pub fn view(mut self, view: impl View<State = S>) -> Self {
        self.views.push(Arc::new(view));
        self
    }

    /// Sets the first value of an instance that was never saved, instead of `Default`.
    ///
    /// `None` means that the instance does not exist, and gives [`Error::Unknown`](crate::registry::Error::Unknown) (404).
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

    /// Like [`initial`](Self::initial), for a value whose lookup may fail. A call that needs the value then fails with
    /// [`Error::Unavailable`](crate::registry::Error::Unavailable).
    #[must_use]
    pub fn try_initial<F>(mut self, initial: impl Fn(Key) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<S>, BoxError>> + Send + 'static,
    {
        self.initial = Some(Box::new(move |key| Box::pin(initial(key))));
        self
    }

    /// Sets an event that carries the number of streams that follow an instance, on all nodes.
    ///
    /// The engine sends it about 200 ms after the number changed, once for all changes in the meantime. Each node with
    /// followers sends it, so the event should change nothing if the state already holds the number. The followers of a
    /// node that died are counted for 5 s longer. If it was the last node with followers, they are counted until the
    /// instance is followed again.
    #[must_use]
    pub fn presence<E: Event<State = S>>(
        mut self,
        event: impl Fn(usize) -> E + Send + Sync + 'static,
    ) -> Self {
        self.presence = Some(Box::new(move |count| Box::new(event(count))));
        self
    }

    /// Sets an event that carries the users that follow an instance, on all nodes.
    ///
    /// The engine sends it as described for [`presence`](Self::presence), whenever the audience changed.
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
                "the state `{state}` is shared but has no access policy: add `.access(Access::public())` or another policy"
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
            mistakes.push(format!("the default value of `{state}` cannot be encoded ({error}): see the log"));
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
            run_queue: crate::registry::turn::start_queue,
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
