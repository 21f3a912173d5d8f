//! The promises of [`Broadcaster`], as its documentation numbers them.
//!
//! The checks take the broadcasters of three nodes that are connected with each other and not yet
//! attached. Loss is allowed only where it is announced: what was published after a node has joined
//! arrives there, or the node hears [`Inbox::lost`]. A test that wants to see the announcement breaks
//! the transport itself and awaits [`RecordingInbox::lost`].

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

/// The connected nodes of a check.
pub type ConnectedNodes = [Arc<dyn Broadcaster>; 3];

/// An inbox that remembers what it hears.
#[derive(Debug, Default)]
pub struct RecordingInbox {
    changes: Mutex<HashMap<Key, Vec<Change>>>,
    peer_messages: Mutex<Vec<(Option<Key>, Bytes)>>,
    losses: AtomicUsize,
}

impl RecordingInbox {
    /// A new inbox, attached to a node.
    #[must_use]
    pub fn attached(node: &Arc<dyn Broadcaster>) -> Arc<Self> {
        let inbox = Arc::new(Self::default());
        node.attach(Arc::<Self>::clone(&inbox));
        inbox
    }

    /// What it has heard of a key so far.
    #[must_use]
    pub fn changes(&self, key: &Key) -> Vec<Change> {
        self.changes.lock().get(key).cloned().unwrap_or_default()
    }

    /// What it was told so far.
    #[must_use]
    pub fn peer_messages(&self) -> Vec<(Option<Key>, Bytes)> {
        self.peer_messages.lock().clone()
    }

    /// How often it has heard that changes may be lost.
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

/// Every promise that holds for a broadcaster of any kind.
///
/// # Errors
/// The first promise that is broken.
pub async fn all(nodes: &ConnectedNodes) -> Result<(), Failure> {
    let inboxes = nodes.each_ref().map(RecordingInbox::attached);
    change_reaches_joined_nodes(nodes, &inboxes).await?;
    change_arrives_unmodified(nodes, &inboxes).await?;
    node_that_left_receives_few_changes(nodes, &inboxes).await?;
    changes_of_many_keys_stay_apart(nodes, &inboxes).await?;
    concurrent_publishers_lose_no_change_silently(nodes, &inboxes).await?;
    peer_messages_reach_concerned_nodes(nodes, &inboxes).await
}

/// Promises 1 and 3: a change reaches the nodes that have joined its key; others hear little of it.
pub async fn change_reaches_joined_nodes(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    let (joined, strange) = (new_key(Scope::Global, "")?, new_key(Scope::Global, "")?);
    let _first = nodes[1].join(&joined).await?;
    let _other = nodes[2].join(&strange).await?;
    const PROMISE: &str = "a change reaches every node that has joined its key";
    carries(&nodes[0], &history(&joined, 100), &[&inboxes[1]], PROMISE).await?;
    let overheard = inboxes[2].changes(&joined).len();
    ensure!(
        overheard < 50,
        "a node hears little of a key that it has not joined",
        "it heard {overheard} of 100"
    );

    let _second = nodes[2].join(&joined).await?;
    carries(&nodes[0], &history(&joined, 1), &[&inboxes[1], &inboxes[2]], PROMISE).await?;
    let promise = "any node can publish, also one that has joined itself";
    carries(&nodes[2], &history(&joined, 1), &[&inboxes[1]], promise).await
}

/// Key, versions and data arrive as they were sent; a transport may leave out the data, but not change
/// it.
pub async fn change_arrives_unmodified(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    const PROMISE: &str = "a change arrives as it was sent";
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

/// Promise 3: a node that has dropped its interest hears little; one that holds a second interest in
/// the key, or has joined again, hears all.
pub async fn node_that_left_receives_few_changes(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    let key = new_key(Scope::Global, "")?;
    let first = nodes[1].join(&key).await?;
    let second = nodes[1].join(&key).await?;
    let _other = nodes[2].join(&key).await?;
    drop(first);
    let promise = "a node that holds one of two interests in a key still hears of it";
    carries(&nodes[0], &history(&key, 10), &[&inboxes[1]], promise).await?;

    drop(second);
    until("a node that has left a key soon hears little of it", async || {
        let before = inboxes[1].changes(&key).len();
        let promise = "a node that has joined hears of a key that another has left";
        carries(&nodes[0], &history(&key, 20), &[&inboxes[2]], promise).await?;
        Ok((inboxes[1].changes(&key).len() - before < 10).then_some(()))
    })
    .await?;

    let _again = nodes[1].join(&key).await?;
    carries(&nodes[0], &history(&key, 10), &[&inboxes[1]], "a node that joins again hears again").await
}

/// Keys that are joined in great number, at once and alike, each get their own changes.
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
        arrived(&inboxes[1], lost, changes, "each of many keys gets its changes").await?;
        let heard = inboxes[1].changes(key);
        ensure!(
            heard.iter().all(|heard| changes.iter().any(|change| change.to == heard.to)),
            "no key gets another's changes",
            "{key} got {heard:?}"
        );
    }
    drop(interests);
    Ok(())
}

