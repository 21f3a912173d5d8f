//! The instances of one state, without the type of the state.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    Elements, Key, Version, Viewer,
    broadcast::Change,
    registry::{
        Audience, Call, Error, Outcome, StateConfig,
        instances::Instances,
        messages::{
            outbox::Outbox,
            settlement::{Delivery, DueProgress, Settlement},
        },
        request::{Rendered, Route},
    },
    store::Store,
    topics::Follower,
};

/// The calls of the engine to the instances of one state.
#[async_trait]
pub(super) trait DynInstanceTable: Instances {
    fn config(&self) -> &StateConfig;
    fn routes(&self) -> Vec<Route>;
    fn has_event(&self, name: &str) -> bool;
    fn has_view(&self, name: &str) -> bool;
    /// Whether the viewer may read and change the instance.
    fn allows(&self, key: &Key, viewer: &Viewer) -> bool;
    /// Decodes and sends an event, if the viewer has access.
    async fn dispatch(&self, call: Call) -> Result<Outcome, Error>;
    /// Checks that messages can carry this event. The error states the reason and a remedy.
    fn receives(&self, event: &str) -> Result<(), String>;
    fn store(&self) -> Arc<dyn Store>;
    /// Applies a message in a turn of its target.
    async fn deliver(&self, key: &Key, delivery: Delivery) -> Result<Outcome, Error>;
    /// Returns the unfinished messages, timers and jobs of an instance.
    async fn outbox(&self, key: &Key) -> Result<Option<Arc<Outbox>>, Error>;
    /// Settles messages, timers and jobs in a turn of the sender.
    async fn settle(&self, key: &Key, settlements: Vec<Settlement>) -> Result<(), Error>;
    /// Fires the timers that are due at `now`, and takes the due messages and jobs.
    async fn take_due(&self, key: &Key, now: SystemTime) -> Result<DueProgress, Error>;
    /// Returns the initial content of a topic in a page. `view` is the name of a view, or `None` for the signals.
    async fn visible(&self, key: &Key, view: Option<&str>) -> Result<Rendered, Error>;
    /// Adds a follower to a topic. See [`Engine::follow`](super::interface::Engine::follow).
    async fn follow(
        &self,
        key: &Key,
        view: Option<&str>,
        cursor: Option<Version>,
        stream: u64,
        user: Option<&str>,
    ) -> Result<Follower, Error>;
    /// The number of streams that follow the instance on this node.
    fn followers(&self, key: &Key) -> usize;
    /// The number of followed topics, and the number of their followers.
    fn topics(&self) -> (usize, usize);
    /// Queues a change of another node.
    fn changed(&self, change: Change);
    /// Queues elements that an event on another node sends to all followers.
    fn elements_elsewhere(&self, key: &Key, version: Option<Version>, elements: Vec<Elements>);
    /// Reloads the followed instances, because changes of other nodes may have been lost.
    fn changes_lost(&self);
    /// Sends the counts of followers to the other nodes, because a node has joined.
    fn node_came(&self);
    /// Forgets the followers of a node that has left after it sent all of its changes.
    fn node_left(&self, node: u64);
    /// Whether this node may have saved a change that was not sent to the other nodes yet.
    fn has_unpublished(&self) -> bool;
    /// Forgets the followers of failed nodes, and reloads, because their last changes may not have been sent.
    fn nodes_died(&self, nodes: &[u64]);
    /// Records how many streams of another node follow the instance. `asks` requests the count of this node.
    fn present_elsewhere(&self, key: &Key, node: u64, count: usize, asks: bool);
    /// Records the audience of another node. `asks` requests the audience of this node.
    fn audience_elsewhere(&self, key: &Key, node: u64, audience: Audience, asks: bool);
    /// A value that changes when the store responds again after its circuit breaker was open.
    fn returns(&self) -> Option<watch::Receiver<u64>>;
    /// Reloads the followed instances, because the store has returned and may contain newer versions.
    fn returned(&self);
    /// Whether the state in memory may be stale.
    fn is_stale(&self, key: &Key) -> bool;
    #[cfg(feature = "metrics")]
    fn meter(&self) -> &crate::metrics::StateMeter;
    /// Extends the lifetime of followed and used records, and evicts idle instances.
    async fn maintain(&self);
    /// Evicts every idle instance.
    fn evict_idle(&self);
    /// Evicts those of these instances that belong to this state and are idle.
    fn evict_if_idle(&self, keys: &[Key]);
}
