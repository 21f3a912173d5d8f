//! Law 14: a registry whose states send no messages asks its stores for none.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Access, Handle, Key, MemoryStore, Registry as _, StateConfig, StateRegistry, Store,
    store::{DueKeys, PendingSummary, Receipt, StoreError},
};
use faststate_testkit::faults::{Overridden, StoreOverride};
use tokio::time::sleep;

use crate::bank::{Account, Close, Transfer};

#[tokio::test(start_paused = true)]
async fn law_14_registry_that_sends_nothing_asks_for_nothing() {
    #[derive(Debug)]
    struct NoMessages(MemoryStore);

    #[async_trait]
    impl StoreOverride for NoMessages {
        fn inner(&self) -> &dyn Store {
            &self.0
        }

        async fn refuse(&self, _: &Key, _: &Receipt, _: &Bytes) -> Result<bool, StoreError> {
            panic!("there are no messages")
        }

        async fn release(&self, _: &[(Key, Receipt)]) -> Result<(), StoreError> {
            panic!("there are no messages")
        }

        async fn due(&self, _: usize) -> Result<DueKeys, StoreError> {
            panic!("there are no messages")
        }

        async fn pending(&self, _: usize) -> Result<PendingSummary, StoreError> {
            panic!("there are no messages")
        }
    }

    let calls = Arc::new(Overridden(NoMessages(MemoryStore::new())));
    let registry = StateRegistry::builder()
        .store(Arc::clone(&calls))
        .state::<Account>(StateConfig::record().access(Access::public()).persist(), |state| {
            state.event::<Close>().event::<Transfer>()
        })
        .build()
        .unwrap();
    let ann: Handle<Account> = registry.record("ann").unwrap();
    ann.send(Close {}).await.unwrap();
    let refused = ann.send(Transfer { to: "bob".to_owned(), amount: 1_000, number: 1 }).await;
    assert!(refused.is_err());
    sleep(Duration::from_secs(600)).await;
    registry.health().await;
    assert!(ann.read().await.unwrap().closed);
    ann.delete().await.unwrap();
    registry.settle().await;
}
