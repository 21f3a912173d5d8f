//! The store of a state that sessions own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use super::{NewSessions, records::SessionRecords};
use crate::{
    Key, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome, Store, StoreError},
};

/// Wraps the store of a state that sessions own, and keeps the records of new sessions in memory.
#[derive(Debug)]
pub(in crate::registry) struct NewSessionStore {
    pub(in crate::registry) store: Arc<dyn Store>,
    pub(in crate::registry) sessions: Arc<NewSessions>,
}

impl NewSessionStore {
    /// Runs `access` on the records of the new session that owns the key. Returns `None` if the store has them.
    async fn held<T>(&self, key: &Key, access: impl FnOnce(&mut SessionRecords) -> T + Send) -> Option<T> {
        let place = self.sessions.owner(key)?;
        let mut records = place.records.lock().await;
        if records.moved { None } else { Some(access(&mut records)) }
    }

    async fn load_held(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let load = |records: &mut SessionRecords| match records.held.get(key) {
            Some(held) => Loaded {
                record: Some(held.record.clone()),
                receipt: receipt.filter(|receipt| held.receipts.contains(receipt)).map(|_| Bytes::new()),
            },
            None => Loaded { record: None, receipt: None },
        };
        match self.held(key, load).await {
            Some(loaded) => Ok(loaded),
            None => self.store.load(key, receipt).await,
        }
    }

    async fn save_held(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        if !record.pending.is_empty()
            && let Some(place) = self.sessions.owner(key)
        {
            // Messages must not be lost with the process (law 16), so the session's records move to their stores.
            self.sessions.returned(&place.session).await;
        }
        loop {
            let save = |records: &mut SessionRecords| records.save(&self.store, key, record, expect, receipt);
            match self.held(key, save).await {
                None => return self.store.save(key, record, expect, receipt).await,
                Some(Some(saved)) => return saved,
                Some(None) if self.sessions.displace_for(key) => {}
                Some(None) => {
                    let detail =
                        "the new sessions with a request in progress use all memory for new sessions";
                    return Err(StoreError::Full(detail.into()));
                }
            }
        }
    }
}

#[async_trait]
impl Store for NewSessionStore {
    // `load` and `save` are written without `async`, so that they return the store's own future while there are no new
    // sessions.
    fn load<'a, 'b, 'c, 'f>(
        &'a self,
        key: &'b Key,
        receipt: Option<&'c Receipt>,
    ) -> BoxFuture<'f, Result<Loaded, StoreError>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        if self.sessions.has_any() {
            Box::pin(self.load_held(key, receipt))
        } else {
            self.store.load(key, receipt)
        }
    }

    fn save<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        key: &'b Key,
        record: &'c Record,
        expect: Precondition,
        receipt: Option<&'d Receipt>,
    ) -> BoxFuture<'f, Result<SaveOutcome, StoreError>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        Self: 'f,
    {
        if self.sessions.has_any() {
            Box::pin(self.save_held(key, record, expect, receipt))
        } else {
            self.store.save(key, record, expect, receipt)
        }
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.store.refuse(key, receipt, answer).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.store.release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.store.due(limit).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        self.store.pending(limit).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let remove = |records: &mut SessionRecords| {
            let is_there = records.held.get(key).is_some_and(|held| held.record.version == version);
            if is_there {
                records.remove(key);
            }
            is_there
        };
        match self.held(key, remove).await {
            Some(deleted) => Ok(deleted),
            None => self.store.delete(key, version).await,
        }
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        match self.held(key, |records| records.held.contains_key(key)).await {
            Some(found) => Ok(found),
            None => self.store.touch(key, ttl).await,
        }
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.store.sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    fn settles_within(&self) -> Duration {
        self.store.settles_within()
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.store.flush().await
    }
}
