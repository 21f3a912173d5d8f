//! A hand-written store and its conformance test: `cargo run --example custom_store --features conformance`.
//!
//! The store keeps one JSON file per key in a folder. A file contains the record and the receipts of its events, and
//! is replaced as a whole, so both are saved together or not at all. Only one process may use the folder.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate::{BoxError, Key, Store, Version, conformance, store::*};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

/// Stores each key in its own file.
#[derive(Clone, Debug)]
struct FolderStore {
    folder: PathBuf,
    /// Serializes all calls, which makes each comparison with a `Precondition` atomic.
    turn: Arc<Mutex<()>>,
}

/// The content of a file.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Entry {
    key: String,
    record: Option<Stored>,
    /// The end and the answer of each receipt. Receipts outlive the record.
    receipts: BTreeMap<String, (SystemTime, Vec<u8>)>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Stored {
    version: String,
    schema: u32,
    /// A string, because the data must be returned byte for byte.
    data: String,
    end: Option<SystemTime>,
    pending: (Vec<u8>, u32, u32, Option<SystemTime>),
    due: Option<SystemTime>,
}

type ByTime = Vec<(SystemTime, Key, Stored)>;

impl FolderStore {
    fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), turn: Arc::default() })
    }

    /// Runs `work` on a blocking thread. Dropping the future does not interrupt it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (folder, turn) = (self.folder.clone(), Arc::clone(&self.turn).lock_owned().await);
        // The turn ends after the work.
        let done = tokio::task::spawn_blocking(move || (work(&folder), turn).0).await;
        done.unwrap_or_else(|e| Err(e.into())).map_err(|error| StoreError::Unavailable(error.into()))
    }

    /// Reads the key's file, calls `change`, and writes the file if its content has changed.
    async fn with<T: Send + 'static>(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Entry, SystemTime) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let key = key.to_string();
        self.run(move |folder| {
            // Keys are unique, but can be longer than a file name.
            let name: String = Sha256::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
            let (path, now) = (folder.join(name), SystemTime::now());
            let before = Entry { key, ..read(&path, now)? };
            let mut entry = before.clone();
            let answer = change(&mut entry, now);
            if entry != before {
                write(&path, &entry)?;
            }
            Ok(answer)
        })
        .await
    }

    /// Returns the records for which `at` returns a time, earliest first. A larger store has an index of these times.
    async fn by_time(&self, at: fn(&Stored) -> Option<SystemTime>) -> Result<ByTime, StoreError> {
        self.run(move |folder| {
            let mut found = Vec::new();
            for file in fs::read_dir(folder)? {
                let Entry { key, record, .. } = read(&file?.path(), SystemTime::now())?;
                let Some(stored) = record else { continue };
                found.extend(at(&stored).zip(key.parse().ok()).map(|(at, key)| (at, key, stored)));
            }
            found.sort_by_key(|(at, ..)| *at);
            Ok(found)
        })
        .await
    }
}

/// Reads a file without its expired content.
fn read(path: &Path, now: SystemTime) -> io::Result<Entry> {
    if !path.exists() {
        return Ok(Entry::default());
    }
    let mut entry: Entry = serde_json::from_slice(&fs::read(path)?)?;
    entry.record = entry.record.filter(|stored| stored.end.is_none_or(|end| end > now));
    entry.receipts.retain(|_, (end, _)| *end > now);
    Ok(entry)
}

/// Writes a file beside the folder, syncs it and moves it into place: `kill -9` leaves the old file or the new one.
fn write(path: &Path, entry: &Entry) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let beside = folder.with_extension("new");
    fs::write(&beside, serde_json::to_vec(entry)?)?;
    fs::File::open(&beside)?.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}

