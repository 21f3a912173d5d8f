//! Changes from other nodes are adopted outside the transport's reader, independently for each key.

use std::{
    fmt,
    io::Write as _,
    os::unix::net::UnixStream,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Access, Context, Elements, Event, Handle, Key, LocalBroadcaster, MemoryStore, ReactiveState,
    Registry as _, Rejection, StateConfig, StateRegistry, Store as _, View, Viewer,
    broadcast::{BroadcastError, Broadcaster, Change, Inbox, Interest},
    internal::{Follower, TopicName},
};
use faststate_testkit::faults::{BroadcastFault, FaultyBroadcaster, FaultyStore};
use serde::{Deserialize, Serialize};

use crate::board::until;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Article {
    slow: bool,
    edits: usize,
}

impl ReactiveState for Article {
    const NAME: &'static str = "article";
}

#[derive(Serialize, Deserialize)]
struct Edit {
    slow: bool,
}

impl Event for Edit {
    type State = Article;
    const NAME: &'static str = "edit";

    fn apply(&self, article: &mut Article, _: &mut Context<Article>) -> Result<(), Rejection> {
        article.slow = self.slow;
        article.edits += 1;
        Ok(())
    }
}

/// A view whose rendering takes as long as the state says.
#[derive(Clone, Default)]
struct Body {
    waits: Arc<AtomicBool>,
    renders: Arc<AtomicUsize>,
}

impl View for Body {
    type State = Article;
    const NAME: &'static str = "body";

    fn render(&self, article: &Article) -> Elements {
        self.renders.fetch_add(1, SeqCst);
        let began = Instant::now();
        while article.slow && self.waits.load(SeqCst) && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Elements::outer(format!("<p id=\"body\">{}</p>", article.edits))
    }
}

struct Node {
    registry: Arc<StateRegistry>,
    broadcaster: Arc<FaultyBroadcaster>,
    body: Body,
}

fn node(store: &Arc<FaultyStore>, broadcaster: impl Broadcaster) -> Node {
    let (body, broadcaster) = (Body::default(), FaultyBroadcaster::new(Arc::new(broadcaster)));
    let config = StateConfig::record().access(Access::public()).persist();
    let registry = StateRegistry::builder()
        .store(Arc::clone(store))
        .broadcaster(Arc::clone(&broadcaster))
        .state::<Article>(config, |state| state.event::<Edit>().view(body.clone()))
        .build()
        .unwrap();
    Node { registry, broadcaster, body }
}

fn nodes() -> (Node, Node, Arc<FaultyStore>) {
    let (store, hub) = (FaultyStore::new(Arc::new(MemoryStore::new())), LocalBroadcaster::new());
    (node(&store, hub.peer()), node(&store, hub), store)
}

fn article(node: &Node, id: &str) -> Handle<Article> {
    node.registry.record(id).unwrap()
}

async fn follow(node: &Node, id: &str) -> Follower {
    let topic: TopicName = format!("article:{id}.body").parse().unwrap();
    let mut follower = node.registry.engine().follow(&topic, &Viewer::application(), None, 1).await.unwrap();
    // Skip the snapshot.
    assert!(shown(&mut follower).is_some());
    follower
}

