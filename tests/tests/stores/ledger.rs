//! A state that remembers every event it was changed by.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Access, Context, Error, Event, ReactiveState, Rejection, StateConfig, StateRegistry, Store, Viewer,
    registry::Outcome,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// The ids of the events that changed it, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) entries: Vec<String>,
}

impl ReactiveState for Ledger {
    const NAME: &'static str = "ledger";
}

#[derive(Debug, Serialize, Deserialize)]
struct Enter {
    id: String,
}

impl Event for Enter {
    type State = Ledger;
    const NAME: &'static str = "enter";

    fn apply(&self, ledger: &mut Ledger, _: &mut Context<Ledger>) -> Result<(), Rejection> {
        ledger.entries.push(self.id.clone());
        Ok(())
    }
}

/// The engine over a store, with ledgers by number.
#[derive(Clone)]
pub(crate) struct Ledgers {
    registry: Arc<StateRegistry>,
}

impl Ledgers {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let config = StateConfig::record().access(Access::public()).persist();
        let registry = StateRegistry::builder()
            .store(store)
            .state::<Ledger>(config, |state| {
                state.event::<Enter>().initial(|_| async { Some(Ledger::default()) })
            })
            .build()
            .unwrap();
        Self { registry }
    }

    /// Enters an id, once.
    pub(crate) async fn enter(&self, ledger: &str, id: &str) -> Result<Outcome, Error> {
        let handle = self.registry.record::<Ledger>(ledger)?;
        let event = Enter { id: id.to_owned() };
        handle.send_as(event, Viewer::application(), id.parse().unwrap()).await
    }

    /// Enters an id, again and again until that succeeds; says how long the slowest answer took.
    pub(crate) async fn enter_at_last(&self, ledger: &str, id: &str) -> Duration {
        let mut slowest = Duration::ZERO;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let asked = Instant::now();
            let outcome = self.enter(ledger, id).await;
            slowest = slowest.max(asked.elapsed());
            match outcome {
                Ok(_) => return slowest,
                Err(error) => assert!(Instant::now() < deadline, "{id} is still refused: {error:?}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is entered.
    pub(crate) async fn entries(&self, ledger: &str) -> Vec<String> {
        self.registry.record::<Ledger>(ledger).unwrap().read().await.unwrap().entries.clone()
    }
}
