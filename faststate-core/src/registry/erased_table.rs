//! The implementation of the type-erased interfaces to the instances of one state.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    Elements, Key, ReactiveState, Version, Viewer,
    broadcast::Change,
    event::Mutation,
    metrics::Stopwatch,
    registry::{
        Audience, Call, Error, Outcome, StateConfig, StateSnapshot,
        dyn_table::DynInstanceTable,
        event::admit::{EventRequest, send_event},
        followers::{
            notify::{exchange_counts, forget_nodes, record_count},
            subscribe::join_topic,
        },
        instance::{Instance, Slot, eviction::keep_instances_of, queue::Command, table::InstanceTable},
        instances::Instances,
        load::{
            adopt::{arrive, elements_arrive},
            background::reload_followed,
            read::{Present, read_current},
        },
        messages::{
            outbox::Outbox,
            settlement::{Delivery, DueProgress, Settlement},
            targets::not_registered,
            turns::{current_outbox, deliver_message, settle_messages, take_due},
        },
        panics::guard,
        request::{HandleRequest, Rendered, Route},
    },
    store::Store,
    topics::Follower,
    wire::SignalPath,
};

/// The instances of one state, behind interfaces that do not name the state's type.
///
/// A type of its own, so that the modules below, which know these interfaces, do not depend on the modules that
/// implement them.
pub(super) struct ErasedTable<S: ReactiveState> {
    pub(super) table: Arc<InstanceTable<S>>,
}

#[async_trait]
impl<S: ReactiveState> Instances for ErasedTable<S> {
    async fn run(&self, key: &Key, job: HandleRequest) -> Result<Outcome, Error> {
        let HandleRequest { mutation, viewer, id } = job;
        let mutation = *mutation.downcast::<Box<dyn Mutation<S>>>().map_err(|_| Error::Unknown)?;
        let watch = Stopwatch::start();
        let request = EventRequest { viewer, id, ..EventRequest::by_application(mutation) };
        let outcome = send_event(&self.table, key, request).await;
        self.table.application.count(&outcome, watch);
        outcome
    }

    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error> {
        let Present { current, stale, .. } = read_current(&self.table, key, self.table.deadline()).await?;
        Ok(StateSnapshot { state: Arc::clone(&current.state) as _, version: current.version, stale })
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let instance = self.table.instance(key)?;
        self.table.take_turn(&instance, Command::Delete, self.table.deadline()).await.map(drop)
    }
}

#[async_trait]
impl<S: ReactiveState> DynInstanceTable for ErasedTable<S> {
    fn config(&self) -> &StateConfig {
        &self.table.config
    }

    fn routes(&self) -> Vec<Route> {
        let callable = self.table.events.values().filter(|event| !event.is_internal);
        callable.map(|event| event.route.clone()).collect()
    }

    fn has_event(&self, name: &str) -> bool {
        self.table.events.contains_key(name)
    }

    fn has_view(&self, name: &str) -> bool {
        self.table.views.iter().any(|view| view.name() == name)
    }

    fn allows(&self, key: &Key, viewer: &Viewer) -> bool {
        self.table.access.allows(viewer, key)
    }

    async fn dispatch(&self, call: Call) -> Result<Outcome, Error> {
        let Call { key, event, viewer, input, id, wants_view } = call;
        if !self.table.access.allows(&viewer, &key) {
            return Err(Error::Unknown);
        }
        let event =
            self.table.events.get(&*event).filter(|event| !event.is_internal).ok_or(Error::Unknown)?;
        let watch = Stopwatch::start();
        let outcome = match (event.decode)(&input, &key) {
            Ok((mutation, fields)) => {
                send_event(
                    &self.table,
                    &key,
                    EventRequest { mutation, fields, viewer, id, wants_view, message: None },
                )
                .await
            }
            Err(error) => Err(error.into()),
        };
        event.meter.count(&outcome, watch);
        outcome
    }

