//! The receipts of finished messages, which are released in batches.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    Key,
    store::{Receipt, Store},
};

/// The most receipts that one call releases.
const BATCH: usize = 512;
/// The most receipts that wait. The others expire by themselves.
const MAX_WAITING: usize = 65_536;

/// The receipts of finished messages, by the state of their targets.
#[derive(Debug, Default)]
pub(super) struct Releases(Mutex<HashMap<String, Vec<(Key, Receipt)>>>);

impl Releases {
    /// Adds a receipt.
    pub(super) fn add(&self, target: Key, receipt: Receipt) {
        let mut waiting = self.0.lock();
        let receipts = match waiting.get_mut(target.state()) {
            Some(receipts) => receipts,
            None => waiting.entry(target.state().to_owned()).or_default(),
        };
        if receipts.len() < MAX_WAITING {
            receipts.push((target, receipt));
        }
    }

    /// Releases the waiting receipts. A receipt that could not be released expires by itself.
    pub(super) async fn flush(&self, store_of: impl Fn(&str) -> Option<Arc<dyn Store>>) {
        let waiting = std::mem::take(&mut *self.0.lock());
        for (state, receipts) in waiting {
            let Some(store) = store_of(&state) else { continue };
            for batch in receipts.chunks(BATCH) {
                if let Err(error) = store.release(batch).await {
                    tracing::debug!(
                        state,
                        error = &error as &dyn std::error::Error,
                        "receipts were not released"
                    );
                    break;
                }
            }
        }
    }
}
