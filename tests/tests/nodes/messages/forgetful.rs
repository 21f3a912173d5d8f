//! A mutant: a store without receipts of messages.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use faststate_core::{
    Key, Store,
    store::{Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::faults::StoreOverride;
use tokio::time::sleep;

/// The time from the save of a message's target to its answer, in which a kill makes the message arrive again.
const ANSWER_DELAY: Duration = Duration::from_millis(30);

/// A store that forgets the receipts of messages.
#[derive(Debug)]
pub(super) struct Forgetful(pub(super) Arc<dyn Store>);

#[async_trait]
impl StoreOverride for Forgetful {
    fn inner(&self) -> &dyn Store {
        &*self.0
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let kept = receipt.filter(|receipt| !receipt.is_message());
        let saved = self.0.save(key, record, expect, kept).await;
        if kept.is_none() && receipt.is_some() {
            sleep(ANSWER_DELAY).await;
        }
        saved
    }
}
