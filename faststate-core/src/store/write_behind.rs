//! A store that answers from memory and saves in the background.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{sync::Mutex as Turn, time::Instant};

use super::{Expect, Loaded, MemoryStore, Receipt, Record, Saving, Store, StoreError};
use crate::{Key, Version};

/// How many records are written at a time: enough for a store that groups them.
const AT_A_TIME: usize = 256;
/// How long a record that is written stays in memory without being saved again.
const KEPT: Duration = Duration::from_secs(300);

/// Answers from memory, and writes to another store at an interval and on [`flush`](Store::flush), which a registry
/// that settles calls: what `persist_every` means.
///
/// # What it promises
/// All that a [`Store`] promises, except 4: a crash loses what was acknowledged since the last write, at
/// most an interval, with its receipts. So it belongs to one process, and each record that is read from
/// the other store starts a new epoch: whoever followed a future that was lost notices.
#[derive(Debug)]
pub struct WriteBehind {
    memory: MemoryStore,
    durable: Arc<dyn Store>,
    written: Mutex<Written>,
    /// One writer at a time, so that an older record never overtakes a newer one.
    writing: Turn<()>,
}

/// What differs between the two.
#[derive(Debug, Default)]
struct Written {
    /// Saved here and not there, each with the number of that save.
    dirty: HashMap<Key, u64>,
    saves: u64,
    /// The same in both, and since when.
    clean: HashMap<Key, Instant>,
}

impl WriteBehind {
    /// In front of `durable`, written every `interval`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(durable: Arc<dyn Store>, interval: Duration) -> Arc<Self> {
        let store = Arc::new(Self {
            memory: MemoryStore::new(),
            durable,
            written: Mutex::default(),
            writing: Turn::default(),
        });
        tokio::spawn(keep_writing(Arc::downgrade(&store), interval));
        store
    }

    fn saved(&self, key: &Key) {
        let mut written = self.written.lock();
        written.clean.remove(key);
        written.saves += 1;
        let save = written.saves;
        written.dirty.insert(key.clone(), save);
    }

    /// Brings the other store to what is here.
    async fn write(&self, key: &Key) -> Result<(), StoreError> {
        let wanted = self.memory.load(key, None).await?.record;
        loop {
            let found = self.durable.load(key, None).await?.record;
            let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::Version(found.version));
            let done = match (&wanted, &found) {
                (Some(wanted), _) => self.durable.save(key, wanted, expect, None).await? == Saving::Saved,
                (None, Some(found)) => self.durable.delete(key, found.version).await?,
                (None, None) => true,
            };
            if done {
                return Ok(());
            }
        }
    }
}

async fn keep_writing(store: Weak<WriteBehind>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(store) = store.upgrade() else { return };
        if let Err(error) = store.flush().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "not written: tried again after the interval"
            );
        }
    }
}

#[async_trait]
impl Store for WriteBehind {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let here = self.memory.load(key, receipt).await?;
        // What was deleted here, and not yet there, is gone.
        if here.record.is_some() || self.written.lock().dirty.contains_key(key) {
            return Ok(here);
        }
        let Some(record) = self.durable.load(key, None).await?.record else { return Ok(here) };
        let renewed = Record { version: Version::start(), ..record };
        // Whoever loads the same at the same time may have been faster.
        if self.memory.save(key, &renewed, Expect::Absent, None).await? == Saving::Saved {
            self.written.lock().clean.insert(key.clone(), Instant::now());
        }
        self.memory.load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Expect,
        receipt: Option<&Receipt>,
    ) -> Result<Saving, StoreError> {
        if expect == Expect::Absent {
            // It may be there and not here.
            self.load(key, None).await?;
        }
        let saving = self.memory.save(key, record, expect, receipt).await?;
        if saving == Saving::Saved {
            self.saved(key);
        }
        Ok(saving)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let deleted = self.memory.delete(key, version).await?;
        if deleted {
            self.saved(key);
        }
        Ok(deleted)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        let touched = self.memory.touch(key, ttl).await?;
        if touched {
            self.saved(key);
        }
        Ok(touched)
    }

    /// Also forgets here what has been the same in both for 5 minutes.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let now = Instant::now();
        let idle: Vec<Key> = {
            let mut written = self.written.lock();
            written.clean.extract_if(|_, since| now - *since >= KEPT).map(|(key, _)| key).collect()
        };
        for key in idle {
            if let Some(record) = self.memory.load(&key, None).await?.record
                && !self.written.lock().dirty.contains_key(&key)
            {
                self.memory.delete(&key, record.version).await?;
            }
        }
        self.memory.sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.durable.ping().await
    }

    /// Saves are in memory.
    fn settles_within(&self) -> Duration {
        Duration::ZERO
    }

    async fn flush(&self) -> Result<(), StoreError> {
        let _turn = self.writing.lock().await;
        let dirty = self.written.lock().dirty.clone();
        let writes = dirty.into_iter().map(|(key, save)| async move {
            self.write(&key).await?;
            let mut written = self.written.lock();
            // What was saved meanwhile is written the next time.
            if written.dirty.get(&key) == Some(&save) {
                written.dirty.remove(&key);
                written.clean.insert(key, Instant::now());
            }
            Ok(())
        });
        let outcomes: Vec<Result<(), StoreError>> =
            stream::iter(writes).buffer_unordered(AT_A_TIME).collect().await;
        outcomes.into_iter().collect()
    }
}
