//! The delivery of one instance's messages and jobs.
//!
//! A driver is a task that runs while the instance has messages or jobs that this node has claimed: those that its own
//! events requested, and those that the scheduler found overdue.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep},
};

use super::{
    gate::{MessageGate, Passage},
    jobs::{JobTable, retry_pause},
    operator::UnfinishedMessage,
    outbox::{JOB_LEASE, MESSAGE_LEASE, Outbox, OutboxEntry, Work, millis},
    releases::Releases,
    settlement::{Delivery, SettledAs, Settlement},
};
use crate::{
    JobContext, Key,
    event::{Cause, Environment},
    registry::{Error, dyn_table::DynInstanceTable},
    store::Receipt,
};

/// The most messages that a node delivers at once.
const MAX_DELIVERIES: usize = 512;
/// The most jobs that a node runs at once.
const MAX_JOBS: usize = 128;
/// The most messages and jobs of one instance that a node delivers at once.
const MAX_PER_INSTANCE: usize = 64;
/// The most messages that a node delivers to one target at once.
const MAX_PER_TARGET: usize = 64;
/// The time for which a driver trusts its memory of the outbox. It is shorter than the time for which a target keeps the
/// receipt of a finished message, so a process that was stopped for long does not deliver a message for a second time.
const TRUSTED_FOR: Duration = Duration::from_secs(60);
/// The interval at which a driver extends its claims while it delivers messages, and while it only runs jobs. Each
/// extension saves the sender.
const EXTENSION_INTERVALS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// The pauses between attempts to settle messages.
const SETTLE_PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(1),
];
/// The time after which a message or job is parked: 7 days.
const RETENTION: Duration = Duration::from_hours(7 * 24);

type Tables = HashMap<&'static str, Weak<dyn DynInstanceTable>>;

/// The messages and jobs that this node delivers.
///
/// # Locking
/// `drivers` protects the running drivers and their claims. `targets` counts deliveries. Each is taken alone and not held
/// across an await.
pub(in crate::registry) struct Dispatcher {
    tables: OnceLock<Tables>,
    jobs: JobTable,
    gate: Option<Arc<dyn MessageGate>>,
    environment: OnceLock<Arc<Environment>>,
    drivers: Mutex<HashMap<Key, Driver>>,
    targets: Mutex<HashMap<Key, Arc<Semaphore>>>,
    deliveries: Semaphore,
    running_jobs: Semaphore,
    pub(super) releases: Releases,
}

/// A running driver.
struct Driver {
    claimed: HashSet<u128>,
    /// The claimed messages and jobs that are being delivered.
    started: HashSet<u128>,
    /// Whether there are claims that the driver has not seen.
    is_new: bool,
    /// When the last save that claimed or settled messages began.
    confirmed: Instant,
    wake: Arc<Notify>,
}

impl Dispatcher {
    pub(in crate::registry) fn new(jobs: JobTable, gate: Option<Arc<dyn MessageGate>>) -> Self {
        Self {
            tables: OnceLock::new(),
            jobs,
            gate,
            environment: OnceLock::new(),
            drivers: Mutex::default(),
            targets: Mutex::default(),
            deliveries: Semaphore::new(MAX_DELIVERIES),
            running_jobs: Semaphore::new(MAX_JOBS),
            releases: Releases::default(),
        }
    }

    /// Sets the states of the registry. Later calls have no effect.
    pub(in crate::registry) fn attach(&self, tables: Tables, environment: Arc<Environment>) {
        let _ = self.tables.set(tables);
        let _ = self.environment.set(environment);
    }

    pub(in crate::registry) fn table(&self, state: &str) -> Option<Arc<dyn DynInstanceTable>> {
        self.tables.get()?.get(state)?.upgrade()
    }

    pub(in crate::registry) fn has_job(&self, name: &str) -> bool {
        self.jobs.contains_key(name)
    }

