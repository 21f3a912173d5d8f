//! Purses that pay each other, for the simulation of law 16.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use faststate_core::{Address, Context, Event, Job, JobContext, ReactiveState, Rejection, Retry};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The opening balance of a purse.
pub(crate) const OPENING_BALANCE: i64 = 100;
/// A purse refuses money above this balance, so that transfers are refused at random.
const MAX_BALANCE: i64 = 140;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Purse {
    pub(crate) balance: i64,
    /// The numbers of transfers to each target.
    pub(crate) sent: BTreeMap<String, u32>,
    pub(crate) accepted: u32,
    pub(crate) refused: u32,
    /// The numbers of the transfers from each sender, in order of arrival.
    pub(crate) received: BTreeMap<String, Vec<u32>>,
    pub(crate) timers: u32,
    /// The names of the timers that have fired.
    pub(crate) fired: Vec<String>,
    pub(crate) jobs: u32,
}

impl Default for Purse {
    fn default() -> Self {
        Self {
            balance: OPENING_BALANCE,
            sent: BTreeMap::new(),
            accepted: 0,
            refused: 0,
            received: BTreeMap::new(),
            timers: 0,
            fired: Vec::new(),
            jobs: 0,
        }
    }
}

impl ReactiveState for Purse {
    const NAME: &'static str = "purse";
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Pay {
    pub(crate) to: String,
    pub(crate) amount: i64,
}

impl Event for Pay {
    type State = Purse;
    const NAME: &'static str = "pay";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        if purse.balance < self.amount {
            return Err(Rejection::conflict("not enough money"));
        }
        purse.balance -= self.amount;
        let number = purse.sent.entry(self.to.clone()).or_default();
        *number += 1;
        let receive = Receive { amount: self.amount, number: *number };
        context
            .send(Address::record(&self.to), receive)
            .then(Accepted {})
            .or_else(Refunded { amount: self.amount });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Receive {
    pub(crate) amount: i64,
    number: u32,
}

impl Event for Receive {
    type State = Purse;
    const NAME: &'static str = "receive";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        if purse.balance + self.amount > MAX_BALANCE {
            return Err(Rejection::conflict("the purse is full"));
        }
        purse.balance += self.amount;
        let sender = context.cause().map(|cause| format!("{:?}", cause.key())).unwrap_or_default();
        purse.received.entry(sender).or_default().push(self.number);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Accepted {}

impl Event for Accepted {
    type State = Purse;
    const NAME: &'static str = "accepted";

    fn apply(&self, purse: &mut Purse, _: &mut Context<Purse>) -> Result<(), Rejection> {
        purse.accepted += 1;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Refunded {
    pub(crate) amount: i64,
}

impl Event for Refunded {
    type State = Purse;
    const NAME: &'static str = "refunded";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        assert_eq!(context.rejection().map(ToString::to_string).as_deref(), Some("the purse is full"));
        purse.balance += self.amount;
        purse.refused += 1;
        Ok(())
    }
}

/// Sets a timer and requests a job.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Remind {
    pub(crate) name: String,
    pub(crate) at: SystemTime,
}

impl Event for Remind {
    type State = Purse;
    const NAME: &'static str = "remind";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        purse.timers += 1;
        purse.jobs += 1;
        context.schedule(&self.name, self.at, Ring { name: self.name.clone() });
        context.run(Print {});
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Ring {
    pub(crate) name: String,
}

impl Event for Ring {
    type State = Purse;
    const NAME: &'static str = "ring";

    fn apply(&self, purse: &mut Purse, _: &mut Context<Purse>) -> Result<(), Rejection> {
        purse.fired.push(self.name.clone());
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Print {}

/// The ids of the jobs that have run.
#[derive(Clone, Default)]
pub(crate) struct Printed(pub(crate) Arc<Mutex<BTreeSet<String>>>);

impl Job for Print {
    const NAME: &'static str = "print";

    async fn run(&self, job: &JobContext) -> Result<(), Retry> {
        if job.attempt() == 1 && rand::random_ratio(1, 4) {
            return Err(Retry::later("the printer is busy"));
        }
        job.resource::<Printed>().unwrap().0.lock().insert(job.id().to_owned());
        Ok(())
    }
}
