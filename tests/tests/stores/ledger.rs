//! A state that records the id of every applied event.

use std::sync::Arc;

use faststate_core::{
    Access, Context, Error, Event, Handle, ReactiveState, Rejection, StateConfig, StateRegistry, Store,
    Viewer, registry::Outcome,
};
use serde::{Deserialize, Serialize};

/// The ids of the applied events, in order.
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

/// A registry over a store, with numbered ledgers.
#[derive(Clone)]
pub(crate) struct Ledgers {
    pub(crate) registry: Arc<StateRegistry>,
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

    pub(crate) fn handle(&self, ledger: &str) -> Handle<Ledger> {
        self.registry.record(ledger).unwrap()
    }

    /// Enters an id; a repeated id is an error.
    pub(crate) async fn enter(&self, ledger: &str, id: &str) -> Result<Outcome, Error> {
        let handle = self.handle(ledger);
        let event = Enter { id: id.to_owned() };
        handle.send_as(event, Viewer::application(), id.parse().unwrap()).await
    }

    /// The entries.
    pub(crate) async fn entries(&self, ledger: &str) -> Vec<String> {
        self.handle(ledger).read().await.unwrap().entries.clone()
    }
}