    /// Claims messages and jobs of an instance for this node, after a save that began at `asked`. Returns the driver to
    /// spawn, if none is running.
    pub(in crate::registry) fn claim(
        self: &Arc<Self>,
        key: &Key,
        ids: impl IntoIterator<Item = u128>,
        asked: Instant,
    ) -> Option<BoxFuture<'static, ()>> {
        let mut drivers = self.drivers.lock();
        if let Some(driver) = drivers.get_mut(key) {
            driver.claimed.extend(ids);
            driver.is_new = true;
            driver.confirmed = driver.confirmed.max(asked);
            driver.wake.notify_one();
            return None;
        }
        let wake = Arc::new(Notify::new());
        let driver = Driver {
            claimed: ids.into_iter().collect(),
            started: HashSet::new(),
            is_new: true,
            confirmed: asked,
            wake: Arc::clone(&wake),
        };
        drivers.insert(key.clone(), driver);
        drop(drivers);
        let run = DriverRun {
            messages: Arc::clone(self),
            key: key.clone(),
            wake,
            running: FuturesUnordered::new(),
            in_flight: HashMap::new(),
        };
        Some(run.drive().boxed())
    }

    /// Returns whether this node delivers this message or job.
    pub(in crate::registry) fn is_claimed(&self, key: &Key, id: u128) -> bool {
        self.drivers.lock().get(key).is_some_and(|driver| driver.claimed.contains(&id))
    }

    /// Returns a driver's claims that are still in the outbox.
    fn claims(&self, key: &Key, outbox: Option<&Outbox>) -> HashSet<u128> {
        let mut drivers = self.drivers.lock();
        let Some(driver) = drivers.get_mut(key) else { return HashSet::new() };
        driver.is_new = false;
        driver.claimed.retain(|id| outbox.is_some_and(|outbox| outbox.get(*id).is_some()));
        driver.claimed.clone()
    }

    /// Whether the driver's memory of the outbox is recent.
    fn is_trusted(&self, key: &Key) -> bool {
        self.drivers.lock().get(key).is_some_and(|driver| driver.confirmed.elapsed() < TRUSTED_FOR)
    }

    /// Records that a save that began at `asked` has confirmed the outbox.
    fn confirm(&self, key: &Key, asked: Instant) {
        if let Some(driver) = self.drivers.lock().get_mut(key) {
            driver.confirmed = driver.confirmed.max(asked);
        }
    }

    /// Records that the driver delivers a message or runs a job.
    fn start(&self, key: &Key, id: u128) {
        if let Some(driver) = self.drivers.lock().get_mut(key) {
            driver.started.insert(id);
        }
    }

    /// Removes claims, because other nodes may take these messages.
    fn unclaim(&self, key: &Key, ids: &[u128]) {
        if let Some(driver) = self.drivers.lock().get_mut(key) {
            for id in ids {
                driver.claimed.remove(id);
                driver.started.remove(id);
            }
        }
    }

    /// Removes a driver that has nothing to do, unless there are new claims. Returns whether it was removed.
    fn end(&self, key: &Key) -> bool {
        let mut drivers = self.drivers.lock();
        let is_over = drivers.get(key).is_none_or(|driver| !driver.is_new);
        if is_over {
            drivers.remove(key);
        }
        is_over
    }

    /// Lets other nodes take the claimed messages and jobs at once, except those that this node is delivering: they would
    /// run twice.
    pub(in crate::registry) async fn hand_over(&self) {
        let claimed: Vec<(Key, Vec<u128>)> = {
            let mut drivers = self.drivers.lock();
            let waiting = |driver: &mut Driver| {
                let Driver { claimed, started, .. } = driver;
                claimed.extract_if(|id| !started.contains(id)).collect()
            };
            drivers.iter_mut().map(|(key, driver)| (key.clone(), waiting(driver))).collect()
        };
        let hand_over = |(key, ids): (Key, Vec<u128>)| async move {
            let Some(table) = self.table(key.state()) else { return };
            let free = |id| Settlement { id, result: SettledAs::Claimed { millis: 0 } };
            if let Err(error) = table.settle(&key, ids.into_iter().map(free).collect()).await {
                tracing::debug!(?key, %error, "messages were not handed over");
            }
        };
        stream::iter(claimed).for_each_concurrent(MAX_PER_INSTANCE, hand_over).await;
    }

    /// Removes a driver, whatever it has claimed.
    fn abandon(&self, key: &Key) {
        self.drivers.lock().remove(key);
    }

    /// Delivers one message, or runs one job, if the gate of a test permits it.
    async fn deliver(self: Arc<Self>, key: Key, entry: Arc<OutboxEntry>) -> Settlement {
        let passage = match &self.gate {
            None => Passage::Deliver,
            Some(gate) => gate.pass(UnfinishedMessage::of(&key, &entry)).await,
        };
        let attempt = || Arc::clone(&self).deliver_once(key.clone(), Arc::clone(&entry));
        match passage {
            Passage::Deliver => attempt().await,
            Passage::Duplicate => tokio::join!(attempt(), attempt()).0,
            Passage::LoseAnswer => {
                attempt().await;
                Settlement {
                    id: entry.id,
                    result: SettledAs::Retried { millis: retry_pause(entry.attempts) },
                }
            }
            Passage::Lose => Settlement {
                id: entry.id,
                result: SettledAs::Retried { millis: retry_pause(entry.attempts) },
            },
        }
    }

    async fn deliver_once(self: Arc<Self>, key: Key, entry: Arc<OutboxEntry>) -> Settlement {
        let id = entry.id;
        let result = match &entry.work {
            Work::Message { to, event, .. } => match to.parse::<Key>() {
                Err(error) => SettledAs::Parked(error.to_string()),
                Ok(target) => {
                    let cause = Cause::new(key, entry.viewer.viewer(), entry.hops);
                    let delivery = Delivery { id, event: event.clone(), cause: Arc::new(cause) };
                    self.deliver_to(&target, delivery, &entry).await
                }
            },
            Work::Job { name, input } => match self.jobs.get(&**name) {
                None => SettledAs::Parked(format!(
                    "no job is named `{name}`: register it with `job`, and retry it"
                )),
                Some(job) => {
                    let _permit = self.running_jobs.acquire().await;
                    let Some(environment) = self.environment.get().map(Arc::clone) else {
                        return Settlement { id, result: SettledAs::Retried { millis: 0 } };
                    };
                    let context = JobContext {
                        id: format!("{id:032x}"),
                        attempt: entry.attempts + 1,
                        key,
                        environment,
                    };
                    job.run(input, context).await
                }
            },
            // The state refused it, and an operator retries it.
            Work::FollowUp { .. } => SettledAs::Accepted,
            Work::Timer { .. } => SettledAs::Fired,
        };
        Settlement { id, result: park_if_too_old(result, &entry) }
    }

    async fn deliver_to(&self, target: &Key, delivery: Delivery, entry: &OutboxEntry) -> SettledAs {
        let Some(table) = self.table(target.state()) else {
            return SettledAs::Parked(format!("no state is named `{}`", target.state()));
        };
        if let Err(reason) = table.receives(&delivery.event.event) {
            return SettledAs::Parked(reason);
        }
        let limit = {
            let mut targets = self.targets.lock();
            // Without deliveries, a target needs no limit.
            if targets.len() > MAX_DELIVERIES {
                targets.retain(|_, limit| Arc::strong_count(limit) > 1);
            }
            let limit =
                targets.entry(target.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_PER_TARGET)));
            Arc::clone(limit)
        };
        // In this order, so that deliveries to a slow target do not use up the permits of the others.
        let _place = limit.acquire().await;
        let _permit = self.deliveries.acquire().await;
        match table.deliver(target, delivery).await {
            Ok(_) => SettledAs::Accepted,
            Err(Error::Rejected(rejection)) => SettledAs::Rejected(rejection),
            Err(Error::Unknown) => SettledAs::Parked(format!("`{target:?}` does not exist")),
            Err(Error::Input(error)) => SettledAs::Parked(format!("the message does not decode: {error}")),
            Err(error) => {
                tracing::debug!(?target, %error, "a message was not delivered; it is tried again");
                SettledAs::Retried { millis: retry_pause(entry.attempts) }
            }
        }
    }
}

