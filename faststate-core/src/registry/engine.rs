//! The engine: the table of states, and the routing of calls to them.

use std::{
    any::{Any, TypeId},
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
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
    instances::Instances,
    interface::{Engine, StreamRevoker},
    messages::{
        job_queue::JobQueue,
        operator::{MessageAction, UnfinishedMessage, settlement},
    },
    mistakes::{self, Mistakes, Part},
    new_sessions::NewSessions,
    request::{Rendered, Route, TopicName},
    shared::Shared,
};
use crate::{
    Handle, Health, Job, Key, MessageHealth, ReactiveState, Revocation, Scope, SessionId, StoreHealth,
    Version, Viewer,
    event::OutboxEdit,
    metrics::StoreMeter,
    store::{PendingSummary, Store},
    topics::Follower,
};

/// The interval between flushes of the stores while a registry settles.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// The engine. Dropping the last `Arc` of it ends its background tasks.
pub struct StateRegistry {
    pub(super) tables: BTreeMap<&'static str, Arc<dyn DynInstanceTable>>,
    /// The stores by name. The registry's own memory is `memory`, and the default store is `default`.
    pub(super) stores: BTreeMap<String, Arc<dyn Store>>,
    /// The meters of stores, by the names under which states are saved.
    #[cfg_attr(
        not(feature = "metrics"),
        expect(dead_code, reason = "without the feature, the meters are empty")
    )]
    pub(super) meters: BTreeMap<String, Arc<StoreMeter>>,
    pub(super) shared: Arc<Shared>,
    pub(super) mistakes: Mistakes,
}

impl StateRegistry {
    /// Returns a handle to a global state.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a global state of this registry.
    pub fn global<S: ReactiveState>(self: &Arc<Self>) -> Result<Handle<S>, Error> {
        self.handle(&Viewer::application(), None)
    }

    /// Returns a handle to the record with this id.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a record state of this registry, or if the id is not valid.
    pub fn record<S: ReactiveState>(self: &Arc<Self>, id: &str) -> Result<Handle<S>, Error> {
        self.handle(&Viewer::application(), Some(id))
    }

    /// Returns a handle to the state of this user.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a user state of this registry.
    pub fn user<S: ReactiveState>(self: &Arc<Self>, name: &str) -> Result<Handle<S>, Error> {
        self.scoped(Scope::User, &Viewer::application().with_user(name), None)
    }

    /// Returns a handle to the state of this session.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a session state of this registry.
    pub fn session<S: ReactiveState>(self: &Arc<Self>, session: SessionId) -> Result<Handle<S>, Error> {
        self.scoped(Scope::Session, &Viewer::session(session), None)
    }

    /// Returns a handle to this session's component with this id.
    ///
    /// # Errors
    /// [`Error::Unknown`] if `S` is not a component state of this registry, or if the id is not valid.
    pub fn component<S: ReactiveState>(
        self: &Arc<Self>,
        session: SessionId,
        id: &str,
    ) -> Result<Handle<S>, Error> {
        self.scoped(Scope::Component, &Viewer::session(session), Some(id))
    }

    /// Returns at most `limit` unfinished messages, timers and jobs of instances that have a message or job that is waiting
    /// or parked, the oldest instance first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if a store does not answer.
    pub async fn unfinished_messages(&self, limit: usize) -> Result<Vec<UnfinishedMessage>, Error> {
        Engine::unfinished_messages(self, limit).await
    }

    /// Retries or drops an unfinished message, timer or job.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the message is finished, and the errors of [`Registry::dispatch`] except a rejection.
    pub async fn resolve_message(
        &self,
        message: &UnfinishedMessage,
        action: MessageAction,
    ) -> Result<(), Error> {
        Engine::resolve_message(self, &message.sender, &message.id, action).await
    }

    /// Requests a job (law 16). When this returns, the request is saved in the default store, and the job runs at least
    /// once.
    ///
    /// # Errors
    /// [`Error::Unknown`] if no [job](crate::registry::RegistryBuilder::job) is registered or there is no default
    /// [store](crate::registry::RegistryBuilder::store), [`Error::Internal`] if this job is not registered, and the errors
    /// of [`Registry::dispatch`] except a rejection.
    ///
    /// # Cancellation
    /// Dropping the future does not stop the request: once queued, it runs to its end.
    pub async fn run<J: Job>(self: &Arc<Self>, job: J) -> Result<(), Error> {
        let request = OutboxEdit::run(J::NAME, &job);
        let request = request.map_err(|error| Error::internal("a job cannot be encoded", &error))?;
        let id = format!("{:032x}", rand::random::<u128>());
        self.record::<JobQueue>(&id)?.edit_outbox(request).await
    }

