//! The way to the other nodes, and who they are.

mod members;
mod outbox;
mod words;

use std::{
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(super) use self::words::Words;
use self::{
    members::Members,
    outbox::{Outbox, publish_all},
};
use super::{Error, StateRegistry};
use crate::{
    BoxError, Key,
    broadcast::{Broadcaster, Change, Interest},
    store::StoreError,
};

/// How often a node says that it is there.
const HERE: Duration = Duration::from_secs(1);
/// How long what is told may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before telling again what the transport refused.
const AGAIN: Duration = Duration::from_millis(500);

/// The way to the other nodes.
pub(super) struct Nodes {
    broadcaster: Arc<dyn Broadcaster>,
    outbox: Arc<Mutex<Outbox>>,
    /// This node among the others: random, so that one that starts again is another.
    pub(super) id: u64,
    members: Mutex<Members>,
    /// Whether this node said goodbye.
    left: AtomicBool,
}

impl Nodes {
    pub(super) fn new(broadcaster: Arc<dyn Broadcaster>) -> Self {
        Self {
            broadcaster,
            outbox: Arc::default(),
            id: rand::random(),
            members: Mutex::default(),
            left: AtomicBool::new(false),
        }
    }

    /// A change to be published.
    pub(super) fn publish(&self, change: Change) {
        self.outbox.lock().push(change);
    }

    /// Publishes what waits, unless nothing does or somebody does that already.
    pub(super) fn publishing(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let begins = self.outbox.lock().begin();
        begins.then(|| publish_all(Arc::clone(&self.broadcaster), Arc::clone(&self.outbox)))
    }

    /// Asks for the changes of a key.
    pub(super) async fn join(&self, key: &Key, deadline: Instant) -> Result<Interest, Error> {
        let joined = match tokio::time::timeout_at(deadline, self.broadcaster.join(key)).await {
            Ok(joined) => joined.map_err(BoxError::from),
            Err(elapsed) => Err(elapsed.into()),
        };
        joined.map_err(|error| Error::Unavailable(StoreError::Unavailable(error)))
    }

    /// Tells the other nodes, or those on which somebody follows the key; says whether that worked.
    pub(super) async fn tell(&self, key: Option<&Key>, words: &Words) -> bool {
        let told = self.broadcaster.tell(key, words.to_bytes());
        matches!(tokio::time::timeout(PATIENCE, told).await, Ok(Ok(())))
    }

    /// Tells all other nodes, again and again until it works, for at most so long.
    pub(super) async fn insist(&self, words: &Words, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while !self.tell(None, words).await {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(AGAIN).await;
        }
        true
    }

    /// Says goodbye to the other nodes, unless a change still waits to be published.
    pub(super) async fn leave(&self) {
        if self.outbox.lock().is_idle() && !self.left.swap(true, Ordering::Relaxed) {
            self.tell(None, &Words::Goodbye { node: self.id }).await;
        }
    }

    /// A node says that it is there; says whether that is news.
    pub(super) fn is_here(&self, node: u64, name: &str) -> bool {
        self.members.lock().heard(node, name, Instant::now())
    }

    /// Nobody was heard of for a while, and that says nothing of the others.
    pub(super) fn was_cut_off(&self) {
        self.members.lock().give_time(Instant::now());
    }

    /// The other nodes' names.
    pub(super) fn names(&self) -> Vec<String> {
        self.members.lock().names()
    }
}

/// Says that this node is there, and notices when another is not any more, for as long as the registry
/// lives.
///
/// What a node that died had saved and not yet published, the others must read from the store: they would
/// not hear of it before the key's next change.
pub(super) async fn keep_members(registry: Weak<StateRegistry>) {
    let mut hears = true;
    loop {
        {
            let Some(registry) = registry.upgrade() else { return };
            let Some(nodes) = &registry.shared.nodes else { return };
            if nodes.left.load(Ordering::Relaxed) {
                return;
            }
            let here = Words::Here { node: nodes.id, name: registry.shared.node.to_string() };
            // Who cannot say anything does not hear anything either.
            let told = nodes.tell(None, &here).await;
            if !(told && hears) {
                nodes.was_cut_off();
            }
            hears = told;
            let dead = nodes.members.lock().dead(Instant::now());
            if !dead.is_empty() {
                tracing::warn!(nodes = ?dead.iter().map(|(_, name)| name).collect::<Vec<_>>(), "gone");
                let ids: Vec<_> = dead.into_iter().map(|(node, _)| node).collect();
                registry.states.values().for_each(|states| states.nodes_died(&ids));
            }
        }
        tokio::time::sleep(HERE).await;
    }
}

/// What another node told.
pub(super) fn told(registry: &StateRegistry, key: Option<&Key>, words: &Bytes) {
    let Some(nodes) = &registry.shared.nodes else { return };
    match (Words::from_bytes(words), key) {
        (Some(Words::Here { node, name }), None) => {
            if nodes.is_here(node, &name) {
                registry.states.values().for_each(|states| states.node_came());
            }
        }
        (Some(Words::Goodbye { node }), None) => {
            nodes.members.lock().leave(node);
            registry.states.values().for_each(|states| states.node_left(node));
        }
        (Some(Words::Present { node, count, asks }), Some(key)) => {
            if let Some(states) = registry.states.get(key.state()) {
                states.present_elsewhere(key, node, count, asks);
            }
        }
        (Some(Words::Revoked { revocation }), None) => registry.shared.close_streams(&revocation),
        // A newer node may say what this one does not know.
        _ => tracing::debug!("another node told something unknown"),
    }
}
