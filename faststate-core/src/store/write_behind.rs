//! A store that answers from memory and saves in the background.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{sync::Mutex as Turn, time::Instant};

use super::{Loaded, MemoryStore, Precondition, Receipt, Record, SaveOutcome, Store, StoreError};
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
/// the other store starts a new epoch, so that followers of lost changes detect the loss.
///
/// # A store that refuses
/// Once the other store has refused a record that was acknowledged here, or has no room, a save is acknowledged only
/// after the other store has it: of the record that was refused, or of all records where there is no room.
/// [`ping`](Store::ping) fails meanwhile. What was acknowledged before stays here, and is tried again at each write.
///
/// # Locking
/// `written` protects what differs between the two. A change that keeps the version (a touch) and an eviction happen
/// under it, so that neither comes between the other's steps. `writing` is held while the other store is written; no
/// code waits for it with `written` locked.
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
    /// The same in both: at this version, and since when.
    clean: HashMap<Key, (Version, Instant)>,
    /// What the other store refused at the last write.
    refused: HashSet<Key>,
    /// Whether it had no room at the last write.
    full: bool,
}

impl Written {
    /// Notes a change that was made here; gives its number.
    fn change(&mut self, key: &Key) -> u64 {
        self.clean.remove(key);
        self.saves += 1;
        self.dirty.insert(key.clone(), self.saves);
        self.saves
    }

    /// Whether the other store has to have a save of this key before it is acknowledged.
    fn is_refusing(&self, key: &Key) -> bool {
        self.full || self.refused.contains(key)
    }

    /// Notes that the other store took this change; both are the same, unless there was another since.
    fn same(&mut self, key: &Key, change: u64, version: Option<Version>) {
        self.refused.remove(key);
        if self.dirty.get(key) == Some(&change) {
            self.dirty.remove(key);
            if let Some(version) = version {
                self.clean.insert(key.clone(), (version, Instant::now()));
            }
        }
    }
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

    /// Brings the other store to what is here; gives the version of it.
    async fn write(&self, key: &Key) -> Result<Option<Version>, StoreError> {
        let wanted = self.memory.load(key, None).await?.record;
        self.put(key, wanted.as_ref()).await?;
        Ok(wanted.map(|wanted| wanted.version))
    }

    /// Brings the other store to this.
    async fn put(&self, key: &Key, wanted: Option<&Record>) -> Result<(), StoreError> {
        loop {
            let found = self.durable.load(key, None).await?.record;
            let expect =
                found.as_ref().map_or(Precondition::Absent, |found| Precondition::Version(found.version));
            let done = match (wanted, &found) {
                (Some(wanted), _) => {
                    self.durable.save(key, wanted, expect, None).await? == SaveOutcome::Saved
                }
                (None, Some(found)) => self.durable.delete(key, found.version).await?,
                (None, None) => true,
            };
            if done {
                return Ok(());
            }
        }
    }

    /// A save that the other store has to have first.
    async fn save_through(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        let _turn = self.writing.lock().await;
        let here = self.memory.load(key, receipt).await?;
        let present =
            here.record.as_ref().map_or(Precondition::Absent, |here| Precondition::Version(here.version));
        // What the memory will call a conflict or a repeat goes nowhere.
        let change = (!here.receipt && present == expect).then(|| self.written.lock().change(key));
        if change.is_some() {
            self.put(key, Some(record)).await?;
        }
        // Until here the two may differ, and what is here is right.
        let saving = self.memory.save(key, record, expect, receipt).await?;
        if saving == SaveOutcome::Saved {
            let mut written = self.written.lock();
            match change {
                Some(change) => written.same(key, change, Some(record.version)),
                None => _ = written.change(key),
            }
        }
        Ok(saving)
    }

    /// Touches what is here, and notes that in the same step.
    fn touch_here(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        let mut written = self.written.lock();
        let touched = now(self.memory.touch(key, ttl))?;
        if touched {
            written.change(key);
        }
        Ok(touched)
    }

    /// Forgets here what has been the same in both for 5 minutes.
    fn evict(&self) -> Result<(), StoreError> {
        let at = Instant::now();
        let mut written = self.written.lock();
        let idle: Vec<_> = written.clean.extract_if(|_, (_, since)| at - *since >= KEPT).collect();
        for (key, (version, _)) in idle {
            // Unless it was saved meanwhile, which is about to be noted.
            now(self.memory.delete(&key, version))?;
        }
        Ok(())
    }
}

/// What a call of the memory gives, which never waits.
fn now<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    call.now_or_never().unwrap_or_else(|| Err(StoreError::Unavailable("the memory waits".into())))
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
        {
            let mut written = self.written.lock();
            // Another call may have loaded the same record meanwhile, and even have deleted it.
            if !written.dirty.contains_key(key)
                && now(self.memory.save(key, &renewed, Precondition::Absent, None))? == SaveOutcome::Saved
            {
                written.clean.insert(key.clone(), (renewed.version, Instant::now()));
            }
        }
        self.memory.load(key, receipt).await
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        if expect == Precondition::Absent {
            // It may be there and not here.
            self.load(key, None).await?;
        }
        if self.written.lock().is_refusing(key) {
            return self.save_through(key, record, expect, receipt).await;
        }
        let saving = self.memory.save(key, record, expect, receipt).await?;
        if saving == SaveOutcome::Saved {
            let _ = self.written.lock().change(key);
        }
        Ok(saving)
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let deleted = self.memory.delete(key, version).await?;
        if deleted {
            self.written.lock().change(key);
        }
        Ok(deleted)
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        if self.touch_here(key, ttl)? {
            return Ok(true);
        }
        // It may be there and not here.
        self.load(key, None).await?;
        self.touch_here(key, ttl)
    }

    /// Also forgets here what has been the same in both for 5 minutes.
    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.evict()?;
        self.memory.sweep(limit).await
    }

    /// Fails also while the other store refuses what was acknowledged here.
    async fn ping(&self) -> Result<(), StoreError> {
        {
            let written = self.written.lock();
            if written.full || !written.refused.is_empty() {
                let waiting = written.dirty.len();
                return Err(StoreError::Full(
                    format!("{waiting} records that were acknowledged are refused by the store behind")
                        .into(),
                ));
            }
        }
        self.durable.ping().await
    }

    /// Saves are in memory.
    fn settles_within(&self) -> Duration {
        Duration::ZERO
    }

    async fn flush(&self) -> Result<(), StoreError> {
        let _turn = self.writing.lock().await;
        let dirty = self.written.lock().dirty.clone();
        let writes = dirty.into_iter().map(|(key, change)| async move {
            let outcome = self.write(&key).await;
            let mut written = self.written.lock();
            match &outcome {
                // What was saved meanwhile is written the next time.
                Ok(version) => written.same(&key, change, *version),
                Err(StoreError::Refused(_)) => _ = written.refused.insert(key),
                Err(StoreError::Full(_)) => written.full = true,
                Err(_) => {}
            }
            outcome.map(drop)
        });
        let outcomes: Vec<Result<(), StoreError>> =
            stream::iter(writes).buffer_unordered(AT_A_TIME).collect().await;
        self.written.lock().full = outcomes.iter().any(|outcome| matches!(outcome, Err(StoreError::Full(_))));
        outcomes.into_iter().collect()
    }
}