    /// Returns a handle to `viewer`'s instance of `S`. Records and components have an id.
    ///
    /// # Errors
    /// Those of [`Registry::key`].
    pub fn handle<S: ReactiveState>(
        self: &Arc<Self>,
        viewer: &Viewer,
        id: Option<&str>,
    ) -> Result<Handle<S>, Error> {
        Handle::of(Arc::clone(self) as _, viewer, id)
    }

    /// Like [`handle`](Self::handle), if the state has this scope.
    fn scoped<S: ReactiveState>(
        self: &Arc<Self>,
        scope: Scope,
        viewer: &Viewer,
        id: Option<&str>,
    ) -> Result<Handle<S>, Error> {
        if self.table(S::NAME)?.config().scope == scope {
            self.handle(viewer, id)
        } else {
            Err(Error::Unknown)
        }
    }

    pub(super) fn table(&self, state: &str) -> Result<&Arc<dyn DynInstanceTable>, Error> {
        self.tables.get(state).ok_or(Error::Unknown)
    }

    /// Returns the instance table and the key of a topic that the viewer may follow.
    fn permitted(
        &self,
        topic: &TopicName,
        viewer: &Viewer,
    ) -> Result<(&Arc<dyn DynInstanceTable>, Key), Error> {
        let key = self.key(&topic.state, viewer, topic.id.as_deref())?;
        let table = self.table(&topic.state)?;
        if table.allows(&key, viewer) { Ok((table, key)) } else { Err(Error::Unknown) }
    }

    /// Returns the tables of the states that are saved in this store before an event is acknowledged.
    pub(super) fn saved_in(&self, store: &str) -> impl Iterator<Item = &Arc<dyn DynInstanceTable>> {
        self.tables.values().filter(move |table| {
            let config = table.config();
            config.every.is_none() && config.store_name() == store
        })
    }

    /// Returns the stores of the states that send messages.
    fn sender_stores(&self) -> BTreeSet<&str> {
        let senders = self.tables.values().filter(|table| table.config().sends_messages);
        senders.map(|table| table.config().store_name()).collect()
    }

