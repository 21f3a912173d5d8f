//! One node: a process of its own, which tests kill.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use faststate_core::{Broadcaster, Error, StateRegistry, Store};
use faststate_store_diesel::{DieselStore, PostgresBroadcaster};
use faststate_store_redis::{RedisBroadcaster, RedisStore};
use faststate_testkit::faults::Overridden;
use faststate_tests::WallClock;
use futures::future::join_all;
use tokio::time::sleep;

use super::{
    account::{Account, RequestJob, SetTimer, Transfer, register},
    forgetful::Forgetful,
    job_log::JobLog,
};

/// The number of accounts.
pub(super) const ACCOUNTS: usize = 12;
/// The number of tasks of a node that send events.
const TASKS: usize = 4;
/// The longest pause between two events of a task.
const MAX_PAUSE: Duration = Duration::from_millis(60);

/// What the nodes of a test have in common.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) url: String,
    pub(super) log: JobLog,
    /// The clock of the nodes, if it is not the machine's.
    pub(super) clock: Option<WallClock>,
}

/// Whether a node sends events by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Busy,
    Quiet,
}

/// A running node, killed when dropped.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
}

impl Worker {
    /// Starts a node.
    pub(super) fn start(setup: &Setup, name: &str, load: Load) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        if let Some(clock) = &setup.clock {
            clock.attach(&mut command);
        }
        let child = command
            .args(["--ignored", "--exact", "messages::worker::a_node_to_kill", "--nocapture"])
            .env("FASTSTATE_WORKER_URL", &setup.url)
            .env("FASTSTATE_WORKER_LOG", &setup.log.0)
            .env("FASTSTATE_WORKER_NAME", name)
            .env("FASTSTATE_WORKER_BUSY", (load == Load::Busy).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Waits until the node runs.
    pub(super) fn wait(&mut self) -> Instant {
        let mut lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line.ends_with("ready")));
        assert!(is_ready, "the node ended as soon as it was started");
        Instant::now()
    }

    /// Kills the node with SIGKILL.
    pub(super) fn kill(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the node ended by itself");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens the store at a URL.
pub(super) async fn open(url: &str) -> Arc<dyn Store> {
    if let Some(url) = url.strip_prefix("forgetful+") {
        return Arc::new(Overridden(Forgetful(Box::pin(open(url)).await)));
    }
    match url.split_once(':') {
        Some(("sqlite", _)) => Arc::new(DieselStore::sqlite(url).await.unwrap()),
        Some(("postgres", _)) => Arc::new(DieselStore::postgres(url).await.unwrap()),
        Some(("mysql", _)) => Arc::new(DieselStore::mysql(url).await.unwrap()),
        _ => Arc::new(RedisStore::connect(url).await.unwrap()),
    }
}

/// Opens the broadcaster at a URL. SQLite and MariaDB have none: their nodes share only the store.
async fn broadcaster(url: &str) -> Option<Arc<dyn Broadcaster>> {
    match url.split_once(':') {
        Some(("postgres", _)) => Some(Arc::new(PostgresBroadcaster::connect(url).await.unwrap())),
        Some(("redis", _)) => Some(Arc::new(RedisBroadcaster::connect(url).await.unwrap())),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is what the other tests kill"]
async fn a_node_to_kill() {
    let variable = |name: &str| std::env::var(name).expect("it is started by the other tests");
    // The node does not survive the test that started it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    let url = variable("FASTSTATE_WORKER_URL");
    let log = JobLog(PathBuf::from(variable("FASTSTATE_WORKER_LOG")));
    let mut builder =
        StateRegistry::builder().store(open(&url).await).node(variable("FASTSTATE_WORKER_NAME"));
    if let Some(broadcaster) = broadcaster(&url).await {
        builder = builder.broadcaster(broadcaster);
    }
    let registry = register(builder, log).build().unwrap();
    let mut out = std::io::stdout();
    out.write_all(b"ready\n").and_then(|()| out.flush()).unwrap();
    if variable("FASTSTATE_WORKER_BUSY") == "true" {
        join_all((0..TASKS).map(|_| tokio::spawn(send_events(Arc::clone(&registry))))).await;
    }
    std::future::pending::<()>().await;
}

/// Sends random events for ever.
async fn send_events(registry: Arc<StateRegistry>) {
    loop {
        // An event that fails has changed nothing, or everything that it requests.
        let _ = send_event(&registry).await;
        sleep(MAX_PAUSE.mul_f64(rand::random_range(0.1..1.0))).await;
    }
}

/// Sends one random event.
async fn send_event(registry: &Arc<StateRegistry>) -> Result<(), Error> {
    let (from, to) = (rand::random_range(0..ACCOUNTS), rand::random_range(0..ACCOUNTS));
    let account = registry.record::<Account>(&from.to_string())?;
    let sent = match rand::random_range(0..100) {
        0..10 => account.send(RequestJob {}).await,
        10..35 => account.send(SetTimer { millis: rand::random_range(100..1500), is_far: false }).await,
        35..40 => account.send(SetTimer { millis: 0, is_far: true }).await,
        _ => account.send(Transfer { to, amount: rand::random_range(1..40) }).await,
    };
    sent.map(drop)
}
