//! Transfers and jobs with FastState.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use faststate_core::{
    Access, Address, Context, Event, Handle, Job, JobContext, ReactiveState, Registry, Rejection, Retry,
    StateConfig, StateRegistry, Store,
};
use faststate_store_diesel::DieselStore;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{PAIRS, Way};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    balance: i64,
}

impl ReactiveState for Account {
    const NAME: &'static str = "account";
}

/// The callers that wait for the end of a transfer or job, by its number.
#[derive(Default)]
struct Waiting(Mutex<HashMap<u64, oneshot::Sender<()>>>);

impl Waiting {
    fn end(&self, number: u64) {
        if let Some(caller) = self.0.lock().remove(&number) {
            let _ = caller.send(());
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Transfer {
    to: String,
    number: u64,
}

impl Event for Transfer {
    type State = Account;
    const NAME: &'static str = "transfer";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        if account.balance < -1_000 {
            return Err(Rejection::conflict("not enough money"));
        }
        account.balance -= 1;
        context
            .send(Address::record(&self.to), Deposit {})
            .then(Confirm { number: self.number })
            .or_else(Refund {});
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Deposit {}

impl Event for Deposit {
    type State = Account;
    const NAME: &'static str = "deposit";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.balance += 1;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Confirm {
    number: u64,
}

impl Event for Confirm {
    type State = Account;
    const NAME: &'static str = "confirm";

    fn apply(&self, _: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        let number = self.number;
        if let Some(waiting) = context.resource::<Waiting>() {
            context.after(move |_| async move { waiting.end(number) });
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Refund {}

impl Event for Refund {
    type State = Account;
    const NAME: &'static str = "refund";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.balance += 1;
        Ok(())
    }
}

/// An event that requests nothing.
#[derive(Serialize, Deserialize)]
pub(crate) struct Touch {}

impl Event for Touch {
    type State = Account;
    const NAME: &'static str = "touch";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.balance += 1;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Order {
    number: u64,
}

impl Event for Order {
    type State = Account;
    const NAME: &'static str = "order";

    fn apply(&self, _: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        context.run(Work { number: self.number });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Work {
    number: u64,
}

impl Job for Work {
    const NAME: &'static str = "work";

    async fn run(&self, job: &JobContext) -> Result<(), Retry> {
        job.resource::<Waiting>().ok_or_else(|| Retry::give_up("nothing waits"))?.end(self.number);
        Ok(())
    }
}

/// Accounts in a registry.
pub(crate) struct Bank {
    registry: Arc<StateRegistry>,
    waiting: Arc<Waiting>,
}

impl Bank {
    pub(crate) async fn open(store: DieselStore) -> Arc<Self> {
        let registry = registry_over(store);
        let waiting = registry.record::<Account>("a").unwrap().resource::<Waiting>().unwrap();
        Arc::new(Self { registry, waiting })
    }

    fn account(&self, id: &str) -> Handle<Account> {
        self.registry.record(id).unwrap()
    }

    async fn until_done(&self, number: u64, id: &str, event: impl Event<State = Account>) {
        let (sender, done) = oneshot::channel();
        self.waiting.0.lock().insert(number, sender);
        self.account(id).send(event).await.unwrap();
        done.await.unwrap();
    }
}

#[async_trait]
impl Way for Bank {
    async fn transfer(&self, pair: usize, round: u64) {
        let (mut from, mut to) = (format!("{pair}-a"), format!("{pair}-b"));
        if round % 2 == 1 {
            std::mem::swap(&mut from, &mut to);
        }
        let number = (pair as u64) << 32 | round;
        self.until_done(number, &from, Transfer { to, number }).await;
    }

    async fn job(&self, pair: usize, round: u64) {
        let number = 1 << 60 | (pair as u64) << 32 | round;
        self.until_done(number, &format!("{pair}-a"), Order { number }).await;
    }

    async fn sum(&self) -> i64 {
        Registry::settle(&*self.registry).await;
        let mut sum = 0;
        for pair in 0..PAIRS {
            for side in ["a", "b"] {
                sum += self.account(&format!("{pair}-{side}")).read().await.unwrap().balance;
            }
        }
        sum
    }
}

/// Builds a registry with accounts over a store.
pub(crate) fn registry_over(store: impl Store) -> Arc<StateRegistry> {
    let config = StateConfig::record().access(Access::public()).persist().sends_messages();
    StateRegistry::builder()
        .store(store)
        .resource(Waiting::default())
        .job::<Work>()
        .state::<Account>(config, |state| {
            state
                .event::<Transfer>()
                .event::<Order>()
                .event::<Touch>()
                .message::<Deposit>()
                .message::<Confirm>()
                .message::<Refund>()
        })
        .build()
        .unwrap()
}
