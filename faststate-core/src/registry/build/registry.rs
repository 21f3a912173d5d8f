//! The builder of a registry.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    checks::{Declaration, check_registry, check_states},
    state::StateBuilder,
};
use crate::{
    Broadcaster, Job, MemoryStore, ReactiveState, Scope,
    event::Resources,
    key::check_name,
    metrics::StoreMeter,
    registry::{
        BuildError, StateConfig, StateRegistry,
        cluster::inbox::{ClusterInbox, maintain_membership},
        config::{DEFAULT, MEMORY},
        dyn_table::DynInstanceTable,
        erased_table::ErasedTable,
        instance::{
            eviction::{maintain_instances, maintain_store, reload_on_recovery},
            table::Home,
        },
        load::limit::ReloadLimit,
        messages::{
            driver::Dispatcher,
            gate::MessageGate,
            job_queue::{JobQueue, job_queue_config},
            jobs::{JobTable, JobType},
            scheduler::{Scheduler, run_scheduler},
            store_time::StoreTime,
        },
        mistakes::Mistakes,
        request::Route,
        shared::Shared,
        tasks::spawn,
    },
    store::{CircuitBreaker, Store, WriteBehind},
};

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
    jobs: JobTable,
    gate: Option<Arc<dyn MessageGate>>,
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
            jobs: JobTable::new(),
            gate: None,
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
        let built = describe(StateBuilder::new(&config));
        let routes = built.check(&config, &mut self.mistakes);
        let declared = config.clone();
        let finish = move |home, shared| -> Arc<dyn DynInstanceTable> {
            Arc::new(ErasedTable { table: built.finish(declared, home, shared) })
        };
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

    /// Adds a type of job, which events request with [`Context::run`](crate::Context::run).
    #[must_use]
    pub fn job<J: Job>(mut self) -> Self {
        if check_name(J::NAME).is_err() {
            let name = J::NAME;
            self.mistakes
                .push(format!("`{name}` cannot name a job: rename it to `[a-z][a-z0-9_]*` without `__`"));
        }
        if self.jobs.insert(J::NAME, JobType::<J>::erased()).is_some() {
            self.mistakes.push(format!("two jobs are named `{}`: rename one", J::NAME));
        }
        self
    }

    /// Sets the gate through which a test holds, loses and duplicates messages.
    #[doc(hidden)]
    #[must_use]
    pub fn message_gate(mut self, gate: Arc<dyn MessageGate>) -> Self {
        self.gate = Some(gate);
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
        if !self.jobs.is_empty() && self.stores.contains_key(DEFAULT) {
            self = self.state::<JobQueue>(job_queue_config(), |state| state);
        }
        let declarations = self.states.iter().map(Declared::declaration);
        check_registry(self.deadline, &mut self.mistakes);
        check_states(
            declarations,
            |name| self.stores.contains_key(name),
            self.broadcaster.is_some(),
            &mut self.mistakes,
        );
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
            Dispatcher::new(self.jobs, self.gate),
        ));
        let guarded = |store| Arc::new(CircuitBreaker::shared(store).deadline(self.deadline));
        let guards: BTreeMap<_, _> =
            self.stores.into_iter().map(|(name, store)| (name, guarded(store))).collect();
        let mut stores: BTreeMap<_, Arc<dyn Store>> =
            guards.iter().map(|(name, guard)| (name.clone(), Arc::clone(guard) as _)).collect();
        stores.entry(MEMORY.to_owned()).or_insert_with(|| Arc::new(MemoryStore::new()));
        let mut tables = BTreeMap::new();
        let mut meters: BTreeMap<String, Arc<StoreMeter>> = BTreeMap::new();
        let mut limits: BTreeMap<String, Arc<ReloadLimit>> = BTreeMap::new();
        let mut times: BTreeMap<String, Arc<StoreTime>> = BTreeMap::new();
        let mut senders = BTreeSet::new();
        for Declared { name, config, finish, .. } in self.states {
            let named = config.store_name();
            let Some(store) = stores.get(named).map(Arc::clone) else { continue };
            let meter = Arc::clone(meters.entry(named.to_owned()).or_default());
            let reload_limit = Arc::clone(limits.entry(named.to_owned()).or_insert_with(ReloadLimit::new));
            let time = Arc::clone(times.entry(named.to_owned()).or_default());
            if config.sends_messages {
                senders.insert(named.to_owned());
            }
            let is_sessions = matches!(config.scope, Scope::Session | Scope::Component);
            let home = match config.every {
                None => Home { store, guard: guards.get(named).map(Arc::clone), meter, reload_limit, time },
                Some(interval) => {
                    let store: Arc<dyn Store> = WriteBehind::new(store, interval);
                    stores.insert(format!("{named} of {name}"), Arc::clone(&store));
                    Home { store, guard: None, meter, reload_limit, time }
                }
            };
            let home = if is_sessions { home.holding_new_sessions(&shared.new_sessions) } else { home };
            tables.insert(name, finish(home, Arc::clone(&shared)));
        }
        // This is the only place that sets it.
        let _ = shared.tables.set(tables.values().map(Arc::downgrade).collect());
        let by_name = tables.iter().map(|(name, table)| (*name, Arc::downgrade(table))).collect();
        shared.messages.attach(by_name, Arc::clone(&shared.environment));
        shared.new_sessions.set_tables(tables.values().map(Arc::downgrade).collect());
        let registry =
            Arc::new(StateRegistry { tables, stores, meters, shared, mistakes: Mistakes::default() });
        let weak = Arc::downgrade(&registry);
        registry.shared.environment.attach(Weak::clone(&weak) as _);
        if let Some(broadcaster) = self.broadcaster {
            broadcaster.attach(Arc::new(ClusterInbox(Weak::clone(&weak))));
            spawn(maintain_membership(Weak::clone(&weak)));
        }
        spawn_housekeeping(&registry);
        for name in senders {
            spawn_scheduler(&registry, name, &times);
        }
        Ok(registry)
    }
}

impl Declared {
    fn declaration(&self) -> Declaration<'_> {
        Declaration { name: self.name, config: &self.config, routes: &self.routes }
    }
}

/// Spawns the tasks that evict instances, renew and sweep records, and reload after an outage. They end with the
/// registry.
fn spawn_housekeeping(registry: &Arc<StateRegistry>) {
    for table in registry.tables.values() {
        spawn(maintain_instances(Arc::downgrade(table), table.config().ttl));
        if let Some(returns) = table.returns() {
            spawn(reload_on_recovery(Arc::downgrade(table), returns));
        }
    }
    for name in registry.stores.keys() {
        spawn(maintain_store(name.clone(), Arc::downgrade(registry)));
    }
}

/// Spawns the task that finds the due messages and timers of one store. It ends with the registry.
fn spawn_scheduler(registry: &Arc<StateRegistry>, name: String, times: &BTreeMap<String, Arc<StoreTime>>) {
    let (Some(store), Some(time)) = (registry.stores.get(&name), times.get(&name)) else { return };
    let (store, time) = (Arc::clone(store), Arc::clone(time));
    spawn(run_scheduler(Scheduler { name, store, time, shared: Arc::downgrade(&registry.shared) }));
}

impl fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states: Vec<_> = self.states.iter().map(|declared| declared.name).collect();
        f.debug_struct("RegistryBuilder").field("states", &states).finish_non_exhaustive()
    }
}
