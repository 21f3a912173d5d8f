//! The builder of one state.

use std::{
    any::type_name,
    fmt,
    future::Future,
    sync::{Arc, Weak},
};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::checks::check_state;
use crate::{
    BoxError, Event, Key, ReactiveState, View,
    event::Mutation,
    metrics::{EventMeter, StateMeter},
    registry::{
        Access, Audience, StateConfig,
        instance::table::{
            AnyView, AudienceEvent, DecodedAttempt, EventEntry, Home, Initial, InstanceTable, PresenceEvent,
        },
        request::Route,
        shared::Shared,
    },
    wire::{Decoded, Input, InputError},
};

/// Metrics label of the events that the application sends itself. No event can have this name.
const BY_APPLICATION: &str = "(application)";

/// Builds one state of a registry: its events, its views and its initial value.
pub struct StateBuilder<S> {
    has_id: bool,
    events: Vec<EventEntry<S>>,
    views: Vec<Arc<dyn AnyView<S>>>,
    initial: Option<Initial<S>>,
    presence: Option<PresenceEvent<S>>,
    audience: Option<AudienceEvent<S>>,
}

impl<S: ReactiveState> StateBuilder<S> {
    pub(super) const fn new(config: &StateConfig) -> Self {
        Self {
            has_id: config.scope.has_id(),
            events: Vec::new(),
            views: Vec::new(),
            initial: None,
            presence: None,
            audience: None,
        }
    }

    /// Adds an event that can be called over HTTP, and that messages and timers can carry.
    #[must_use]
    pub fn event<E: Event<State = S>>(self) -> Self {
        self.add_event::<E>(false)
    }

    /// Adds an event that only messages, timers and the application can send.
    #[must_use]
    pub fn message<E: Event<State = S>>(self) -> Self {
        self.add_event::<E>(true)
    }

    fn add_event<E: Event<State = S>>(mut self, is_internal: bool) -> Self {
        let path = match E::PATH {
            Some(path) => path.into(),
            None if self.has_id => format!("/faststate/{}/{{id}}/{}", S::NAME, E::NAME).into(),
            None => format!("/faststate/{}/{}", S::NAME, E::NAME).into(),
        };
        let route = Route { method: E::METHOD, path, state: S::NAME, event: E::NAME };
        self.events.push(EventEntry {
            route,
            decode: decode::<E>,
            decode_message: decode_message::<E>,
            is_internal,
            meter: Arc::default(),
        });
        self
    }

    /// Adds a view, which is followed as a separate topic, `state.view`.
    #[must_use]
    pub fn view(mut self, view: impl View<State = S>) -> Self {
        self.views.push(Arc::new(view));
        self
    }

    /// Sets the initial value of an instance that was never saved, instead of `Default`.
    ///
    /// `None` means that the instance does not exist; calls return [`Error::Unknown`](crate::registry::Error::Unknown) (404).
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

    /// Checks the state, and returns its routes.
    pub(super) fn check(&self, config: &StateConfig, mistakes: &mut Vec<String>) -> Vec<Route> {
        let routes: Vec<_> = self.events.iter().map(|event| event.route.clone()).collect();
        let views: Vec<_> = self.views.iter().map(|view| view.name()).collect();
        check_state::<S>(config, &routes, &views, mistakes);
        routes
    }

    /// Creates the state's instance table.
    pub(super) fn finish(
        self,
        config: StateConfig,
        home: Home,
        shared: Arc<Shared>,
    ) -> Arc<InstanceTable<S>> {
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
            time: home.time,
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

fn decode_message<E: Event>(input: &str) -> Result<Box<dyn Mutation<E::State>>, serde_json::Error> {
    Ok(Box::new(serde_json::from_str::<E>(input)?))
}

fn decode<E: Event>(input: &Input, key: &Key) -> Result<DecodedAttempt<E::State>, InputError> {
    let Decoded { event, fields } = input.decode::<E>(key)?;
    Ok((Box::new(event), fields))
}

impl<S> fmt::Debug for StateBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateBuilder")
            .field("state", &type_name::<S>())
            .field("events", &self.events.len())
            .finish_non_exhaustive()
    }
}
