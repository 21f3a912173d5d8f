//! The instances of one state.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use dashmap::{DashMap, Entry};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(in crate::registry) use crate::registry::any_view::AnyView;
use crate::{
    BoxError, Key, ReactiveState,
    event::Mutation,
    metrics::{EventMeter, StateMeter, StoreMeter},
    registry::{
        Access, Audience, Error, Outcome, StateConfig,
        cluster::nodes::Nodes,
        instance::{
            Instance, Slot,
            queue::{Command, Ticket, Turn},
        },
        load::{limit::ReloadLimit, pending::Reloads},
        messages::store_time::StoreTime,
        new_sessions::{NewSessionStore, NewSessions},
        request::Route,
        shared::Shared,
    },
    store::{CircuitBreaker, Store},
    wire::{Input, InputError},
};

/// Constructs the event that carries a count to the state.
pub(in crate::registry) type CountEvent<S, C> = dyn Fn(C) -> Box<dyn Mutation<S>> + Send + Sync;
/// Returns the initial state of an instance, or `None` if the instance does not exist.
pub(in crate::registry) type Initial<S> =
    Box<dyn Fn(Key) -> BoxFuture<'static, Result<Option<S>, BoxError>> + Send + Sync>;
/// The event that reports the number of followers to a state.
pub(in crate::registry) type PresenceEvent<S> = Box<CountEvent<S, usize>>;
/// The event that reports the audience to a state.
pub(in crate::registry) type AudienceEvent<S> = Box<CountEvent<S, Audience>>;

/// A registered event.
pub(in crate::registry) struct EventEntry<S> {
    pub(in crate::registry) route: Route,
    pub(in crate::registry) decode: fn(&Input, &Key) -> Result<DecodedAttempt<S>, InputError>,
    /// Decodes the event from a message.
    pub(in crate::registry) decode_message: DecodeMessage<S>,
    /// Whether only messages, timers and the application can send the event.
    pub(in crate::registry) is_internal: bool,
    pub(in crate::registry) meter: Arc<EventMeter>,
}

/// Decodes an event from JSON.
pub(in crate::registry) type DecodeMessage<S> = fn(&str) -> Result<Box<dyn Mutation<S>>, serde_json::Error>;
pub(in crate::registry) type DecodedAttempt<S> = (Box<dyn Mutation<S>>, &'static [&'static str]);

/// The store of a state.
pub(in crate::registry) struct Home {
    pub(in crate::registry) store: Arc<dyn Store>,
    /// The same store's circuit breaker. The registry's own memory has none.
    pub(in crate::registry) guard: Option<Arc<CircuitBreaker<dyn Store>>>,
    pub(in crate::registry) meter: Arc<StoreMeter>,
    /// The limit that all states in this store share.
    pub(in crate::registry) reload_limit: Arc<ReloadLimit>,
    /// The clock of the store.
    pub(in crate::registry) time: Arc<StoreTime>,
}

impl Home {
    /// Wraps the store of a state that sessions own, so that the records of new sessions stay in memory.
    pub(in crate::registry) fn holding_new_sessions(self, sessions: &Arc<NewSessions>) -> Self {
        let store = NewSessionStore { store: self.store, sessions: Arc::clone(sessions) };
        Self { store: Arc::new(store), ..self }
    }
}

/// The instances of one state, and the parts of the state that they share.
pub(in crate::registry) struct InstanceTable<S: ReactiveState> {
    pub(in crate::registry) me: Weak<Self>,
    pub(in crate::registry) config: StateConfig,
    pub(in crate::registry) access: Access,
    pub(in crate::registry) store: Arc<dyn Store>,
    pub(in crate::registry) guard: Option<Arc<CircuitBreaker<dyn Store>>>,
    pub(in crate::registry) events: BTreeMap<&'static str, EventEntry<S>>,
    pub(in crate::registry) views: Vec<Arc<dyn AnyView<S>>>,
    pub(in crate::registry) initial: Option<Initial<S>>,
    pub(in crate::registry) presence: Option<PresenceEvent<S>>,
    pub(in crate::registry) audience: Option<AudienceEvent<S>>,
    pub(in crate::registry) shared: Arc<Shared>,
    pub(in crate::registry) instances: DashMap<Key, Arc<Instance<S>>>,
    pub(in crate::registry) meter: StateMeter,
    pub(in crate::registry) store_meter: Arc<StoreMeter>,
    pub(in crate::registry) reloads: Mutex<Reloads<S>>,
    pub(in crate::registry) reload_limit: Arc<ReloadLimit>,
    pub(in crate::registry) time: Arc<StoreTime>,
    /// The meter of the events that the application sends itself.
    pub(in crate::registry) application: Arc<EventMeter>,
    /// Starts running an instance's queue. A function pointer, so that this module does not depend on the modules that
    /// execute commands.
    pub(in crate::registry) run_queue: fn(Arc<Self>, Arc<Instance<S>>),
}