/// Many tasks of two nodes publish at once, and nothing is lost without a word.
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
        arrived(&inboxes[2], lost, &changes?, "nothing is lost without a word when many tasks publish")
            .await?;
    }
    Ok(())
}

/// Promise 4: what is told to all reaches every other node, what is told of a key those that have joined
/// it.
pub async fn peer_messages_reach_concerned_nodes(
    nodes: &ConnectedNodes,
    inboxes: &[Arc<RecordingInbox>; 3],
) -> Result<(), Failure> {
    let key = new_key(Scope::Record, "A b:c*?[a]/\0é🦀")?;
    let _interest = nodes[2].join(&key).await?;
    for (words, key, whom) in [
        (Bytes::from_static(b"to all"), None, &[1, 2][..]),
        (Bytes::from(vec![0xff; 4096]), None, &[1, 2]),
        (Bytes::from_static(b"\0\r\n'"), Some(key.clone()), &[2]),
        (Bytes::new(), Some(key), &[2]),
    ] {
        let lost: Vec<_> = inboxes.iter().map(|inbox| inbox.losses()).collect();
        nodes[0].notify(key.as_ref(), words.clone()).await?;
        for at in whom {
            let wanted = (key.clone(), words.clone());
            until("what one node tells reaches the nodes that it concerns", async || {
                let heard = inboxes[*at].peer_messages().contains(&wanted);
                Ok((heard || inboxes[*at].losses() > lost[*at]).then_some(()))
            })
            .await?;
        }
    }
    let overheard = inboxes[1].peer_messages().iter().filter(|(key, _)| key.is_some()).count();
    ensure!(
        overheard < 2,
        "a node hears little of what is told of a key that it has not joined",
        "it heard {overheard} of 2"
    );
    Ok(())
}

/// Publishes the changes and waits until each inbox has heard all of them, or that some were lost.
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

/// Waits until all changes were heard, or another loss than the `lost` before.
async fn arrived(
    inbox: &RecordingInbox,
    lost: usize,
    changes: &[Change],
    promise: &str,
) -> Result<(), Failure> {
    let Some(first) = changes.first() else { return Ok(()) };
    until(promise, async || {
        let heard = inbox.changes(&first.key);
        let by_version: HashMap<_, _> = heard.iter().map(|change| (change.to, change)).collect();
        let mut all = true;
        for change in changes {
            let Some(heard) = by_version.get(&change.to) else {
                all = false;
                continue;
            };
            let same = heard.from == change.from && (heard.data.is_none() || heard.data == change.data);
            let brief =
                |change: &Change| (change.from, change.to, change.data.as_ref().map(bytes::Bytes::len));
            ensure!(same, "a change arrives as it was sent", "{:?} became {:?}", brief(change), brief(heard));
        }
        Ok((all || inbox.losses() > lost).then_some(()))
    })
    .await
}

/// So many changes, one after the other.
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

/// A key that nobody has used before; `id` is the owner's or the record's.
fn new_key(scope: Scope, id: &str) -> Result<Key, Failure> {
    make_key(&format!("conformance_{:016x}", rand::random::<u64>()), scope, id)
}

fn make_key(state: &str, scope: Scope, id: &str) -> Result<Key, Failure> {
    let owner = matches!(scope, Scope::Session | Scope::User).then_some(id);
    let id = scope.has_id().then_some(id);
    Key::new(state, scope, owner, id).map_err(|error| Failure::error("the suite makes legal keys", &error))
}