    /// Counts the unfinished messages in the stores of the states that send messages. `None` if there are no such states, or
    /// if a store does not answer.
    async fn message_health(&self) -> Option<MessageHealth> {
        let stores = self.sender_stores();
        if stores.is_empty() {
            return None;
        }
        let ask = |name: &&str| {
            let store = self.stores.get(*name).map(Arc::clone);
            async move { timeout(self.shared.deadline, store?.pending(0)).await.ok()?.ok() }
        };
        let found: Option<Vec<PendingSummary>> = join_all(stores.iter().map(ask)).await.into_iter().collect();
        let found = found?;
        let age = found.iter().filter_map(|summary| summary.age).max().unwrap_or_default();
        Some(MessageHealth {
            pending: found.iter().map(|summary| summary.waiting).sum(),
            parked: found.iter().map(|summary| summary.parked).sum(),
            oldest_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Flushes every store. Errors are logged.
    async fn flush(&self) {
        let flush = |(name, store): (&String, &Arc<dyn Store>)| {
            let (name, store) = (name.clone(), Arc::clone(store));
            async move {
                if let Err(error) = store.flush().await {
                    tracing::error!(store = name, error = &error as &dyn std::error::Error, "not flushed");
                }
            }
        };
        // Concurrent, so that a store that hangs does not delay the others.
        join_all(self.stores.iter().map(flush)).await;
    }
}

#[async_trait]
impl Registry for StateRegistry {
    fn key(&self, state: &str, viewer: &Viewer, id: Option<&str>) -> Result<Key, Error> {
        let scope = self.table(state)?.config().scope;
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
        self.table(key.state()).is_ok_and(|table| table.allows(key, viewer))
    }

    // Not async, so that the call returns the boxed future of the table and adds no box of its own.
    fn dispatch<'a, 'f>(&'a self, call: Call) -> BoxFuture<'f, Result<Outcome, Error>>
    where
        'a: 'f,
        Self: 'f,
    {
        match self.table(call.key.state()) {
            Ok(table) => table.dispatch(call),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error> {
        self.table(key.state())?.read(key).await
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
        let count = |(topics, followers), table: &Arc<dyn DynInstanceTable>| {
            let (more_topics, more) = table.topics();
            (topics + more_topics, followers + more)
        };
        let (topics, followers) = self.tables.values().fold((0, 0), count);
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
            messages: self.message_health().await,
        }
    }

    async fn settle(&self) {
        let mut settled = pin!(self.shared.settle());
        // Flushed before and during the wait, because the caller may stop waiting before all background work has ended.
        loop {
            self.flush().await;
            if timeout(FLUSH_INTERVAL, &mut settled).await.is_ok() {
                break;
            }
        }
        self.flush().await;
    }

    async fn leave(&self) {
        self.shared.stop_messages().await;
        if let Some(nodes) = &self.shared.nodes
            && !self.tables.values().any(|table| table.has_unpublished())
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
        let mistake = match self.tables.get(state) {
            None => mistakes::unregistered(state),
            Some(table) => {
                let is_listed = match part {
                    Part::Signals => true,
                    Part::View(name) => table.has_view(name),
                    Part::Event(name) => table.has_event(name),
                };
                mistakes::in_name(state, table.config().scope, has_id, part, is_listed)
            }
        };
        if let Some(mistake) = mistake {
            self.mistakes.report(&mistake);
        }
    }

    fn routes(&self) -> Vec<Route> {
        self.tables.values().flat_map(|table| table.routes()).collect()
    }

    fn instances(&self, state: &str) -> Result<&dyn Instances, Error> {
        Ok(&**self.table(state)?)
    }

    async fn visible(&self, topic: &TopicName, viewer: &Viewer) -> Result<Rendered, Error> {
        let (table, key) = self.permitted(topic, viewer)?;
        table.visible(&key, topic.view.as_deref()).await
    }

    async fn follow(
        &self,
        topic: &TopicName,
        viewer: &Viewer,
        cursor: Option<Version>,
        stream: u64,
    ) -> Result<Follower, Error> {
        let (table, key) = self.permitted(topic, viewer)?;
        table.follow(&key, topic.view.as_deref(), cursor, stream, viewer.user()).await
    }

    async fn unfinished_messages(&self, limit: usize) -> Result<Vec<UnfinishedMessage>, Error> {
        let mut found = Vec::new();
        for name in self.sender_stores() {
            let Some(store) = self.stores.get(name) else { continue };
            for key in store.pending(limit).await?.keys {
                let Ok(table) = self.table(key.state()) else { continue };
                let outbox = table.outbox(&key).await?;
                let entries = outbox.iter().flat_map(|outbox| outbox.entries());
                found.extend(entries.map(|entry| UnfinishedMessage::of(&key, entry)));
                if found.len() >= limit {
                    found.truncate(limit);
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    async fn resolve_message(&self, sender: &Key, id: &str, action: MessageAction) -> Result<(), Error> {
        let settlement = settlement(id, action).ok_or(Error::Unknown)?;
        let table = self.table(sender.state())?;
        let outbox = table.outbox(sender).await?.ok_or(Error::Unknown)?;
        let entry = outbox.get(settlement.id).ok_or(Error::Unknown)?;
        if action == MessageAction::Retry && entry.parked.is_none() {
            return Ok(());
        }
        table.settle(sender, vec![settlement]).await
    }

    fn resource(&self, kind: TypeId) -> Option<Arc<dyn Any + Send + Sync>> {
        self.shared.environment.resources().shared(kind)
    }

    fn followers(&self, key: &Key) -> usize {
        self.table(key.state()).map_or(0, |table| table.followers(key))
    }

    fn register_revoker(&self, revoker: Weak<dyn StreamRevoker>) {
        self.shared.guard_streams(revoker);
    }

    fn new_sessions(&self) -> Arc<NewSessions> {
        Arc::clone(&self.shared.new_sessions)
    }

    fn is_stale(&self, key: &Key) -> bool {
        self.table(key.state()).is_ok_and(|table| table.is_stale(key))
    }

    #[cfg(feature = "metrics")]
    async fn metrics(&self) -> String {
        let states = self.tables.iter().map(|(name, table)| (*name, table.meter()));
        super::observe::metrics::render(states, &self.meters, &self.health().await)
    }

    #[cfg(feature = "inspector")]
    fn watch(&self, watcher: Weak<dyn super::observe::trace::EventObserver>) {
        self.shared.watchers.add(watcher);
    }
}

impl fmt::Debug for StateRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateRegistry")
            .field("states", &self.tables.keys())
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}
