//! Accounts that transfer money to each other with messages, for the tests of law 16.

use std::time::SystemTime;

use faststate_core::{
    Access, Address, Context, Event, Job, JobContext, ReactiveState, Rejection, Retry, StateConfig,
    registry::RegistryBuilder,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The balance of a new account.
pub(crate) const OPENING_BALANCE: i64 = 100;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) balance: i64,
    /// The number of transfers that were sent, accepted and refused.
    pub(crate) sent: u32,
    pub(crate) accepted: u32,
    pub(crate) refused: u32,
    pub(crate) received: u32,
    pub(crate) closed: bool,
    pub(crate) last_reason: String,
    /// The numbers of the received transfers, in order of arrival.
    pub(crate) numbers: Vec<u32>,
    pub(crate) ticks: u32,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            balance: OPENING_BALANCE,
            sent: 0,
            accepted: 0,
            refused: 0,
            received: 0,
            closed: false,
            last_reason: String::new(),
            numbers: Vec::new(),
            ticks: 0,
        }
    }
}

impl ReactiveState for Account {
    const NAME: &'static str = "account";
}

/// Takes money from this account and sends it to another.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) to: String,
    pub(crate) amount: i64,
    pub(crate) number: u32,
}

impl Event for Transfer {
    type State = Account;
    const NAME: &'static str = "transfer";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        if account.balance < self.amount {
            return Err(Rejection::conflict("not enough money"));
        }
        account.balance -= self.amount;
        account.sent += 1;
        let deposit = Deposit { amount: self.amount, number: self.number };
        context
            .send(Address::record(&self.to), deposit)
            .then(Confirm {})
            .or_else(Refund { amount: self.amount });
        Ok(())
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Deposit {
    pub(crate) amount: i64,
    pub(crate) number: u32,
}

impl Event for Deposit {
    type State = Account;
    const NAME: &'static str = "deposit";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        if account.closed {
            return Err(Rejection::conflict("the account is closed"));
        }
        assert!(context.cause().is_some(), "a message has a cause");
        account.balance += self.amount;
        account.received += 1;
        account.numbers.push(self.number);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Confirm {}

impl Event for Confirm {
    type State = Account;
    const NAME: &'static str = "confirm";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.accepted += 1;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(crate) amount: i64,
}

impl Event for Refund {
    type State = Account;
    const NAME: &'static str = "refund";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        account.balance += self.amount;
        account.refused += 1;
        account.last_reason = context.rejection().map(ToString::to_string).unwrap_or_default();
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Close {}

impl Event for Close {
    type State = Account;
    const NAME: &'static str = "close";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.closed = true;
        Ok(())
    }
}

/// Sets a timer.
#[derive(Serialize, Deserialize)]
pub(crate) struct SetTimer {
    pub(crate) name: String,
    pub(crate) at: SystemTime,
}

impl Event for SetTimer {
    type State = Account;
    const NAME: &'static str = "set_timer";

    fn apply(&self, _: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        context.schedule(&self.name, self.at, Tick {});
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CancelTimer {
    pub(crate) name: String,
}

impl Event for CancelTimer {
    type State = Account;
    const NAME: &'static str = "cancel_timer";

    fn apply(&self, _: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        context.cancel(&self.name);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Tick {}

impl Event for Tick {
    type State = Account;
    const NAME: &'static str = "tick";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.ticks += 1;
        Ok(())
    }
}

/// Requests a job.
#[derive(Serialize, Deserialize)]
pub(crate) struct RequestMail {
    pub(crate) failures: u32,
    pub(crate) gives_up: bool,
}

impl Event for RequestMail {
    type State = Account;
    const NAME: &'static str = "request_mail";

    fn apply(&self, _: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        context.run(Mail { failures: self.failures, gives_up: self.gives_up });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Mail {
    failures: u32,
    gives_up: bool,
}

impl Mail {
    /// Returns a job that fails this often and is retried.
    pub(crate) const fn new(failures: u32) -> Self {
        Self { failures, gives_up: false }
    }
}

/// The ids of the attempts of [`Mail`], in order.
#[derive(Default)]
pub(crate) struct Outbound(pub(crate) Mutex<Vec<String>>);

impl Job for Mail {
    const NAME: &'static str = "mail";

    async fn run(&self, job: &JobContext) -> Result<(), Retry> {
        job.resource::<Outbound>().unwrap().0.lock().push(job.id().to_owned());
        match (job.attempt() <= self.failures, self.gives_up) {
            (true, true) => Err(Retry::give_up("no such address")),
            (true, false) => Err(Retry::later("the server does not answer")),
            (false, _) => Ok(()),
        }
    }
}

/// Adds the accounts, saved by `config`.
pub(crate) fn accounts(builder: RegistryBuilder, config: StateConfig) -> RegistryBuilder {
    builder.job::<Mail>().resource(Outbound::default()).state::<Account>(config.sends_messages(), |state| {
        state
            .event::<Transfer>()
            .event::<Close>()
            .event::<SetTimer>()
            .event::<CancelTimer>()
            .event::<RequestMail>()
            .message::<Deposit>()
            .message::<Confirm>()
            .message::<Refund>()
            .message::<Tick>()
    })
}

/// The configuration of accounts in the default store.
pub(crate) fn persisted() -> StateConfig {
    StateConfig::record().access(Access::public()).persist()
}
