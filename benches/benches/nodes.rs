//! Measures the latency of a change from one node to a follower on another: `cargo bench --bench nodes`.
//!
//! Two nodes share one server, which the benchmark starts itself. An event is sent to the first node, and the second sends the
//! frame to a follower. For comparison, a message of the same length goes from one bare connection to another through the
//! same client. Changes and messages alternate in short series. A save precedes each message as it precedes each change,
//! because a server that has just waited for its disk is slower; messages without a save are measured as well. The
//! benchmark takes about one minute.

use std::{
    future::poll_fn,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bb8_redis::redis::{self, IntoConnectionInfo as _};
use bytes::Bytes;
use faststate::{
    Access, Broadcaster, Context, Event, Handle, Key, ReactiveState, Registry as _, Rejection, StateConfig,
    StateRegistry, Store, Version, Viewer,
    internal::Follower,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_benches::{Column, Report};
use faststate_store_diesel::{DieselStore, PostgresBroadcaster};
use faststate_store_redis::{RedisBroadcaster, RedisStore};
use faststate_tests::{Postgres, RedisServer};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{AsyncMessage, NoTls};

const COLUMNS: [Column; 2] = [
    Column { name: "median", unit: "us", digits: 0 },
    Column { name: "99th percentile", unit: "us", digits: 0 },
];

/// The number of changes, and of messages, per round. The first ones of a round are not measured.
const CHANGES: usize = 2_000;
const WARM_UP: usize = 100;
/// The length of a series before the other side has its turn, so that other load on the machine affects both.
const CHANGES_PER_SERIES: usize = 25;
/// The maximum duration of a round with slow saves.
const MAX_ROUND_TIME: Duration = Duration::from_secs(16);
/// The timeout of every wait.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel name of the same length as that of a key.
const CHANNEL: &str = "faststate_v1_bare_counter_g_";
/// The length of a change of the state below between nodes: 56 bytes, the key, and the stored data.
const MESSAGE: &str = "a change: which key, between which versions, of which schema... {\"count\":1234,\"last_updated_by\":\"somebody\"}";

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut rounds, mut only) = (5, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo passes this argument to every benchmark.
            "--bench" => {}
            "--rounds" => rounds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(rounds),
            _ => only.push(argument),
        }
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let run = async {
        if wanted("redis") {
            redis(rounds).await?;
        }
        if wanted("postgres") {
            postgres(rounds).await?;
        }
        Outcome::Ok(())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&*error),
    }
}

