//! The records of one new session, which are in memory until its client returns the cookie.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    Key,
    store::{Precondition, Receipt, Record, SaveOutcome, Store, StoreError},
};

/// Maximum size of the data of all records of all new sessions, in bytes.
pub(super) const MAX_NODE_BYTES: usize = 32 * 1024 * 1024;
/// Maximum size of the data of the records of one new session, in bytes.
const MAX_SESSION_BYTES: usize = 64 * 1024;

/// The size of the data of all records of all new sessions, in bytes.
#[derive(Debug, Default)]
pub(super) struct NodeBytes(AtomicUsize);

/// The records of one new session. When they are dropped, they no longer count towards the node's bytes.
pub(super) struct SessionRecords {
    pub(super) held: HashMap<Key, HeldRecord>,
    /// Whether the records have moved to the store.
    pub(super) moved: bool,
    /// The size of the data of the records, in bytes.
    bytes: usize,
    node: Arc<NodeBytes>,
}

/// A record with its receipts, and the store that it moves to.
pub(super) struct HeldRecord {
    pub(super) record: Record,
    pub(super) receipts: Vec<Receipt>,
    pub(super) store: Arc<dyn Store>,
}

impl NodeBytes {
    /// Counts `added` bytes in place of `freed` ones, unless the total would grow beyond [`MAX_NODE_BYTES`].
    fn replace(&self, freed: usize, added: usize) -> bool {
        // Relaxed: the count alone is shared, and each update of it is atomic.
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
                let bytes = bytes - freed + added;
                (added <= freed || bytes <= MAX_NODE_BYTES).then_some(bytes)
            })
            .is_ok()
    }

    #[cfg(test)]
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl SessionRecords {
    pub(super) fn new(node: Arc<NodeBytes>) -> Self {
        Self { held: HashMap::new(), moved: false, bytes: 0, node }
    }

    /// Saves a record as a store does. Returns `None` without a change if the node has no room for it.
    pub(super) fn save(
        &mut self,
        store: &Arc<dyn Store>,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Option<Result<SaveOutcome, StoreError>> {
        let before = self.held.get(key);
        if before.is_some_and(|held| receipt.is_some_and(|receipt| held.receipts.contains(receipt))) {
            return Some(Ok(SaveOutcome::Duplicate));
        }
        let found = before.map_or(Precondition::Absent, |held| Precondition::Version(held.record.version));
        if found != expect {
            return Some(Ok(SaveOutcome::Conflict));
        }
        let freed = before.map_or(0, |held| held.record.data.len());
        let added = record.data.len();
        let bytes = self.bytes - freed + added;
        if bytes > MAX_SESSION_BYTES {
            let detail = format!(
                "a new session has at most {MAX_SESSION_BYTES} bytes until its client returns the cookie"
            );
            return Some(Err(StoreError::Full(detail.into())));
        }
        if !self.node.replace(freed, added) {
            return None;
        }
        self.bytes = bytes;
        let mut receipts = self.held.remove(key).map_or_else(Vec::new, |held| held.receipts);
        receipts.extend(receipt.filter(|receipt| !receipt.is_internal()));
        let held = HeldRecord { record: record.clone(), receipts, store: Arc::clone(store) };
        self.held.insert(key.clone(), held);
        Some(Ok(SaveOutcome::Saved))
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(held) = self.held.remove(key) {
            let freed = held.record.data.len();
            self.bytes -= freed;
            self.node.replace(freed, 0);
        }
    }
}

impl Drop for SessionRecords {
    fn drop(&mut self) {
        self.node.replace(self.bytes, 0);
    }
}