/// Parks a message or job that is to be retried although it is older than the retention.
fn park_if_too_old(result: SettledAs, entry: &OutboxEntry) -> SettledAs {
    let age = millis(crate::clock::now()).saturating_sub(entry.requested);
    match result {
        SettledAs::Retried { .. } if u128::from(age) >= RETENTION.as_millis() => {
            SettledAs::Parked(format!("it was tried for {} days; see the log", RETENTION.as_secs() / 86_400))
        }
        result => result,
    }
}

/// A driver at work.
struct DriverRun {
    messages: Arc<Dispatcher>,
    key: Key,
    wake: Arc<Notify>,
    running: FuturesUnordered<BoxFuture<'static, Settlement>>,
    /// The messages and jobs that are being delivered, each with the target of a message.
    in_flight: HashMap<u128, Option<String>>,
}

impl DriverRun {
    async fn drive(mut self) {
        let mut extended = Instant::now();
        loop {
            let started = self.start_deliveries().await;
            if self.running.is_empty() {
                // After an error, the scheduler finds the messages again.
                if started.is_err() {
                    return self.messages.abandon(&self.key);
                }
                if self.messages.end(&self.key) {
                    return;
                }
                continue;
            }
            let extension = extended + self.extension_interval();
            let settlements = tokio::select! {
                Some(first) = self.running.next() => self.with_finished(first),
                () = self.wake.notified() => continue,
                () = tokio::time::sleep_until(extension) => {
                    extended = Instant::now();
                    self.extensions()
                }
            };
            self.settle(settlements).await;
        }
    }