#[async_trait]
impl Store for FolderStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let receipt = receipt.map(|receipt| format!("{receipt:?}"));
        let found = self.with(key, move |entry, now| {
            let answer = receipt.and_then(|receipt| entry.receipts.get(&receipt).cloned());
            let stored = entry.record.clone();
            let left = |stored: &Stored| stored.end?.duration_since(now).ok();
            (stored.as_ref().and_then(left), stored, answer.map(|(_, answer)| Bytes::from(answer)))
        });
        let (ttl, stored, receipt) = found.await?;
        let Some(stored) = stored else { return Ok(Loaded { record: None, receipt }) };
        let corrupt = |error| StoreError::Corrupt { key: key.clone(), source: Box::new(error) };
        let version = stored.version.parse().map_err(corrupt)?;
        let (data, waiting, parked, oldest) = stored.pending;
        let pending = PendingMessages { data: data.into(), waiting, parked, oldest };
        let (schema, data, due) = (stored.schema, stored.data.into(), stored.due);
        Ok(Loaded { record: Some(Record { schema, version, data, ttl, pending, due }), receipt })
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        let Record { schema, version, data, ttl, pending, due } = record.clone();
        let data = String::from_utf8(data.into()).map_err(|e| StoreError::Refused(e.into()))?;
        let pending = (pending.data.into(), pending.waiting, pending.parked, pending.oldest);
        let receipt = receipt.map(|receipt| (format!("{receipt:?}"), receipt.lifetime()));
        self.with(key, move |entry, now| {
            if receipt.as_ref().is_some_and(|(receipt, _)| entry.receipts.contains_key(receipt)) {
                return SaveOutcome::Duplicate;
            }
            let expected = match expect {
                Precondition::Absent => None,
                Precondition::Version(version) => Some(version.to_string()),
            };
            if entry.record.as_ref().map(|stored| &stored.version) != expected.as_ref() {
                return SaveOutcome::Conflict;
            }
            let (version, end) = (version.to_string(), ttl.map(|ttl| now + ttl));
            entry.record = Some(Stored { version, schema, data, end, pending, due });
            entry.receipts.extend(receipt.map(|(receipt, kept)| (receipt, (now + kept, Vec::new()))));
            SaveOutcome::Saved
        })
        .await
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        let (receipt, kept, answer) = (format!("{receipt:?}"), receipt.lifetime(), answer.to_vec());
        self.with(key, move |entry, now| {
            let is_new = !entry.receipts.contains_key(&receipt);
            entry.receipts.entry(receipt).or_insert((now + kept, answer));
            is_new
        })
        .await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        for (key, receipt) in receipts {
            let receipt = format!("{receipt:?}");
            let release = move |entry: &mut Entry, now| {
                entry.receipts.entry(receipt).and_modify(|(end, _)| *end = (*end).min(now + RECEIPT_KEPT));
            };
            self.with(key, release).await?;
        }
        Ok(())
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        let (now, found) = (SystemTime::now(), self.by_time(|stored| stored.due).await?);
        let due = found.into_iter().take_while(|(due, ..)| *due <= now).map(|(_, key, _)| key);
        Ok(DueKeys { now, keys: due.take(limit).collect() })
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        let found = self.by_time(|stored| stored.pending.3).await?;
        Ok(PendingSummary {
            waiting: found.iter().map(|(.., stored)| u64::from(stored.pending.1)).sum(),
            parked: found.iter().map(|(.., stored)| u64::from(stored.pending.2)).sum(),
            age: found.first().map(|(oldest, ..)| oldest.elapsed().unwrap_or_default()),
            keys: found.into_iter().take(limit).map(|(_, key, _)| key).collect(),
        })
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let is_named = move |stored: &mut Stored| stored.version == version.to_string();
        self.with(key, move |entry, _| entry.record.take_if(is_named).is_some()).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        let touch = move |stored: &mut Stored, now| stored.end = Some(now + ttl);
        self.with(key, move |entry, now| entry.record.as_mut().map(|old| touch(old, now)).is_some()).await
    }

    /// Does nothing: `read` skips expired content, and `cron` can delete old files.
    async fn sweep(&self, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        fs::metadata(&self.folder).map(drop).map_err(|error| StoreError::Unavailable(error.into()))
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the example prints its result")]
async fn main() -> Result<(), BoxError> {
    let folder = std::env::temp_dir().join(format!("faststate-custom-store-{}", std::process::id()));
    // The suite uses two handles to one store, like two nodes.
    let store: Arc<dyn Store> = Arc::new(FolderStore::open(&folder)?);
    let outcome = conformance::store::all(&store, &store).await;
    fs::remove_dir_all(&folder)?;
    outcome?;
    println!("FolderStore keeps every promise of a store.");
    Ok(())
}
