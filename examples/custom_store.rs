//! A store written by hand, and the suite that says whether it keeps its promises:
//! `cargo run --example custom_store --features conformance`.
//!
//! It keeps one JSON file per key in a folder: the record, and the receipts of the events that made it. A
//! file is replaced as a whole, so both are saved together or not at all. One process may use the folder.

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

/// A file for each key.
#[derive(Clone, Debug)]
struct FolderStore {
    folder: PathBuf,
    /// One call at a time: that is all the atomicity that `Precondition` needs.
    turn: Arc<Mutex<()>>,
}

/// What is in a file.
#[derive(Default, Serialize, Deserialize)]
struct Entry {
    record: Option<Stored>,
    /// When each receipt ends, in milliseconds since 1970. They outlive the record.
    receipts: BTreeMap<String, u128>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: String,
    schema: u32,
    /// As text, because it must come back byte for byte.
    data: String,
    ends: Option<u128>,
}

impl FolderStore {
    fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), turn: Arc::default() })
    }

    /// Reads a file, lets `change` judge it, and writes it if that says so; on a thread that may wait.
    ///
    /// A caller that goes away stops nothing half way.
    async fn with<T: Send + 'static>(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Entry, u128) -> (T, bool) + Send + 'static,
    ) -> Result<T, StoreError> {
        // Key texts are unique, but may be longer than a file's name.
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

/// A file without what has expired: it is gone, whether or not anybody has swept.
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

/// Written beside it, synced, and put in its place: `kill -9` leaves the old file or the new one.
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

    /// Housekeeping that this store leaves to `cron`: what has expired is not read.
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
    let store: Arc<dyn Store> = Arc::new(FolderStore::open(&folder)?);
    // Two handles of one store, as two nodes would hold them.
    let outcome = conformance::store::all(&store, &store).await;
    fs::remove_dir_all(&folder)?;
    Ok(outcome?)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it is what the example is for")]
async fn main() -> Result<(), BoxError> {
    prove().await?;
    println!("FolderStore keeps every promise of a store.");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_every_promise_of_a_store() {
    prove().await.unwrap();
}

/// Behind an application it is a store like any other: `cargo test --example custom_store --features conformance`.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_lives_in_it() {
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

    let folder = std::env::temp_dir().join(format!("faststate-custom-store-app-{}", std::process::id()));
    let start = || {
        let builder = StateRegistry::builder().store(FolderStore::open(&folder).unwrap());
        let note = StateConfig::user().persist();
        App::new(builder.state::<Note>(note, |state| state.event::<Write>()).build().unwrap())
    };
    let written = Write { text: "milk".into() };
    Browser::new(&start()).user("ada").send(&written).await.assert_changed();
    // Another process, as it were.
    let app = start();
    let mut ada = Browser::new(&app).user("ada");
    ada.follow("note").await;
    ada.assert_state(&Note { text: "milk".into() });
    Browser::new(&app).user("ben").send(&written).await.assert_changed();
    fs::remove_dir_all(&folder).unwrap();
}
