//! Checks of the promises of [`Broadcaster`], in the numbering of its documentation.
//!
//! The checks take the broadcasters of three connected nodes whose inboxes are not attached yet. A loss must be announced:
//! a change that was published after a node has joined arrives there, or [`Inbox::lost`] is called. To test the
//! announcement, break the transport and wait for [`RecordingInbox::losses`].

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use faststate_core::{
    Broadcaster, Key, Scope, Version,
    broadcast::{Change, Inbox},
};
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::spawn;

use super::{Failure, ensure, until};

/// The broadcasters of the three connected nodes of a check.
pub type ConnectedNodes = [Arc<dyn Broadcaster>; 3];

/// An inbox that records every call.
#[derive(Debug, Default)]
pub struct RecordingInbox {
    changes: Mutex<HashMap<Key, Vec<Change>>>,
    peer_messages: Mutex<Vec<(Option<Key>, Bytes)>>,
    losses: AtomicUsize,
}

impl RecordingInbox {
    /// Creates an inbox and attaches it to a node.
    #[must_use]
    pub fn attached(node: &Arc<dyn Broadcaster>) -> Arc<Self> {
        let inbox = Arc::new(Self::default());
        node.attach(Arc::<Self>::clone(&inbox));
        inbox
    }

    /// Returns the changes of a key that have arrived.
    #[must_use]
    pub fn changes(&self, key: &Key) -> Vec<Change> {
        self.changes.lock().get(key).cloned().unwrap_or_default()
    }

    /// Returns the peer messages that have arrived.
    #[must_use]
    pub fn peer_messages(&self) -> Vec<(Option<Key>, Bytes)> {
        self.peer_messages.lock().clone()
    }

    /// Returns how many possible losses were announced.
    #[must_use]
    pub fn losses(&self) -> usize {
        self.losses.load(Ordering::SeqCst)
    }
}

impl Inbox for RecordingInbox {
    fn change(&self, change: Change) {
        self.changes.lock().entry(change.key.clone()).or_default().push(change);
    }

    fn notified(&self, key: Option<Key>, message: Bytes) {
        self.peer_messages.lock().push((key, message));
    }

