//! Law 16 across `kill -9` of nodes at random moments, and across moves of the database's clock.

mod account;
mod forgetful;
mod job_log;
mod worker;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use faststate_core::Store;
use faststate_tests::{Folder, MariaDb, Postgres, PostgresSettings, RedisServer, WallClock};
use tokio::time::sleep;

use self::{
    account::{Account, OPENING_BALANCE, milliseconds},
    job_log::JobLog,
    worker::{ACCOUNTS, Load, Setup, Worker, open},
};

/// The time after a start within which the timers fire that came due while no node ran: 2 s, plus 2 s for a test machine
/// whose cores are busy with other tests.
const LATE_TIMERS_LIMIT: Duration = Duration::from_secs(4);
/// The deadline of all messages, jobs and timers once no more events are sent.
const QUIET_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time from the start of the nodes, or from the previous kill, to a kill.
const MAX_UPTIME: Duration = Duration::from_millis(500);
/// The shortest and the longest time without any node.
const DOWNTIMES: (f64, f64) = (0.2, 0.8);
/// The offsets of the clock while events are sent, after one hour ahead.
const OFFSETS: [&str; 3] = ["+0", "-1h", "+1h"];

/// The number of rounds of kills: `FASTSTATE_KILL_ROUNDS`, by default few.
fn rounds() -> usize {
    let rounds = std::env::var("FASTSTATE_KILL_ROUNDS").ok();
    rounds.map_or(3, |rounds| rounds.parse().expect("FASTSTATE_KILL_ROUNDS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_16_work_over_sqlite_survives_kills_of_the_process() {
    let (folder, clock) = (Folder::new("sqlite"), WallClock::new());
    let url = format!("sqlite://{}", folder.join("test.db").display());
    // The database has the clock of the process.
    survive_kills(Nodes::over(url, clock.clone(), Some(clock), &["a"]).await, rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_16_work_over_postgres_survives_kills_of_nodes() {
    let clock = WallClock::new();
    let server =
        Postgres::with(&PostgresSettings { clock: Some(clock.clone()), ..PostgresSettings::default() });
    survive_kills(Nodes::over(server.url(), clock, None, &["a", "b", "c"]).await, rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_16_work_over_mariadb_survives_kills_of_nodes() {
    let clock = WallClock::new();
    let server = MariaDb::with_clock(&clock);
    survive_kills(Nodes::over(server.url(), clock, None, &["a", "b", "c"]).await, rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_16_work_over_redis_survives_kills_of_nodes() {
    let clock = WallClock::new();
    let server = RedisServer::with_clock(&clock);
    survive_kills(Nodes::over(server.url(), clock, None, &["a", "b", "c"]).await, rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "after the kills")]
async fn law_16_store_that_forgets_receipts_is_caught() {
    let (folder, clock) = (Folder::new("sqlite"), WallClock::new());
    let url = format!("forgetful+sqlite://{}", folder.join("test.db").display());
    survive_kills(Nodes::over(url, clock.clone(), Some(clock), &["a"]).await, 8).await;
}

/// Kills the nodes in this many rounds, and then moves the clock of the database.
async fn survive_kills(mut nodes: Nodes, rounds: usize) {
    nodes.start(Load::Busy);
    let (mut late, mut slowest) = (0, Duration::ZERO);
    for round in 0..rounds {
        // In every second round, the other nodes go on.
        if nodes.names.len() > 1 && round % 2 == 1 {
            nodes.restart_each().await;
            continue;
        }
        nodes.kill_each().await;
        let (shortest, longest) = DOWNTIMES;
        sleep(Duration::from_secs_f64(rand::random_range(shortest..longest))).await;
        let end = milliseconds(SystemTime::now());
        late += nodes.timers_until(end).await;
        let started = nodes.start(Load::Busy);
        while nodes.timers_until(end).await > 0 {
            assert!(started.elapsed() < LATE_TIMERS_LIMIT, "round {round}: late timers have not fired");
            sleep(Duration::from_millis(10)).await;
        }
        slowest = slowest.max(started.elapsed());
    }

    nodes.kill_each().await;
    nodes.start(Load::Quiet);
    nodes
        .until("no transfer is in flight", async |nodes: &Nodes| nodes.transfers_in_flight().await == 0)
        .await;
    nodes.check_accounts("after the kills").await;
    // The leases of killed nodes are over, and all timers are due.
    nodes.clock.shift("+1h");
    nodes.until_finished().await;
    nodes.check_accounts("an hour later").await;
    nodes.check_jobs().await;

    nodes.kill_each().await;
    nodes.start(Load::Busy);
    for offset in OFFSETS {
        sleep(MAX_UPTIME).await;
        nodes.clock.shift(offset);
        nodes.restart_each().await;
    }
    nodes.kill_each().await;
    nodes.clock.shift("+3h");
    nodes.start(Load::Quiet);
    nodes.until_finished().await;
    nodes.check_accounts("after the moves of the clock").await;
    let (jobs, attempts) = nodes.check_jobs().await;
    let accounts = nodes.accounts().await;
    let sum = |count: fn(&Account) -> u64| accounts.iter().map(count).sum::<u64>();
    let (accepted, refused) = (sum(|account| account.accepted), sum(|account| account.refused));
    let fired = sum(|account| account.fired);
    eprintln!(
        "{rounds} rounds of kills over {}: {accepted} transfers accepted and {refused} refused; {fired} timers fired once, \
         {late} of them after a downtime, the last one {slowest:?} after the start; {jobs} jobs in {attempts} attempts",
        nodes.setup.url,
    );
    assert!(accepted > 0 && refused > 0 && fired > 0 && jobs > 0, "each kind of work was done");
}

/// The nodes of a test, and the test's own view of their store.
struct Nodes {
    names: &'static [&'static str],
    setup: Setup,
    workers: Vec<Worker>,
    store: Arc<dyn Store>,
    /// The clock of the database.
    clock: WallClock,
    _folder: Folder,
}

impl Nodes {
    /// Nodes over the store at `url`. `own` is their clock, if it is not the machine's.
    async fn over(
        url: String,
        clock: WallClock,
        own: Option<WallClock>,
        names: &'static [&'static str],
    ) -> Self {
        let (store, folder) = (open(&url).await, Folder::new("jobs"));
        let setup = Setup { url, log: JobLog(folder.join("log")), clock: own };
        Self { names, setup, workers: Vec::new(), store, clock, _folder: folder }
    }

    /// Starts all nodes, and returns when the first one ran.
    fn start(&mut self, load: Load) -> Instant {
        self.workers = self.names.iter().map(|name| Worker::start(&self.setup, name, load)).collect();
        let started: Vec<_> = self.workers.iter_mut().map(Worker::wait).collect();
        started.into_iter().min().expect("there is a node")
    }

    /// Returns the nodes, from a random one on.
    fn random_order(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.names.len();
        let first = rand::random_range(0..count);
        (first..first + count).map(move |node| node % count)
    }

    /// Kills one node after the other, each at a random moment.
    async fn kill_each(&mut self) {
        for node in self.random_order() {
            sleep(MAX_UPTIME.mul_f64(rand::random_range(0.0..1.0))).await;
            self.workers[node].kill();
        }
    }

    /// Kills one node after the other, each at a random moment, and starts each again before the next one dies.
    async fn restart_each(&mut self) {
        for node in self.random_order() {
            sleep(MAX_UPTIME.mul_f64(rand::random_range(0.0..1.0))).await;
            self.workers[node].kill();
            self.workers[node] = Worker::start(&self.setup, self.names[node], Load::Busy);
            self.workers[node].wait();
        }
    }

    async fn accounts(&self) -> Vec<Account> {
        let mut accounts = Vec::new();
        for id in 0..ACCOUNTS {
            let record = self.store.load(&Account::key(id), None).await.unwrap().record;
            accounts.push(record.map_or_else(Account::default, |record| {
                serde_json::from_slice(&record.data).expect("an account is stored as JSON")
            }));
        }
        accounts
    }

    /// Returns the number of timers that have not fired and whose time is up to `end`.
    async fn timers_until(&self, end: u64) -> usize {
        let accounts = self.accounts().await;
        accounts.iter().flat_map(|account| account.timers.values()).filter(|at| **at <= end).count()
    }

    async fn transfers_in_flight(&self) -> u64 {
        let accounts = self.accounts().await;
        accounts.iter().map(|account| account.sent - account.accepted - account.refused).sum()
    }

    /// Waits until no message, job or timer is left.
    async fn until_finished(&self) {
        self.until("nothing is left to do", async |nodes: &Self| {
            let pending = nodes.store.pending(10).await.unwrap();
            assert_eq!(pending.parked, 0, "{pending:?}");
            pending.waiting == 0 && nodes.timers_until(u64::MAX).await == 0
        })
        .await;
    }

    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self).await {
            let pending = self.store.pending(10).await.unwrap();
            assert!(began.elapsed() < QUIET_TIMEOUT, "{what}: {pending:?} {:#?}", self.accounts().await);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Checks the sums, the order of messages and the timers, at a moment without transfers in flight.
    async fn check_accounts(&self, when: &str) {
        let accounts = self.accounts().await;
        let sum = |count: fn(&Account) -> u64| accounts.iter().map(count).sum::<u64>();
        let money: i64 = accounts.iter().map(|account| account.balance).sum();
        assert_eq!(money, OPENING_BALANCE * ACCOUNTS as i64, "{when}: {accounts:#?}");
        let (received, accepted) = (sum(|account| account.received), sum(|account| account.accepted));
        assert_eq!(received, accepted, "{when}: {accounts:#?}");
        assert_eq!(sum(|account| account.overtaken), 0, "{when}: {accounts:#?}");
        assert_eq!(sum(|account| account.fired_again), 0, "{when}: {accounts:#?}");
        let is_complete = |account: &Account| {
            let waiting = u64::try_from(account.timers.len()).unwrap();
            account.timers_set == account.fired + waiting
        };
        assert!(accounts.iter().all(is_complete), "{when}: {accounts:#?}");
    }

    /// Checks that each job ran to its end at least once, always with the same id; returns the numbers of jobs and
    /// attempts.
    async fn check_jobs(&self) -> (usize, usize) {
        let (accounts, log) = (self.accounts().await, self.setup.log.read());
        let (mut ids, mut attempts) = (BTreeSet::new(), 0);
        for (id, account) in accounts.iter().enumerate() {
            for number in 1..=account.jobs {
                let job = (Account::key(id).as_str().to_owned(), number);
                let ran = log.get(&job).unwrap_or_else(|| panic!("{job:?} did not run"));
                assert!(ran.ended > 0, "{job:?} did not come to its end: {ran:?}");
                assert!(ran.ids.iter().all(|id| *id == ran.ids[0]), "{job:?}: {ran:?}");
                assert!(ids.insert(&ran.ids[0]), "two jobs have the id of {job:?}: {ran:?}");
                attempts += ran.ids.len();
            }
        }
        assert_eq!(ids.len(), log.len(), "no job ran that was not requested");
        (ids.len(), attempts)
    }
}
