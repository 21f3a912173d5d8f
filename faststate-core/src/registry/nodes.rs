//! The way to the other nodes, and who they are.

mod members;
mod outbox;
mod pieces;
mod revocations;
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
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(super) use self::words::PeerMessage;
use self::{
    members::Members,
    outbox::{Outbox, publish_all},
    pieces::Pieces,
    revocations::Revocations,
    words::WordElements,
};
use super::{Error, StateRegistry};
use crate::{
    BoxError, Elements, Key, Revocation, Version,
    broadcast::{Broadcaster, Change, Interest},
    store::StoreError,
};

/// How often a node says that it is there.
const HERE: Duration = Duration::from_secs(1);
/// How long what is told may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before telling again what the transport refused.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a registry that settles waits for what the transport has refused.
const SETTLES: Duration = Duration::from_secs(3);
/// How often it looks whether that is published.
const SETTLED: Duration = Duration::from_millis(20);

/// The way to the other nodes.
pub(super) struct Nodes {
    broadcaster: Arc<dyn Broadcaster>,
    outbox: Arc<Mutex<Outbox>>,
    revocations: Arc<Revocations>,
    /// Words of other nodes that have not arrived whole.
    pieces: Mutex<Pieces>,
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
            revocations: Revocations::new(),
            pieces: Mutex::default(),
            id: rand::random(),
            members: Mutex::default(),
            left: AtomicBool::new(false),
        }
    }

    /// A change to be published.
    pub(super) fn publish(&self, change: Change) {
        self.outbox.lock().push(change);
    }

    /// Elements to be sent to those who follow the key on other nodes, before a change that is published after them.
    pub(super) fn send_elements(&self, key: &Key, version: Option<Version>, elements: &[Elements]) {
        let elements = elements.iter().map(WordElements::from).collect();
        let words = PeerMessage::Elements { node: self.id, version: version.map(Into::into), elements };
        match pieces::split(&words) {
            Some(words) => self.outbox.lock().push_elements(key, words),
            None => tracing::warn!(?key, "elements are too long for the other nodes"),
        }
    }

    /// Waits until what was to be published is published; not for long if the transport refuses it.
    pub(super) async fn settle(&self) {
        let deadline = Instant::now() + SETTLES;
        while !self.outbox.lock().is_idle() && Instant::now() < deadline {
            tokio::time::sleep(SETTLED).await;
        }
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
    pub(super) async fn tell(&self, key: Option<&Key>, words: &PeerMessage) -> bool {
        tell(&*self.broadcaster, key, words).await
    }

    /// Has the other nodes told of a revocation, however long that takes; says whether they were by the deadline.
    pub(super) async fn revoke(&self, revocation: Revocation, deadline: Instant) -> bool {
        self.revocations.tell(&self.broadcaster, revocation, deadline).await
    }

    /// Says goodbye to the other nodes, unless a change still waits to be published.
    pub(super) async fn leave(&self) {
        if self.outbox.lock().is_idle() && !self.left.swap(true, Ordering::Relaxed) {
            self.tell(None, &PeerMessage::Goodbye { node: self.id }).await;
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
            let here = PeerMessage::Here { node: nodes.id, name: registry.shared.node.to_string() };
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

/// Tells the other nodes, or those that have joined the key; says whether that worked.
async fn tell(broadcaster: &dyn Broadcaster, key: Option<&Key>, words: &PeerMessage) -> bool {
    let Some(pieces) = pieces::split(words) else {
        tracing::warn!(?key, "what the other nodes are to be told is too long");
        return false;
    };
    let told = try_join_all(pieces.into_iter().map(|piece| broadcaster.tell(key, piece)));
    matches!(tokio::time::timeout(PATIENCE, told).await, Ok(Ok(_)))
}

/// What another node told. Runs in the transport's reader: what takes long gets a task of its own.
pub(super) fn told(registry: &Arc<StateRegistry>, key: Option<&Key>, words: &Bytes) {
    let Some(nodes) = &registry.shared.nodes else { return };
    let mut read = PeerMessage::from_bytes(words);
    if let Some((PeerMessage::Piece { message, part, parts }, content)) = read {
        let Some(whole) = nodes.pieces.lock().add(message, part, parts, content) else { return };
        read = PeerMessage::from_bytes(&whole);
    }
    let states = key.and_then(|key| registry.states.get(key.state()));
    match (read.map(|(words, _)| words), key) {
        (Some(PeerMessage::Here { node, name }), None) => {
            if nodes.is_here(node, &name) {
                in_task(registry, |registry| registry.states.values().for_each(|states| states.node_came()));
            }
        }
        (Some(PeerMessage::Goodbye { node }), None) => {
            nodes.members.lock().leave(node);
            in_task(registry, move |registry| {
                registry.states.values().for_each(|states| states.node_left(node));
            });
        }
        (Some(PeerMessage::Present { node, count, asks }), Some(key)) => {
            if let Some(states) = states {
                states.present_elsewhere(key, node, count, asks);
            }
        }
        (Some(PeerMessage::Audience { node, audience, asks }), Some(key)) => {
            if let Some(states) = states {
                states.audience_elsewhere(key, node, audience, asks);
            }
        }
        (Some(PeerMessage::Elements { node, version, elements }), Some(key)) => {
            if let Some(states) = states.filter(|_| node != nodes.id) {
                let elements = elements.into_iter().filter_map(WordElements::read).collect();
                states.elements_elsewhere(key, version.map(Into::into), elements);
            }
        }
        (Some(PeerMessage::Revoked { revocation }), None) => {
            in_task(registry, move |registry| registry.shared.close_streams(&revocation));
        }
        (Some(PeerMessage::RevokedMany), None) => {
            in_task(registry, |registry| registry.shared.doubt_streams())
        }
        (Some(PeerMessage::Missed), None) => {
            in_task(registry, |registry| registry.states.values().for_each(|states| states.lost()));
        }
        // A newer node may say what this one does not know.
        _ => tracing::debug!("another node told something unknown"),
    }
}

/// The transport may have lost what other nodes said. Runs in the transport's reader, too.
pub(super) fn lost(registry: &Arc<StateRegistry>) {
    if let Some(nodes) = &registry.shared.nodes {
        nodes.was_cut_off();
    }
    in_task(registry, |registry| {
        registry.shared.doubt_streams();
        registry.states.values().for_each(|states| states.lost());
    });
}

/// Runs what goes over all instances or streams outside of the transport's reader.
fn in_task(registry: &Arc<StateRegistry>, work: impl FnOnce(&StateRegistry) + Send + 'static) {
    let registry = Arc::clone(registry);
    tokio::spawn(async move { work(&registry) });
}