impl<S: ReactiveState> InstanceTable<S> {
    /// Queues a command now. The returned future waits for its result or the deadline.
    pub(in crate::registry) fn take_turn(
        self: &Arc<Self>,
        instance: &Arc<Instance<S>>,
        work: Command<S>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + use<S> {
        let ticket = self.enqueue(instance, work, deadline);
        async move { ticket?.result(deadline).await }
    }

    /// Queues a command, and starts a task that runs the queue if there is none.
    pub(in crate::registry) fn enqueue(
        self: &Arc<Self>,
        instance: &Arc<Instance<S>>,
        work: Command<S>,
        deadline: Instant,
    ) -> Result<Ticket, Error> {
        let (turn, ticket) = Turn::new(work, deadline);
        let starts = instance.queue.lock().push(turn, self.config.queue)?;
        if starts {
            (self.run_queue)(Arc::clone(self), Arc::clone(instance));
        }
        Ok(ticket)
    }

    /// Evicts the instances that have been idle for this long.
    pub(in crate::registry) fn evict_idle_for(&self, idle: Duration) {
        let now = Instant::now();
        let mut gone = 0;
        self.instances.retain(|_, instance| {
            let stays = Arc::strong_count(instance) > 1
                || now.duration_since(instance.freshness.lock().used) < idle
                || !instance.is_idle();
            gone += usize::from(!stays);
            stays
        });
        self.shared.instances_leave(gone);
    }

    /// Evicts an instance that does not exist or could not be loaded, unless another task uses it.
    ///
    /// Each task that has used such an instance calls this at its end, so that the last one evicts it.
    pub(in crate::registry) fn forget(&self, instance: Arc<Instance<S>>) {
        if !instance.is_empty() {
            return;
        }
        let key = instance.key.clone();
        drop(instance);
        let removed =
            self.instances.remove_if(&key, |_, instance| instance.is_empty() && is_unused(instance));
        self.shared.instances_leave(usize::from(removed.is_some()));
    }

    /// Removes an instance if it is unused. Returns whether it was removed.
    pub(in crate::registry) fn remove_idle(&self, key: &Key) -> bool {
        self.instances.remove_if(key, |_, instance| is_unused(instance)).is_some()
    }

    /// Whether the circuit breaker refuses calls, except for trial calls.
    pub(in crate::registry) fn is_resting(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.is_resting())
    }

    /// Whether the circuit breaker refuses every load.
    pub(in crate::registry) fn refuses_loads(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.refuses_loads())
    }

    /// Returns the instance in memory, and creates it if there is none.
    pub(in crate::registry) fn instance(&self, key: &Key) -> Result<Arc<Instance<S>>, Error> {
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

    pub(in crate::registry) fn loaded(&self, key: &Key) -> Option<Arc<Instance<S>>> {
        self.instances.get(key).map(|instance| Arc::clone(&instance))
    }

    /// Returns the connection to the other nodes, unless the state is local to each node.
    pub(in crate::registry) fn nodes(&self) -> Option<&Nodes> {
        self.shared.nodes.as_ref().filter(|_| !self.config.each_node)
    }

    pub(in crate::registry) fn me(&self) -> Result<Arc<Self>, Error> {
        self.me.upgrade().ok_or(Error::Busy("the registry is shutting down"))
    }

    pub(in crate::registry) fn deadline(&self) -> Instant {
        Instant::now() + self.shared.deadline
    }

    pub(in crate::registry) fn slot(&self, view: Option<&str>) -> Result<Slot, Error> {
        let Some(name) = view else { return Ok(Slot::Signals) };
        let at = self.views.iter().position(|view| view.name() == name);
        at.map(Slot::View).ok_or(Error::Unknown)
    }
}

/// Whether an instance has no followers and no queued events, and no task uses it.
fn is_unused<S: ReactiveState>(instance: &Arc<Instance<S>>) -> bool {
    Arc::strong_count(instance) == 1 && instance.is_idle()
}