    fn lost(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs every check that applies to any broadcaster.
///
/// # Errors
/// Returns the first promise that is broken.
pub async fn all(nodes: &ConnectedNodes) -> Result<(), Failure> {
    let inboxes = nodes.each_ref().map(RecordingInbox::attached);
    change_reaches_joined_nodes(nodes, &inboxes).await?;
    change_arrives_unmodified(nodes, &inboxes).await?;
    node_that_left_receives_few_changes(nodes, &inboxes).await?;
    changes_of_many_keys_stay_apart(nodes, &inboxes).await?;
    concurrent_publishers_lose_no_change_silently(nodes, &inboxes).await?;
    peer_messages_reach_concerned_nodes(nodes, &inboxes).await
}

/// Promises 1 and 3: a change reaches the nodes that have joined its key; other nodes receive few changes.
pub async fn change_reaches_joined_nodes(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    let (joined, strange) = (new_key(Scope::Global, "")?, new_key(Scope::Global, "")?);
    let _first = nodes[1].join(&joined).await?;
    let _other = nodes[2].join(&strange).await?;
    const PROMISE: &str = "a change reaches every node that has joined its key";
    carries(&nodes[0], &history(&joined, 100), &[&inboxes[1]], PROMISE).await?;
    let unwanted = inboxes[2].changes(&joined).len();
    ensure!(
        unwanted < 50,
        "a node receives few changes of a key that it has not joined",
        "it received {unwanted} of 100"
    );

    let _second = nodes[2].join(&joined).await?;
    carries(&nodes[0], &history(&joined, 1), &[&inboxes[1], &inboxes[2]], PROMISE).await?;
    let promise = "any node can publish, including one that has joined the key";
    carries(&nodes[2], &history(&joined, 1), &[&inboxes[1]], promise).await
}

/// Key, versions and data arrive unmodified; a transport may omit the data.
pub async fn change_arrives_unmodified(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    const PROMISE: &str = "a change arrives unmodified";
    let last = Version { epoch: u64::MAX, seq: u64::MAX, nonce: u32::MAX };
    let large = format!("[\"{}\"]", "x".repeat(1 << 20));
    let data = [None, Some("{}"), Some(r#"{"a":"\r\n\u0000 é 🦀 \u2028:,'"}"#), Some(&large)];
    for (scope, id) in [(Scope::Global, ""), (Scope::Record, "A b:c*?[a]/\0é🦀"), (Scope::User, "Alice")] {
        let key = new_key(scope, id)?;
        let _interest = nodes[1].join(&key).await?;
        let changes: Vec<_> = data
            .iter()
            .map(|data| Change {
                key: key.clone(),
                from: last,
                to: Version::start(),
                schema: u32::MAX,
                data: data.map(|text| text.to_owned().into()),
            })
            .collect();
        carries(&nodes[0], &changes, &[&inboxes[1]], PROMISE).await?;
    }
    Ok(())
}

/// Promise 3: a node that has dropped its interest receives few changes; a node that holds a second interest in the key, or
/// has joined again, receives all of them.
pub async fn node_that_left_receives_few_changes(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    let key = new_key(Scope::Global, "")?;
    let first = nodes[1].join(&key).await?;
    let second = nodes[1].join(&key).await?;
    let _other = nodes[2].join(&key).await?;
    drop(first);
    let promise = "a node that holds one of two interests in a key receives its changes";
    carries(&nodes[0], &history(&key, 10), &[&inboxes[1]], promise).await?;

    drop(second);
    until("a node that has left a key soon receives few of its changes", async || {
        let before = inboxes[1].changes(&key).len();
        let promise = "a node that has joined receives changes of a key that another node has left";
        carries(&nodes[0], &history(&key, 20), &[&inboxes[2]], promise).await?;
        Ok((inboxes[1].changes(&key).len() - before < 10).then_some(()))
    })
    .await?;

    let _again = nodes[1].join(&key).await?;
    carries(&nodes[0], &history(&key, 10), &[&inboxes[1]], "a node that joins again receives changes again")
        .await
}

/// Many similar keys that are joined at once each receive only their own changes.
pub async fn changes_of_many_keys_stay_apart(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    let mut keys = Vec::new();
    for at in 0..200 {
        keys.push(new_key(Scope::Record, &format!("{at}"))?);
    }
    let state = new_key(Scope::Global, "")?.state().to_owned();
    for id in ["alice", "Alice", "alice ", "a*", "a?", "[a]", "a"] {
        keys.push(make_key(&state, Scope::Record, id)?);
        keys.push(make_key(&state, Scope::User, id)?);
    }
    let interests = try_join_all(keys.iter().map(|key| nodes[1].join(key))).await?;
    let changes: Vec<_> = keys.iter().map(|key| history(key, 2)).collect();
    let lost = inboxes[1].losses();
    for change in changes.iter().flatten() {
        nodes[0].publish(change).await?;
    }
    for (key, changes) in keys.iter().zip(&changes) {
        arrived(&inboxes[1], lost, changes, "each of many keys receives its changes").await?;
        let received = inboxes[1].changes(key);
        ensure!(
            received.iter().all(|received| changes.iter().any(|change| change.to == received.to)),
            "no key receives changes of another key",
            "{key} received {received:?}"
        );
    }
    drop(interests);
    Ok(())
}

/// Many tasks of two nodes publish at once, and no change is lost silently.
pub async fn concurrent_publishers_lose_no_change_silently(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    let key = new_key(Scope::Global, "")?;
    let _interest = nodes[2].join(&key).await?;
    let lost = inboxes[2].losses();
    let tasks = (0..16).map(|task| {
        let (node, changes) = (Arc::clone(&nodes[task % 2]), history(&key, 50));
        spawn(async move {
            for change in &changes {
                node.publish(change).await?;
            }
            Ok::<_, Failure>(changes)
        })
    });
    for changes in try_join_all(tasks).await? {
        arrived(&inboxes[2], lost, &changes?, "no change is lost silently when many tasks publish").await?;
    }
    Ok(())
}

/// Promise 4: a peer message without a key reaches every other node, one with a key the nodes that have joined it.
pub async fn peer_messages_reach_concerned_nodes(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    let key = new_key(Scope::Record, "A b:c*?[a]/\0é🦀")?;
    let _interest = nodes[2].join(&key).await?;
    for (payload, key, receivers) in [
        (Bytes::from_static(b"to all"), None, &[1, 2][..]),
        (Bytes::from(vec![0xff; 4096]), None, &[1, 2]),
        (Bytes::from_static(b"\0\r\n'"), Some(key.clone()), &[2]),
        (Bytes::new(), Some(key), &[2]),
    ] {
        let lost: Vec<_> = inboxes.iter().map(|inbox| inbox.losses()).collect();
        nodes[0].notify(key.as_ref(), payload.clone()).await?;
        for at in receivers {
            let wanted = (key.clone(), payload.clone());
            until("a peer message reaches the nodes that it concerns", async || {
                let received = inboxes[*at].peer_messages().contains(&wanted);
                Ok((received || inboxes[*at].losses() > lost[*at]).then_some(()))
            })
            .await?;
        }
    }
    let unwanted = inboxes[1].peer_messages().iter().filter(|(key, _)| key.is_some()).count();
    ensure!(
        unwanted < 2,
        "a node receives few peer messages of a key that it has not joined",
        "it received {unwanted} of 2"
    );
    Ok(())
}

/// Publishes the changes and waits until each inbox has received all of them or the announcement of a loss.
async fn carries(
    node: &Arc<dyn Broadcaster>,
    changes: &[Change],
    inboxes: &[&RecordingInbox],
    promise: &str,
) -> Result<(), Failure> {
    let lost: Vec<_> = inboxes.iter().map(|inbox| inbox.losses()).collect();
    for change in changes {
        node.publish(change).await?;
    }
    for (inbox, lost) in inboxes.iter().zip(lost) {
        arrived(inbox, lost, changes, promise).await?;
    }
    Ok(())
}

/// Waits until all changes have arrived or a loss beyond the `lost` earlier ones was announced.
async fn arrived(
    inbox: &RecordingInbox,
    lost: usize,
    changes: &[Change],
    promise: &str,
) -> Result<(), Failure> {
    let Some(first) = changes.first() else { return Ok(()) };
    until(promise, async || {
        let received = inbox.changes(&first.key);
        let by_version: HashMap<_, _> = received.iter().map(|change| (change.to, change)).collect();
        let mut all = true;
        for change in changes {
            let Some(received) = by_version.get(&change.to) else {
                all = false;
                continue;
            };
            let same =
                received.from == change.from && (received.data.is_none() || received.data == change.data);
            let brief =
                |change: &Change| (change.from, change.to, change.data.as_ref().map(bytes::Bytes::len));
            ensure!(
                same,
                "a change arrives unmodified",
                "{:?} arrived as {:?}",
                brief(change),
                brief(received)
            );
        }
        Ok((all || inbox.losses() > lost).then_some(()))
    })
    .await
}

/// Returns `length` successive changes.
fn history(key: &Key, length: usize) -> Vec<Change> {
    let mut from = Version::start();
    let mut changes = Vec::with_capacity(length);
    for _ in 0..length {
        let to = from.next();
        changes.push(Change { key: key.clone(), from, to, schema: 1, data: Some("{}".into()) });
        from = to;
    }
    changes
}

/// Returns an unused key. `id` is the owner or the record's id.
fn new_key(scope: Scope, id: &str) -> Result<Key, Failure> {
    make_key(&format!("conformance_{:016x}", rand::random::<u64>()), scope, id)
}

fn make_key(state: &str, scope: Scope, id: &str) -> Result<Key, Failure> {
    let owner = matches!(scope, Scope::Session | Scope::User).then_some(id);
    let id = scope.has_id().then_some(id);
    Key::new(state, scope, owner, id).map_err(|error| Failure::error("the suite's keys are valid", &error))
}