    fn receives(&self, event: &str) -> Result<(), String> {
        if self.table.config.every.is_some() {
            return Err(format!(
                "the state `{}` is saved with `persist_every`, so it could lose the message: remove `persist_every`",
                S::NAME
            ));
        }
        if self.table.events.contains_key(event) { Ok(()) } else { Err(not_registered(S::NAME, event)) }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.table.store)
    }

    async fn deliver(&self, key: &Key, delivery: Delivery) -> Result<Outcome, Error> {
        deliver_message(&self.table, key, delivery).await
    }

    async fn outbox(&self, key: &Key) -> Result<Option<Arc<Outbox>>, Error> {
        current_outbox(&self.table, key).await
    }

    async fn settle(&self, key: &Key, settlements: Vec<Settlement>) -> Result<(), Error> {
        settle_messages(&self.table, key, settlements).await
    }

    async fn take_due(&self, key: &Key, now: SystemTime) -> Result<DueProgress, Error> {
        take_due(&self.table, key, now).await
    }

    async fn visible(&self, key: &Key, view: Option<&str>) -> Result<Rendered, Error> {
        let slot = self.table.slot(view)?;
        let Present { instance, current, .. } = read_current(&self.table, key, self.table.deadline()).await?;
        match slot {
            Slot::Signals => {
                Ok(Rendered::Signals(instance.nest.json(Some(current.image()?), Some(current.version))))
            }
            Slot::View(at) => {
                let view = &self.table.views[at];
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
        let slot = self.table.slot(view)?;
        join_topic(&self.table, key, slot, cursor, stream, user).await
    }

    fn followers(&self, key: &Key) -> usize {
        self.table.loaded(key).map_or(0, |instance| instance.followers())
    }

    fn topics(&self) -> (usize, usize) {
        let open = |instance: &Instance<S>| {
            let topics = instance.topics.lock();
            let followers: usize = topics.open.iter().map(|(_, topic)| topic.followers()).sum();
            (topics.open.len(), followers)
        };
        let add = |(topics, followers), (more_topics, more)| (topics + more_topics, followers + more);
        self.table.instances.iter().map(|instance| open(&instance)).fold((0, 0), add)
    }

    fn changed(&self, change: Change) {
        arrive(&self.table, change);
    }

    fn elements_elsewhere(&self, key: &Key, version: Option<Version>, elements: Vec<Elements>) {
        elements_arrive(&self.table, key, version, elements);
    }

    fn changes_lost(&self) {
        if self.table.nodes().is_none() {
            return;
        }
        reload_followed(&self.table);
        exchange_counts(&self.table);
    }

    fn node_came(&self) {
        exchange_counts(&self.table);
    }

    fn node_left(&self, node: u64) {
        forget_nodes(&self.table, &[node]);
    }

    fn has_unpublished(&self) -> bool {
        self.table.nodes().is_some()
            && self.table.instances.iter().any(|instance| instance.freshness.lock().unpublished)
    }

    fn nodes_died(&self, nodes: &[u64]) {
        forget_nodes(&self.table, nodes);
        self.changes_lost();
    }

    fn present_elsewhere(&self, key: &Key, node: u64, count: usize, asks: bool) {
        record_count(&self.table, key, node, count, asks);
    }

    fn audience_elsewhere(&self, key: &Key, node: u64, audience: Audience, asks: bool) {
        record_count(&self.table, key, node, audience, asks);
    }

    fn returns(&self) -> Option<watch::Receiver<u64>> {
        self.table.guard.as_ref().map(|guard| guard.returns())
    }

    fn returned(&self) {
        let unfollowed = self.table.instances.iter().filter(|instance| instance.followers() == 0);
        unfollowed.for_each(|instance| instance.freshness.lock().suspect = true);
        reload_followed(&self.table);
    }

    fn is_stale(&self, key: &Key) -> bool {
        self.table.loaded(key).is_some_and(|instance| instance.is_stale())
    }

    #[cfg(feature = "metrics")]
    fn meter(&self) -> &crate::metrics::StateMeter {
        &self.table.meter
    }

    async fn maintain(&self) {
        keep_instances_of(&self.table).await;
    }

    fn evict_idle(&self) {
        self.table.evict_idle_for(Duration::ZERO);
    }

    fn evict_if_idle(&self, keys: &[Key]) {
        let gone = keys.iter().filter(|key| key.state() == S::NAME && self.table.remove_idle(key)).count();
        self.table.shared.instances_leave(gone);
    }
}
