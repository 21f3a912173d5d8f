//! A hand-written store and its conformance test: `cargo run --example custom_store --features conformance`.
//!
//! The store keeps one JSON file per key in a folder. A file contains the record and the receipts of its events, and
//! is replaced as a whole, so both are saved together or not at all. Only one process may use the folder.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use faststate::{
    BoxError, Key, Store, Version, conformance,
    store::{Loaded, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
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
#[derive(Default, Serialize, Deserialize)]
struct Entry {
    record: Option<Stored>,
    /// The expiry of each receipt, in milliseconds since 1970. Receipts outlive the record.
    receipts: BTreeMap<String, u128>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: String,
    schema: u32,
    /// A string, because the data must be returned byte for byte.
    data: String,
    ends: Option<u128>,
}

impl FolderStore {
    fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), turn: Arc::default() })
    }

    /// Reads the key's file and calls `change`, which returns a result and whether to write the file.
    ///
    /// The work runs on a blocking thread. Dropping the future does not interrupt it.
    async fn with<T: Send + 'static>(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Entry, u128) -> (T, bool) + Send + 'static,
    ) -> Result<T, StoreError> {
        // Keys are unique, but can be longer than a file name.
        let name: String = Sha256::digest(key.as_str()).iter().map(|byte| format!("{byte:02x}")).collect();
        let (path, turn) = (self.folder.join(name), Arc::clone(&self.turn).lock_owned().await);
        let work = move || {
            let _turn = turn;
            let now = now();
            let mut entry = read(&path, now)?;
            let (answer, changed) = change(&mut entry, now);
            if changed {
                write(&path, &entry)?;
            }
            Ok(answer)
        };
        let done: io::Result<T> = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(e.into()));
        done.map_err(|error| StoreError::Unavailable(error.into()))
    }
}

/// Reads a file without its expired content.
fn read(path: &Path, now: u128) -> io::Result<Entry> {
    let mut entry: Entry = match fs::read(path) {
        Ok(json) => serde_json::from_slice(&json)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Entry::default(),
        Err(error) => return Err(error),
    };
    entry.record = entry.record.filter(|stored| stored.ends.is_none_or(|ends| ends > now));
    entry.receipts.retain(|_, ends| *ends > now);
    Ok(entry)
}

/// Writes a new file, syncs it and renames it into place: `kill -9` leaves the old file or the new one.
fn write(path: &Path, entry: &Entry) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(entry)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(path.parent().unwrap_or(path))?.sync_all()
}

fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[async_trait]
impl Store for FolderStore {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        let receipt = receipt.map(|receipt| format!("{receipt:?}"));
        let found = self.with(key, move |entry, now| {
            let there = receipt.is_some_and(|receipt| entry.receipts.contains_key(&receipt));
            let left = |ends: u128| Duration::from_millis((ends - now).try_into().unwrap_or(u64::MAX));
            ((entry.record.take().map(|stored| (stored.ends.map(left), stored)), there), false)
        });
        let (stored, receipt) = found.await?;
        let record = stored.map(|(ttl, stored)| match stored.version.parse() {
            Ok(version) => Ok(Record { schema: stored.schema, version, data: stored.data.into(), ttl }),
            Err(error) => Err(StoreError::Corrupt { key: key.clone(), source: Box::new(error) }),
        });
        Ok(Loaded { record: record.transpose()?, receipt })
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        record.check_size()?;
        let data = String::from_utf8(record.data.to_vec()).map_err(|e| StoreError::Refused(e.into()))?;
        let (schema, version, ttl) = (record.schema, record.version.to_string(), record.ttl);
        let receipt = receipt.map(|receipt| (format!("{receipt:?}"), receipt.lifetime().as_millis()));
        self.with(key, move |entry, now| {
            if receipt.as_ref().is_some_and(|(receipt, _)| entry.receipts.contains_key(receipt)) {
                return (SaveOutcome::Duplicate, false);
            }
            let expected = match expect {
                Precondition::Absent => None,
                Precondition::Version(version) => Some(version.to_string()),
            };
            if entry.record.as_ref().map(|stored| &stored.version) != expected.as_ref() {
                return (SaveOutcome::Conflict, false);
            }
            let ends = ttl.map(|ttl| now + ttl.as_millis().max(1));
            entry.record = Some(Stored { version, schema, data, ends });
            entry.receipts.extend(receipt.map(|(receipt, kept)| (receipt, now + kept)));
            (SaveOutcome::Saved, true)
        })
        .await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.with(key, move |entry, _| {
            let found = entry.record.take_if(|stored| stored.version == version.to_string()).is_some();
            (found, found)
        })
        .await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        self.with(key, move |entry, now| {
            let found = entry.record.as_mut().map(|stored| stored.ends = Some(now + ttl.as_millis().max(1)));
            (found.is_some(), found.is_some())
        })
        .await
    }

    /// Does nothing: `read` skips expired content, and `cron` can delete old files.
    async fn sweep(&self, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        fs::metadata(&self.folder).map(drop).map_err(|error| StoreError::Unavailable(error.into()))
    }
}

/// Runs the suite over a new folder.
async fn prove() -> Result<(), BoxError> {
    let folder = std::env::temp_dir().join(format!("faststate-custom-store-{}", std::process::id()));
    // The suite uses two handles to one store, like two nodes.
    let store: Arc<dyn Store> = Arc::new(FolderStore::open(&folder)?);
    let outcome = conformance::store::all(&store, &store).await;
    fs::remove_dir_all(&folder)?;
    Ok(outcome?)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the example prints its result")]
async fn main() -> Result<(), BoxError> {
    prove().await?;
    println!("FolderStore keeps every promise of a store.");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_store_passes_the_suite() {
    prove().await.unwrap();
}

/// An application uses it like any other store: `cargo test --example custom_store --features conformance`.
#[tokio::test(flavor = "multi_thread")]
async fn application_keeps_its_state_in_a_folder() {
    use faststate::{
        prelude::*,
        testing::{App, Browser},
    };

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Note {
        text: String,
    }

    impl ReactiveState for Note {
        const NAME: &'static str = "note";
    }

    #[derive(Serialize, Deserialize)]
    struct Write {
        text: String,
    }

    impl Event for Write {
        type State = Note;
        const NAME: &'static str = "write";

        fn apply(&self, note: &mut Note, _: &mut Context<Note>) -> Result<(), Rejection> {
            self.text.clone_into(&mut note.text);
            Ok(())
        }
    }

    let folder = std::env::temp_dir().join(format!("faststate-folder-app-{}", std::process::id()));
    let start = || {
        let builder = StateRegistry::builder().store(FolderStore::open(&folder).unwrap());
        let note = StateConfig::user().persist();
        App::new(builder.state::<Note>(note, |state| state.event::<Write>()).build().unwrap())
    };
    let written = Write { text: "milk".into() };
    Browser::new(&start()).user("ada").send(&written).await.assert_changed();
    let app = start(); // A second registry over the same folder, like a restarted process.
    let mut ada = Browser::new(&app).user("ada");
    ada.follow("note").await;
    ada.assert_state(&Note { text: "milk".into() });
    Browser::new(&app).user("ben").send(&written).await.assert_changed();
    fs::remove_dir_all(&folder).unwrap();
}