#[expect(clippy::print_stderr, reason = "a program that failed")]
fn complain(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

async fn redis(rounds: usize) -> Outcome<()> {
    let server = RedisServer::start();
    let url = server.url();
    let pair = Pair::new(
        RedisStore::connect(&*url).await?,
        RedisStore::connect(&*url).await?,
        [RedisBroadcaster::connect(&*url).await?, RedisBroadcaster::connect(&*url).await?],
    )?;
    let bare = BareRedis::connect(&url).await?;
    compare("nodes-redis", "Redis, publish and subscribe alone", rounds, pair, Bare::Redis(Box::new(bare)))
        .await
}

async fn postgres(rounds: usize) -> Outcome<()> {
    let server = Postgres::start();
    let url = server.url();
    let pair = Pair::new(
        DieselStore::postgres(&*url).await?,
        DieselStore::postgres(&*url).await?,
        [PostgresBroadcaster::connect(&*url).await?, PostgresBroadcaster::connect(&*url).await?],
    )?;
    let bare = BarePostgres::connect(&url).await?;
    compare(
        "nodes-postgres",
        "PostgreSQL, notify and listen alone",
        rounds,
        pair,
        Bare::Postgres(Box::new(bare)),
    )
    .await
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
async fn compare(
    file: &'static str,
    alone: &'static str,
    rounds: usize,
    pair: Pair,
    bare: Bare,
) -> Outcome<()> {
    let (pair, bare) = (Arc::new(pair), Arc::new(tokio::sync::Mutex::new(bare)));
    let title = format!(
        "From a node to a follower on another, {CHANGES} changes one after the other, medians of {rounds} rounds"
    );
    let mut report = Report::new(file, title, &COLUMNS);
    for round in 1..=rounds {
        let (pair, bare) = (Arc::clone(&pair), Arc::clone(&bare));
        // Run on a worker, because waking the future of `block_on` costs more.
        let times = tokio::spawn(async move { Times::of(&pair, &mut *bare.lock().await).await }).await??;
        let [acknowledged, sent] = [summary(&times.acknowledged)?, summary(&times.sent)?];
        let [bare, unsaved] = [summary(&times.bare)?, summary(&times.unsaved)?];
        println!(
            "round {round}, {alone}: {bare:.0?}, without a save {unsaved:.0?}; FastState from the acknowledgement: \
             {acknowledged:.0?}, {:.2} and {:.2} times that",
            acknowledged[0] / bare[0],
            acknowledged[0] / unsaved[0]
        );
        report.push("FastState, acknowledgement to frame", &acknowledged);
        report.push(alone, &bare);
        report.push("the same without a save before it", &unsaved);
        report.push("FastState, event to frame", &sent);
    }
    Ok(report.finish()?)
}

/// The measurements of a round.
#[derive(Default)]
struct Times {
    /// From the store's acknowledgement to the frame.
    acknowledged: Vec<Duration>,
    /// From the event to the frame.
    sent: Vec<Duration>,
    /// From the publication to the message, after something was saved.
    bare: Vec<Duration>,
    /// From the publication to the message, without a save before it.
    unsaved: Vec<Duration>,
}

impl Times {
    /// Measures changes and messages in turn. Each starts when the previous one has arrived.
    async fn of(pair: &Pair, bare: &mut Bare) -> Outcome<Self> {
        let (mut times, started) = (Self::default(), Instant::now());
        let mut follower = pair.follow().await?;
        while times.bare.len() < CHANGES && started.elapsed() < MAX_ROUND_TIME {
            for _ in 0..CHANGES_PER_SERIES {
                let [acknowledged, sent] = pair.once(&mut follower).await?;
                times.acknowledged.push(acknowledged);
                times.sent.push(sent);
            }
            for _ in 0..CHANGES_PER_SERIES {
                timeout(WAIT_TIMEOUT, bare.save()).await??;
                times.bare.push(timeout(WAIT_TIMEOUT, bare.once()).await??);
            }
            for _ in 0..CHANGES_PER_SERIES {
                times.unsaved.push(timeout(WAIT_TIMEOUT, bare.once()).await??);
            }
        }
        Ok(times)
    }
}

/// The median and the 99th percentile of durations, in microseconds.
fn summary(times: &[Duration]) -> Outcome<[f64; 2]> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for time in times.iter().skip(WARM_UP) {
        histogram.record(u64::try_from(time.as_nanos())?)?;
    }
    Ok([0.5, 0.99].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1e3))
}

/// Two nodes: one receives events, the other has a follower.
struct Pair {
    counter: Handle<Counter>,
    acknowledged: Arc<Stamps>,
    /// The node that receives events.
    _first: Arc<StateRegistry>,
    second: Arc<StateRegistry>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counter {
    count: u64,
    last_updated_by: String,
}

impl ReactiveState for Counter {
    const NAME: &'static str = "counter";
}

#[derive(Debug, Serialize, Deserialize)]
struct Increment {}

impl Event for Increment {
    type State = Counter;
    const NAME: &'static str = "increment";

    fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        counter.count += 1;
        "somebody".clone_into(&mut counter.last_updated_by);
        Ok(())
    }
}

impl Pair {
    fn new<S: Store, B: Broadcaster>(first: S, second: S, broadcasters: [B; 2]) -> Outcome<Self> {
        let acknowledged = Arc::new(Stamps { inner: Arc::new(first), last: Mutex::new(None) });
        let [one, other] = broadcasters;
        let first = node(Arc::clone(&acknowledged), one)?;
        let second = node(second, other)?;
        Ok(Self { counter: first.global()?, acknowledged, _first: first, second })
    }

    async fn follow(&self) -> Outcome<Follower> {
        let mut follower =
            self.second.engine().follow(&"counter".parse()?, &Viewer::application(), None, 1).await?;
        frame(&mut follower).await?;
        Ok(follower)
    }

    /// Measures one change from the store's acknowledgement, and from the event, to the frame.
    async fn once(&self, follower: &mut Follower) -> Outcome<[Duration; 2]> {
        let counter = self.counter.clone();
        let asked = Instant::now();
        let event = tokio::spawn(async move { counter.send(Increment {}).await });
        let seen = frame(follower).await?;
        event.await??;
        let saved = self.acknowledged.last.lock().ok_or("nothing was saved")?;
        Ok([seen.saturating_duration_since(saved), seen - asked])
    }
}

fn node(store: impl Store, broadcaster: impl Broadcaster) -> Outcome<Arc<StateRegistry>> {
    let config = StateConfig::global().access(Access::public()).persist();
    let builder = StateRegistry::builder().store(store).broadcaster(broadcaster);
    Ok(builder.state::<Counter>(config, |state| state.event::<Increment>()).build()?)
}

