//! Clients of the nodes: a writer that repeats events until they are acknowledged, and a follower.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use faststate_core::Version;
use faststate_testkit::{
    page::BrowserPage,
    suites::{
        Failure,
        client::{RawClient, RawConnection},
    },
};
use faststate_tests::UNAVAILABLE_LIMIT;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::cluster::counter_key;

/// Sends increments, each repeatedly until it is acknowledged.
pub(crate) struct Writer {
    pub(crate) nodes: Vec<SocketAddr>,
    /// The node in use, until it fails.
    at: usize,
    connection: Option<RawConnection>,
    pub(crate) tally: Tally,
}

/// The outcomes of a writer's events.
#[derive(Default)]
pub(crate) struct Tally {
    /// The versions of events that were acknowledged at the first attempt.
    pub(crate) versions: Vec<Version>,
    /// The last response to each other event: its own version, or a later one for a repeat.
    pub(crate) later: Vec<Version>,
    pub(crate) failures: usize,
    pub(crate) slowest: Duration,
}

impl Writer {
    pub(crate) fn new(nodes: Vec<SocketAddr>, at: usize) -> Self {
        Self { nodes, at, connection: None, tally: Tally::default() }
    }

    /// Sends one event until it is acknowledged.
    pub(crate) async fn increment(&mut self, id: &str) {
        let deadline = Instant::now() + Duration::from_secs(90);
        for tries in 0.. {
            let asked = Instant::now();
            let outcome = timeout(UNAVAILABLE_LIMIT, self.try_increment(id)).await;
            self.tally.slowest = self.tally.slowest.max(asked.elapsed());
            if let Ok(Ok(Some(version))) = outcome {
                let known = if tries == 0 { &mut self.tally.versions } else { &mut self.tally.later };
                known.push(version);
                return;
            }
            assert!(Instant::now() < deadline, "{id} is still refused");
            self.tally.failures += 1;
            self.connection = None;
            self.at += 1;
            sleep(Duration::from_millis(rand::random_range(10..50))).await;
        }
    }

    async fn try_increment(&mut self, id: &str) -> Result<Option<Version>, Failure> {
        let address = self.nodes[self.at % self.nodes.len()];
        let client = RawClient::new(address, "a node answers");
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => client.connect().await?,
        };
        let head = client.head("POST", "/faststate/counter/increment");
        let request = format!("{head}faststate-event: {id}\r\ncontent-length: 0\r\n\r\n");
        connection.write(request.as_bytes()).await?;
        let mut answer = connection.answer().await?;
        let version = answer.header("faststate-version").and_then(|version| version.parse().ok());
        let version = version.filter(|_| answer.status() == 200);
        answer.bytes().await?;
        self.connection = Some(answer.into_connection());
        Ok(version)
    }
}

/// A page that follows the counter on one node at a time.
pub(crate) struct Follower {
    pub(crate) shown: Arc<Mutex<BrowserPage>>,
    stop: Arc<AtomicBool>,
    pub(crate) reconnects: Arc<AtomicUsize>,
    task: JoinHandle<Result<(), Failure>>,
}

impl Follower {
    /// Follows on the first node, and on the next one when the stream ends; `moves` to another at random moments
    /// until [`rest`](Self::rest).
    pub(crate) fn start(nodes: Vec<SocketAddr>, moves: bool) -> Self {
        let (shown, stop, reconnects) = (
            Arc::<Mutex<BrowserPage>>::default(),
            Arc::<AtomicBool>::default(),
            Arc::<AtomicUsize>::default(),
        );
        let task = tokio::spawn(follow(
            nodes,
            moves,
            Arc::clone(&shown),
            Arc::clone(&stop),
            Arc::clone(&reconnects),
        ));
        Self { shown, stop, reconnects, task }
    }

    /// Stays on the present node.
    pub(crate) fn rest(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Panics unless every frame could be merged and none was older than the previous one (law 5).
    pub(crate) async fn check(&mut self) {
        if self.task.is_finished() {
            (&mut self.task).await.unwrap().unwrap();
        }
    }

    /// Whether the page shows this count.
    pub(crate) fn shows(&self, version: Version, state: &Value) -> bool {
        let page = self.shown.lock();
        page.cursor(&counter_key(), None) == Some(version) && page.follows(&counter_key(), state).is_ok()
    }

    pub(crate) fn cursor(&self) -> Option<Version> {
        self.shown.lock().cursor(&counter_key(), None)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    nodes: Vec<SocketAddr>,
    moves: bool,
    shown: Arc<Mutex<BrowserPage>>,
    stop: Arc<AtomicBool>,
    reconnects: Arc<AtomicUsize>,
) -> Result<(), Failure> {
    let mut at = 0;
    loop {
        let stays = if moves && !stop.load(Ordering::SeqCst) {
            Duration::from_millis(rand::random_range(20..800))
        } else {
            Duration::from_secs(3600)
        };
        let client = RawClient::new(nodes[at % nodes.len()], "a node answers").datastar();
        // Only merged frames matter, not how the connection ended.
        let fed = timeout(stays, read(client, &shown)).await;
        if let Ok(Err(failure)) = fed
            && failure.promise() != "a node answers"
        {
            return Err(failure);
        }
        shown.lock().cut();
        reconnects.fetch_add(1, Ordering::SeqCst);
        at = if moves { rand::random_range(0..nodes.len()) } else { at + 1 };
        sleep(Duration::from_millis(rand::random_range(1..50))).await;
    }
}

/// Merges a stream until its end.
async fn read(mut client: RawClient, shown: &Mutex<BrowserPage>) -> Result<(), Failure> {
    let cursors = shown.lock().cursors().to_string();
    let query: String = cursors.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mut stream = client.get(&format!("/faststate/sse?states=counter&datastar={query}")).await?;
    loop {
        match stream.piece().await {
            Ok(Some(bytes)) => shown.lock().feed(&bytes)?,
            Ok(None) => return Ok(()),
            // A quiet stream sends nothing for longer than the client's timeout.
            Err(failure) => return Err(failure),
        }
    }
}
