//! The engine, put together.

use std::{
    any::{Any, TypeId},
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::{BoxFuture, join_all, ready};
use tokio::time::{Instant, timeout};

use super::{
    Call, Error, Outcome, Registry, StateSnapshot,
    cluster::nodes::Nodes,
    dyn_table::DynInstanceTable,
    interface::{Engine, StreamRevoker},
    mistakes::{self, Mistakes, Part},
    new_sessions::NewSessions,
    request::{Job, Rendered, Route, TopicName},
    shared::Shared,
};
use crate::{
    Handle, Health, Key, ReactiveState, Revocation, Scope, SessionId, StoreHealth, Version, Viewer,
    metrics::StoreMeter, store::Store, topics::Follower,
};

/// How often the stores are flushed while a registry settles.
const FLUSHES: Duration = Duration::from_secs(1);

/// The engine: instances, turns, topics. Dropping the last `Arc` ends its housekeeping.
pub struct StateRegistry {
    pub(super) states: BTreeMap<&'static str, Arc<dyn DynInstanceTable>>,
    /// By name; the registry's own memory is `memory`, the default store `default`.
    pub(super) stores: BTreeMap<String, Arc<dyn Store>>,
    /// By the names under which states are saved.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "they measure nothing"))]
    pub(super) meters: BTreeMap<String, Arc<StoreMeter>>,
    pub(super) shared: Arc<Shared>,
    pub(super) mistakes: Mistakes,
}

impl StateRegistry {
    /// Typed access to a global state.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a global state of this registry.
    pub fn global<S: ReactiveState>(self: &Arc<Self>) -> Result<Handle<S>, Error> {
        self.handle(&Viewer::application(), None)
    }

    /// Typed access to the record of this id.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a record state of this registry, or cannot have the id.
    pub fn record<S: ReactiveState>(self: &Arc<Self>, id: &str) -> Result<Handle<S>, Error> {
        self.handle(&Viewer::application(), Some(id))
    }

    /// Typed access to the state of this user.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a user's state of this registry.
    pub fn user<S: ReactiveState>(self: &Arc<Self>, name: &str) -> Result<Handle<S>, Error> {
        self.scoped(Scope::User, &Viewer::application().with_user(name), None)
    }

    /// Typed access to the state of this session.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a session's state of this registry.
    pub fn session<S: ReactiveState>(self: &Arc<Self>, session: SessionId) -> Result<Handle<S>, Error> {
        self.scoped(Scope::Session, &Viewer::session(session), None)
    }

    /// Typed access to this session's component of this id.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a component's state of this registry, or cannot have the id.
    pub fn component<S: ReactiveState>(
        self: &Arc<Self>,
        session: SessionId,
        id: &str,
    ) -> Result<Handle<S>, Error> {
        self.scoped(Scope::Component, &Viewer::session(session), Some(id))
    }

    /// Typed access to `viewer`'s instance of `S`, with an id for records and components.
    ///
    /// # Errors
    /// As [`Registry::key`].
    pub fn handle<S: ReactiveState>(
        self: &Arc<Self>,
        viewer: &Viewer,
        id: Option<&str>,
    ) -> Result<Handle<S>, Error> {
        Handle::of(Arc::clone(self) as _, viewer, id)
    }

    /// As [`handle`](Self::handle), of a state with this scope.
    fn scoped<S: ReactiveState>(
        self: &Arc<Self>,
        scope: Scope,
        viewer: &Viewer,
        id: Option<&str>,
    ) -> Result<Handle<S>, Error> {
        if self.states(S::NAME)?.config().scope == scope {
            self.handle(viewer, id)
        } else {
            Err(Error::Unknown)
        }
    }

    pub(super) fn states(&self, state: &str) -> Result<&Arc<dyn DynInstanceTable>, Error> {
        self.states.get(state).ok_or(Error::Unknown)
    }

    /// The states and the key of a topic that the viewer may see.
    fn seen(&self, topic: &TopicName, viewer: &Viewer) -> Result<(&Arc<dyn DynInstanceTable>, Key), Error> {
        let key = self.key(&topic.state, viewer, topic.id.as_deref())?;
        let states = self.states(&topic.state)?;
        if states.allows(&key, viewer) { Ok((states, key)) } else { Err(Error::Unknown) }
    }
}

#[async_trait]
impl Registry for StateRegistry {
    fn key(&self, state: &str, viewer: &Viewer, id: Option<&str>) -> Result<Key, Error> {
        let scope = self.states(state)?.config().scope;
        let owner = match scope {
            Scope::User => Some(Cow::Borrowed(viewer.user().ok_or(Error::SignIn)?)),
            Scope::Session | Scope::Component => {
                Some(Cow::Owned(viewer.session_id().ok_or(Error::Unknown)?.to_string()))
            }
            Scope::Global | Scope::Record => None,
        };
        Key::new(state, scope, owner.as_deref(), id).map_err(|_| Error::Unknown)
    }

    fn allows(&self, key: &Key, viewer: &Viewer) -> bool {
        self.states(key.state()).is_ok_and(|states| states.allows(key, viewer))
    }

    // Not async: the future is the one of the states themselves, in their box.
    fn dispatch<'a, 'f>(&'a self, call: Call) -> BoxFuture<'f, Result<Outcome, Error>>
    where
        'a: 'f,
        Self: 'f,
    {
        match self.states(call.key.state()) {
            Ok(states) => states.dispatch(call),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error> {
        self.states(key.state())?.read(key).await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.shared.revoke(revocation).await
    }

    async fn health(&self) -> Health {
        let ask = |(name, store): (&String, &Arc<dyn Store>)| {
            let (name, store) = (name.clone(), Arc::clone(store));
            async move {
                let asked = Instant::now();
                let answer = timeout(self.shared.deadline, store.ping()).await;
                StoreHealth::new(name, matches!(answer, Ok(Ok(()))), asked.elapsed())
            }
        };
        let stores = join_all(self.stores.iter().map(ask)).await;
        let count = |(topics, followers), states: &Arc<dyn DynInstanceTable>| {
            let (more_topics, more) = states.topics();
            (topics + more_topics, followers + more)
        };
        let (topics, followers) = self.states.values().fold((0, 0), count);
        Health {
            node: self.shared.node.to_string(),
            nodes: self.shared.nodes.as_ref().map(Nodes::names).unwrap_or_default(),
            uptime: self.shared.started.elapsed().as_secs(),
            topics,
            followers,
            instances: self.shared.instances(),
            events: self.shared.events.load(Ordering::Relaxed),
            conflicts: self.shared.conflicts.load(Ordering::Relaxed),
            stores,
        }
    }

    async fn settle(&self) {
        let mut settled = pin!(self.shared.settle());
        // First, and again and again: a caller may not wait until all background work has ended.
        loop {
            self.flush().await;
            if timeout(FLUSHES, &mut settled).await.is_ok() {
                break;
            }
        }
        self.flush().await;
    }

    async fn leave(&self) {
        if let Some(nodes) = &self.shared.nodes
            && !self.states.values().any(|states| states.has_untold())
        {
            nodes.leave().await;
        }
    }

    fn engine(&self) -> &dyn Engine {
        self
    }
}

#[async_trait]
impl Engine for StateRegistry {
    fn report_mistake(&self, state: &str, has_id: bool, part: Part<'_>) {
        let mistake = match self.states.get(state) {
            None => mistakes::unregistered(state),
            Some(states) => {
                let is_listed = match part {
                    Part::Signals => true,
                    Part::View(name) => states.has_view(name),
                    Part::Event(name) => states.has_event(name),
                };
                mistakes::in_name(state, states.config().scope, has_id, part, is_listed)
            }
        };
        if let Some(mistake) = mistake {
            self.mistakes.report(&mistake);
        }
    }

    fn routes(&self) -> Vec<Route> {
        self.states.values().flat_map(|states| states.routes()).collect()
    }

    async fn run(&self, key: &Key, job: Job) -> Result<Outcome, Error> {
        self.states(key.state())?.run(key, job).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.states(key.state())?.delete(key).await
    }

    async fn visible(&self, topic: &TopicName, viewer: &Viewer) -> Result<Rendered, Error> {
        let (states, key) = self.seen(topic, viewer)?;
        states.visible(&key, topic.view.as_deref()).await
    }

    async fn follow(
        &self,
        topic: &TopicName,
        viewer: &Viewer,
        cursor: Option<Version>,
        stream: u64,
    ) -> Result<Follower, Error> {
        let (states, key) = self.seen(topic, viewer)?;
        states.follow(&key, topic.view.as_deref(), cursor, stream, viewer.user()).await
    }

    fn resource(&self, kind: TypeId) -> Option<Arc<dyn Any + Send + Sync>> {
        self.shared.environment.resources().shared(kind)
    }

    fn followers(&self, key: &Key) -> usize {
        self.states(key.state()).map_or(0, |states| states.followers(key))
    }

    fn register_revoker(&self, revoker: Weak<dyn StreamRevoker>) {
        self.shared.guard_streams(revoker);
    }

    fn new_sessions(&self) -> Arc<NewSessions> {
        Arc::clone(&self.shared.new_sessions)
    }

    fn is_stale(&self, key: &Key) -> bool {
        self.states(key.state()).is_ok_and(|states| states.is_stale(key))
    }

    #[cfg(feature = "metrics")]
    async fn metrics(&self) -> String {
        let states = self.states.iter().map(|(name, states)| (*name, states.meter()));
        super::observe::metrics::render(states, &self.meters, &self.health().await)
    }

    #[cfg(feature = "inspector")]
    fn watch(&self, watcher: Weak<dyn super::observe::trace::EventObserver>) {
        self.shared.watchers.add(watcher);
    }
}

impl StateRegistry {
    /// The states that are saved in this store, and acknowledged once they are.
    pub(super) fn saved_in(&self, store: &str) -> impl Iterator<Item = &Arc<dyn DynInstanceTable>> {
        self.states.values().filter(move |states| {
            let config = states.config();
            config.every.is_none() && config.store_name() == store
        })
    }

    /// Has every store write what it acknowledged and has not written.
    async fn flush(&self) {
        let flush = |(name, store): (&String, &Arc<dyn Store>)| {
            let (name, store) = (name.clone(), Arc::clone(store));
            async move {
                if let Err(error) = store.flush().await {
                    tracing::error!(store = name, error = &error as &dyn std::error::Error, "not flushed");
                }
            }
        };
        // One that hangs keeps no other from it.
        join_all(self.stores.iter().map(flush)).await;
    }
}

impl fmt::Debug for StateRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateRegistry")
            .field("states", &self.states.keys())
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}