/// Waits for the next frame and returns its arrival time.
async fn frame(follower: &mut Follower) -> Outcome<Instant> {
    timeout(WAIT_TIMEOUT, poll_fn(|cx| follower.poll_frames(cx, true))).await??;
    Ok(Instant::now())
}

/// A store that records when it acknowledged a save.
#[derive(Debug)]
struct Stamps {
    inner: Arc<dyn Store>,
    last: Mutex<Option<Instant>>,
}

#[async_trait]
impl Store for Stamps {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        self.inner.load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let saving = self.inner.save(key, record, expect, receipt).await;
        *self.last.lock() = Some(Instant::now());
        saving
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.inner.refuse(key, receipt, answer).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.inner.release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.inner.due(limit).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        self.inner.pending(limit).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.inner.delete(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.inner.touch(key, ttl).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}

/// The bare service: one connection publishes, another subscribes.
enum Bare {
    Redis(Box<BareRedis>),
    Postgres(Box<BarePostgres>),
}

struct BareRedis {
    store: redis::aio::MultiplexedConnection,
    publisher: redis::aio::MultiplexedConnection,
    heard: mpsc::UnboundedReceiver<redis::PushInfo>,
    _subscriber: redis::aio::MultiplexedConnection,
}

struct BarePostgres {
    store: tokio_postgres::Client,
    save: tokio_postgres::Statement,
    publisher: tokio_postgres::Client,
    notify: tokio_postgres::Statement,
    heard: mpsc::UnboundedReceiver<()>,
    _listener: tokio_postgres::Client,
}

impl Bare {
    /// Saves a durable value of the same length as the record of a node.
    async fn save(&mut self) -> Outcome<()> {
        match self {
            Self::Redis(bare) => {
                redis::cmd("SET").arg("bare").arg(MESSAGE).exec_async(&mut bare.store).await?;
            }
            Self::Postgres(bare) => {
                bare.store.execute(&bare.save, &[&MESSAGE]).await?;
            }
        }
        Ok(())
    }

    /// Measures the time from the publication to the message.
    async fn once(&mut self) -> Outcome<Duration> {
        let asked = Instant::now();
        match self {
            Self::Redis(bare) => {
                let mut publish = redis::cmd("PUBLISH");
                publish.arg(CHANNEL).arg(MESSAGE);
                let published = publish.exec_async(&mut bare.publisher);
                let heard = async {
                    while bare.heard.recv().await?.kind != redis::PushKind::Message {}
                    Some(asked.elapsed())
                };
                let (published, took) = futures::future::join(published, heard).await;
                published?;
                Ok(took.ok_or("the subscription ended")?)
            }
            Self::Postgres(bare) => {
                let published = bare.publisher.query(&bare.notify, &[&CHANNEL, &MESSAGE]);
                let heard = async {
                    bare.heard.recv().await;
                    asked.elapsed()
                };
                let (published, took) = futures::future::join(published, heard).await;
                published?;
                Ok(took)
            }
        }
    }
}

impl BareRedis {
    /// Opens connections like those of the nodes.
    async fn connect(url: &str) -> Outcome<Self> {
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
        let client = redis::Client::open(info.set_redis_settings(settings))?;
        let (hears, heard) = mpsc::unbounded_channel();
        let config = redis::AsyncConnectionConfig::new().set_push_sender(hears);
        let mut subscriber = client.get_multiplexed_async_connection_with_config(&config).await?;
        subscriber.subscribe(CHANNEL).await?;
        let store = client.get_multiplexed_async_connection().await?;
        let publisher = client.get_multiplexed_async_connection().await?;
        Ok(Self { store, publisher, heard, _subscriber: subscriber })
    }
}

impl BarePostgres {
    async fn connect(url: &str) -> Outcome<Self> {
        let (store, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        store.batch_execute("CREATE TABLE bare (message text); INSERT INTO bare VALUES ('')").await?;
        let save = store.prepare("UPDATE bare SET message = $1").await?;
        let (publisher, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        // Like the nodes: notifications need not be on disk.
        publisher.batch_execute("SET synchronous_commit = off").await?;
        let notify = publisher.prepare("SELECT pg_notify($1, $2)").await?;
        let (listener, mut connection) = tokio_postgres::connect(url, NoTls).await?;
        let (hears, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if matches!(message, AsyncMessage::Notification(_)) && hears.send(()).is_err() {
                    return;
                }
            }
        });
        listener.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        Ok(Self { store, save, publisher, notify, heard, _listener: listener })
    }
}
