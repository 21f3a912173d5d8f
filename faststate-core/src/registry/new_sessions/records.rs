//! The records of one new session, which are in memory until its client returns the cookie.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Key,
    store::{Precondition, Receipt, Record, SaveOutcome, Store, StoreError},
};

/// Maximum size of the records of one new session, in bytes.
const SESSION_BYTES: usize = 64 * 1024;

/// The records of one new session.
#[derive(Default)]
pub(super) struct SessionRecords {
    pub(super) held: HashMap<Key, HeldRecord>,
    /// Whether the records have moved to the store.
    pub(super) moved: bool,
}

/// A record with its receipts, and the store that it moves to.
pub(super) struct HeldRecord {
    pub(super) record: Record,
    pub(super) receipts: Vec<Receipt>,
    pub(super) store: Arc<dyn Store>,
}

/// The change of a session's size by a save, in bytes.
pub(super) struct SizeChange {
    pub(super) added: usize,
    pub(super) freed: usize,
}

impl SessionRecords {
    /// Saves a record as a store does, and returns the change of the session's size if it was saved.
    pub(super) fn save(
        &mut self,
        store: &Arc<dyn Store>,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<(SaveOutcome, SizeChange), StoreError> {
        let unchanged = SizeChange { added: 0, freed: 0 };
        let before = self.held.get(key);
        if before.is_some_and(|held| receipt.is_some_and(|receipt| held.receipts.contains(receipt))) {
            return Ok((SaveOutcome::Duplicate, unchanged));
        }
        let found = before.map_or(Precondition::Absent, |held| Precondition::Version(held.record.version));
        if found != expect {
            return Ok((SaveOutcome::Conflict, unchanged));
        }
        let freed = before.map_or(0, |held| held.record.data.len());
        let others: usize = self.held.values().map(|held| held.record.data.len()).sum::<usize>() - freed;
        let added = record.data.len();
        if others + added > SESSION_BYTES {
            let detail = format!(
                "a new session has at most {SESSION_BYTES} bytes until its client returns the cookie"
            );
            return Err(StoreError::Full(detail.into()));
        }
        let mut receipts = self.held.remove(key).map_or_else(Vec::new, |held| held.receipts);
        receipts.extend(receipt.filter(|receipt| !receipt.is_internal()));
        let held = HeldRecord { record: record.clone(), receipts, store: Arc::clone(store) };
        self.held.insert(key.clone(), held);
        Ok((SaveOutcome::Saved, SizeChange { added, freed }))
    }
}
