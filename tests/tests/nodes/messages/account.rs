//! Accounts that send each other money, set timers and request jobs.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use faststate_core::{
    Access, Address, Cause, Context, Event, Job, JobContext, Key, ReactiveState, Rejection, Retry, Scope,
    StateConfig, registry::RegistryBuilder,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::job_log::JobLog;

/// The balance of a new account.
pub(super) const OPENING_BALANCE: i64 = 100;
/// An account refuses deposits above this balance.
const MAX_BALANCE: i64 = 150;
/// An account refuses further transfers while it has this many unfinished messages and jobs.
const MAX_PENDING: u32 = 100;
/// The most timers of each kind that an account has at once.
const MAX_TIMERS: usize = 20;
/// The time after which a timer of the kind `is_far` fires.
const FAR: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) balance: i64,
    /// The number of transfers that were sent, accepted and refused.
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) received: u64,
    /// The number of the latest deposit of each sender.
    latest: BTreeMap<String, u64>,
    /// The number of deposits that arrived after a later one of the same sender, or twice.
    pub(super) overtaken: u64,
    /// The times of the timers that have not fired, in milliseconds since the Unix epoch, by the timers' numbers.
    pub(super) timers: BTreeMap<u64, u64>,
    pub(super) timers_set: u64,
    pub(super) fired: u64,
    /// The number of times at which a timer fired that had fired before.
    pub(super) fired_again: u64,
    /// The number of jobs that were requested.
    pub(super) jobs: u64,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            balance: OPENING_BALANCE,
            sent: 0,
            accepted: 0,
            refused: 0,
            received: 0,
            latest: BTreeMap::new(),
            overtaken: 0,
            timers: BTreeMap::new(),
            timers_set: 0,
            fired: 0,
            fired_again: 0,
            jobs: 0,
        }
    }
}

/// The account as browsers would see it.
#[derive(Serialize)]
struct AccountSignals {
    balance: i64,
}

impl ReactiveState for Account {
    const NAME: &'static str = "account";

    fn signals(&self) -> impl Serialize {
        AccountSignals { balance: self.balance }
    }
}

impl Account {
    /// Returns the key of an account.
    pub(super) fn key(id: usize) -> Key {
        Key::new(Self::NAME, Scope::Record, None, Some(&id.to_string())).unwrap()
    }
}

/// Adds the accounts and their job.
pub(super) fn register(builder: RegistryBuilder, log: JobLog) -> RegistryBuilder {
    let config = StateConfig::record().access(Access::public()).persist().sends_messages();
    builder.job::<Errand>().resource(log).state::<Account>(config, |state| {
        state
            .event::<Transfer>()
            .event::<SetTimer>()
            .event::<RequestJob>()
            .message::<Deposit>()
            .message::<Confirm>()
            .message::<Refund>()
            .message::<Tick>()
    })
}

/// Sends money to another account.
#[derive(Serialize, Deserialize)]
pub(super) struct Transfer {
    pub(super) to: usize,
    pub(super) amount: i64,
}

impl Event for Transfer {
    type State = Account;
    const NAME: &'static str = "transfer";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        if account.balance < self.amount || context.pending() >= MAX_PENDING {
            return Err(Rejection::conflict("not now"));
        }
        let amount = self.amount;
        account.balance -= amount;
        account.sent += 1;
        context
            .send(Address::<Account>::record(&self.to.to_string()), Deposit { amount, number: account.sent })
            .then(Confirm {})
            .or_else(Refund { amount });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Deposit {
    amount: i64,
    number: u64,
}

impl Event for Deposit {
    type State = Account;
    const NAME: &'static str = "deposit";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        if account.balance + self.amount > MAX_BALANCE {
            return Err(Rejection::conflict("the account is full"));
        }
        account.balance += self.amount;
        account.received += 1;
        let sender = context.cause().map(Cause::key).map(|key| key.as_str().to_owned()).unwrap_or_default();
        let latest = account.latest.entry(sender).or_default();
        if self.number <= *latest {
            account.overtaken += 1;
        }
        *latest = self.number.max(*latest);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Confirm {}

impl Event for Confirm {
    type State = Account;
    const NAME: &'static str = "confirm";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.accepted += 1;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Refund {
    amount: i64,
}

impl Event for Refund {
    type State = Account;
    const NAME: &'static str = "refund";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.balance += self.amount;
        account.refused += 1;
        Ok(())
    }
}

/// Sets one more timer, unless there are many.
#[derive(Serialize, Deserialize)]
pub(super) struct SetTimer {
    /// The time until it fires, unless it is far.
    pub(super) millis: u64,
    pub(super) is_far: bool,
}

impl Event for SetTimer {
    type State = Account;
    const NAME: &'static str = "set_timer";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        let now = context.now();
        let is_far = |at: u64| at > milliseconds(now + FAR / 2);
        if account.timers.values().filter(|at| is_far(**at) == self.is_far).count() >= MAX_TIMERS {
            return Err(Rejection::conflict("not now"));
        }
        let at = now + if self.is_far { FAR } else { Duration::from_millis(self.millis) };
        account.timers_set += 1;
        let number = account.timers_set;
        account.timers.insert(number, milliseconds(at));
        context.schedule(format!("timer-{number}"), at, Tick { number });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Tick {
    number: u64,
}

impl Event for Tick {
    type State = Account;
    const NAME: &'static str = "tick";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        if account.timers.remove(&self.number).is_some() {
            account.fired += 1;
        } else {
            account.fired_again += 1;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct RequestJob {}

impl Event for RequestJob {
    type State = Account;
    const NAME: &'static str = "request_job";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        account.jobs += 1;
        context.run(Errand { number: account.jobs });
        Ok(())
    }
}

/// A job that records its attempts.
#[derive(Serialize, Deserialize)]
struct Errand {
    number: u64,
}

impl Job for Errand {
    const NAME: &'static str = "errand";

    async fn run(&self, job: &JobContext) -> Result<(), Retry> {
        let log = job.resource::<JobLog>().ok_or_else(|| Retry::give_up("there is no log"))?;
        log.add(job.key(), self.number, job.id(), false);
        sleep(Duration::from_millis(rand::random_range(0..100))).await;
        log.add(job.key(), self.number, job.id(), true);
        Ok(())
    }
}

/// Returns milliseconds since the Unix epoch.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