/// The newest frame, if there is one.
fn shown(follower: &mut Follower) -> Option<String> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match follower.poll_frames(&mut cx, false) {
        std::task::Poll::Ready(frames) => Some(String::from_utf8(frames.unwrap().to_vec()).unwrap()),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_slow_view_does_not_delay_changes_of_other_keys() {
    let (writer, reader, _) = nodes();
    for id in ["slow", "fast"] {
        article(&writer, id).send(Edit { slow: false }).await.unwrap();
    }
    let (mut slow, mut fast) = (follow(&reader, "slow").await, follow(&reader, "fast").await);
    reader.body.waits.store(true, SeqCst);
    let renders = reader.body.renders.load(SeqCst);
    article(&writer, "slow").send(Edit { slow: true }).await.unwrap();
    until("the slow view is rendered", async || reader.body.renders.load(SeqCst) > renders).await;
    article(&writer, "fast").send(Edit { slow: false }).await.unwrap();
    let began = Instant::now();
    until("the other key's change is shown", async || shown(&mut fast).is_some()).await;
    assert!(began.elapsed() < Duration::from_secs(10), "the change waited for the slow view");
    assert!(shown(&mut slow).is_none());
    reader.body.waits.store(false, SeqCst);
    until("the slow view is shown", async || shown(&mut slow).is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn law_06_changes_beyond_the_rate_of_adoption_are_merged() {
    let (writer, reader, store) = nodes();
    article(&writer, "a").send(Edit { slow: false }).await.unwrap();
    let mut follower = follow(&reader, "a").await;
    for gap in [false, true] {
        // The transport delivers all changes at once, in the second round without one of them.
        let mut at = 0;
        reader.broadcaster.set(move |_| {
            at += 1;
            if gap && at == 500 { BroadcastFault::Lose } else { BroadcastFault::Delay }
        });
        for _ in 0..1_000 {
            article(&writer, "a").send(Edit { slow: false }).await.unwrap();
        }
        let (renders, loads) = (reader.body.renders.load(SeqCst), store.loads());
        reader.broadcaster.release();
        assert_eq!(
            reader.body.renders.load(SeqCst),
            renders,
            "nothing is rendered in the transport's reader"
        );
        reader.registry.settle().await;
        // One rendering for the shown state, and one for the newest.
        assert!(reader.body.renders.load(SeqCst) <= renders + 2, "gap: {gap}");
        assert_eq!(store.loads(), loads + usize::from(gap));
        let key = reader.registry.key("article", &Viewer::application(), Some("a")).unwrap();
        let record = store.load(&key, None).await.unwrap().record.unwrap();
        let edits = serde_json::from_slice::<Article>(&record.data).unwrap().edits;
        assert!(shown(&mut follower).unwrap().contains(&format!("{edits}</p>")));
    }
}

/// A transport whose inbox is driven by the test.
#[derive(Default)]
struct Wire(OnceLock<Arc<dyn Inbox>>);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

#[async_trait]
impl Broadcaster for Wire {
    async fn publish(&self, _: &Change) -> Result<(), BroadcastError> {
        Ok(())
    }

    async fn notify(&self, _: Option<&Key>, _: Bytes) -> Result<(), BroadcastError> {
        Ok(())
    }

    async fn join(&self, _: &Key) -> Result<Interest, BroadcastError> {
        Ok(Interest::new(|| ()))
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        let _ = self.0.set(inbox);
    }
}

/// Waits outside the runtime, so that the wait does not wake it.
fn wait(what: &str, there: impl Fn() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < Duration::from_secs(10), "timed out: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn law_13_slow_view_does_not_block_the_transports_reader() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (wire, store) = (Arc::<Wire>::default(), FaultyStore::new(Arc::new(MemoryStore::new())));
    let (mut socket, reader) = UnixStream::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    let heard = Arc::<AtomicUsize>::default();
    let (node, followers, changes) = runtime.block_on(async {
        let node = node(&store, Arc::clone(&wire));
        let (mut followers, mut changes) = (Vec::new(), Vec::new());
        for id in ["slow", "fast"] {
            article(&node, id).send(Edit { slow: false }).await.unwrap();
            followers.push(follow(&node, id).await);
            let key = node.registry.key("article", &Viewer::application(), Some(id)).unwrap();
            let from = article(&node, id).read().await.unwrap().version();
            let data = serde_json::to_vec(&Article { slow: id == "slow", edits: 2 }).unwrap();
            changes.push(Change { key, from, to: from.next(), schema: 1, data: Some(data.into()) });
        }
        (node, followers, changes)
    });
    node.body.waits.store(true, SeqCst);
    let renders = node.body.renders.load(SeqCst);
    let hears = Arc::clone(&heard);
    runtime.spawn(async move {
        let reader = tokio::net::UnixStream::from_std(reader).unwrap();
        for change in changes {
            while reader.try_read(&mut [0]).is_err() {
                reader.readable().await.unwrap();
            }
            wire.0.get().unwrap().change(change);
            hears.fetch_add(1, SeqCst);
        }
    });
    socket.write_all(&[0]).unwrap();
    wait("the slow view is rendered", || node.body.renders.load(SeqCst) > renders);
    socket.write_all(&[0]).unwrap();
    wait("the other key's change is read", || heard.load(SeqCst) == 2);
    node.body.waits.store(false, SeqCst);
    drop(followers);
}
