//! The instances of one state, without the type of the state.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    Elements, Key, Version, Viewer,
    broadcast::Change,
    registry::{
        Audience, Call, Error, Outcome, StateConfig, StateSnapshot,
        request::{Job, Rendered, Route},
    },
    topics::Follower,
};

/// All instances of some state: what the registry knows of it.
#[async_trait]
pub(in crate::registry) trait DynInstanceTable: Send + Sync {
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
    /// Another node has left after it sent all of its changes.
    fn node_left(&self, node: u64);
    /// Whether this node may have saved a change of which the others are not notified yet.
    fn has_untold(&self) -> bool;
    /// Other nodes have failed, perhaps before they sent their last changes.
    fn nodes_died(&self, nodes: &[u64]);
    /// So many streams of another node follow this key; perhaps it asks how many do here.
    fn present_elsewhere(&self, key: &Key, node: u64, count: usize, asks: bool);
    /// These users and so many guests follow this key on another node; `asks` requests this node's audience.
    fn audience_elsewhere(&self, key: &Key, node: u64, audience: Audience, asks: bool);
    /// Changes whenever the store answers again after a rest.
    fn returns(&self) -> Option<watch::Receiver<u64>>;
    /// The store answers again after a rest: it may hold anything.
    fn returned(&self);
    /// Whether what is in memory of an instance may be stale.
    fn is_stale(&self, key: &Key) -> bool;
    #[cfg(feature = "metrics")]
    fn meter(&self) -> &crate::metrics::StateMeter;
    /// Keeps followed and used records alive, and lets idle instances go.
    async fn upkeep(&self);
    /// Lets every idle instance go.
    fn let_go(&self);
    /// Lets these instances go, those of this state that are idle.
    fn let_go_of(&self, keys: &[Key]);
}