    /// Starts every claimed message and job that may start: the first message to each target, and all jobs.
    async fn start_deliveries(&mut self) -> Result<(), Error> {
        let Some(table) = self.messages.table(self.key.state()) else { return Err(Error::Unknown) };
        let outbox = table.outbox(&self.key).await?;
        let claims = self.messages.claims(&self.key, outbox.as_deref());
        let Some(outbox) = outbox else { return Ok(()) };
        if !self.messages.is_trusted(&self.key) {
            return Err(Error::TimedOut);
        }
        let mut targets: HashSet<&str> = HashSet::new();
        for entry in outbox.entries().iter().filter(|entry| entry.parked.is_none()) {
            if self.running.len() >= MAX_PER_INSTANCE {
                break;
            }
            let target = match &entry.work {
                Work::Message { to, .. } => {
                    // A later message waits for the first one to the same target.
                    if !targets.insert(to) {
                        continue;
                    }
                    Some(to.clone())
                }
                Work::Job { .. } | Work::FollowUp { .. } => None,
                Work::Timer { .. } => continue,
            };
            if !claims.contains(&entry.id) || self.in_flight.contains_key(&entry.id) {
                continue;
            }
            self.in_flight.insert(entry.id, target);
            self.messages.start(&self.key, entry.id);
            let messages = Arc::clone(&self.messages);
            self.running.push(messages.deliver(self.key.clone(), Arc::clone(entry)).boxed());
        }
        Ok(())
    }

    /// Returns this settlement and the others that are ready.
    fn with_finished(&mut self, first: Settlement) -> Vec<Settlement> {
        let mut settlements = vec![first];
        while let Some(Some(next)) = self.running.next().now_or_never() {
            settlements.push(next);
        }
        settlements
    }

    fn extension_interval(&self) -> Duration {
        let (messages, jobs) = EXTENSION_INTERVALS;
        if self.in_flight.values().any(Option::is_some) { messages } else { jobs }
    }

    /// Returns extended claims for the deliveries in flight.
    fn extensions(&self) -> Vec<Settlement> {
        let lease = |target: &Option<String>| if target.is_some() { MESSAGE_LEASE } else { JOB_LEASE };
        let claim = |(id, target): (&u128, &Option<String>)| Settlement {
            id: *id,
            result: SettledAs::Claimed { millis: lease(target).as_millis() as u64 },
        };
        self.in_flight.iter().map(claim).collect()
    }

    /// Settles messages in one turn of the sender. If that fails, another node, or this one, delivers them again, and the
    /// receipts at their targets prevent that they are applied twice.
    async fn settle(&mut self, settlements: Vec<Settlement>) {
        let mut pauses = SETTLE_PAUSES.into_iter();
        let settled = loop {
            let Some(table) = self.messages.table(self.key.state()) else { break false };
            let asked = Instant::now();
            let Err(error) = table.settle(&self.key, settlements.clone()).await else {
                self.messages.confirm(&self.key, asked);
                break true;
            };
            tracing::debug!(key = ?self.key, %error, "messages were not settled");
            let Some(pause) = pauses.next() else { break false };
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        };
        let mut over = Vec::new();
        for Settlement { id, result } in settlements {
            if matches!(result, SettledAs::Claimed { .. }) {
                continue;
            }
            let target = self.in_flight.remove(&id).flatten();
            let is_finished = matches!(result, SettledAs::Accepted | SettledAs::Rejected(_));
            if settled
                && is_finished
                && let Some(target) = target.and_then(|target| target.parse::<Key>().ok())
            {
                let receipt = Receipt::message(&target, id);
                self.messages.releases.add(target, receipt);
            }
            over.push(id);
        }
        self.messages.unclaim(&self.key, &over);
    }
}
