//! SQLite: the suite, a file that somebody else has locked, a disk that is full.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use faststate_core::{
    Key, Scope, Store, Version, conformance,
    store::{Expect, Receipt, Record, Saving, StoreError},
};
use faststate_store_diesel::DieselStore;
use faststate_tests::{Disk, Folder};

/// Two seconds, and what a busy machine adds.
const PROMPT: Duration = Duration::from_millis(2500);

async fn open(folder: &Folder) -> Arc<dyn Store> {
    Arc::new(DieselStore::sqlite(folder.join("test.db")).await.unwrap())
}

/// Another program at the same file.
fn other(folder: &Folder) -> SqliteConnection {
    SqliteConnection::establish(folder.join("test.db").to_str().unwrap()).unwrap()
}

fn key(id: &str) -> Key {
    Key::new("thing", Scope::Record, None, Some(id)).unwrap()
}

fn record(data: impl Into<String>) -> Record {
    Record { schema: 1, version: Version::start(), data: data.into().into(), ttl: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_its_promises() {
    let folder = Folder::new("sqlite");
    let (a, b) = (open(&folder).await, open(&folder).await);
    conformance::store::all(&a, &a).await.unwrap();
    conformance::store::all(&a, &b).await.unwrap();
}

#[tokio::test]
async fn sqlite_needs_no_threads_of_the_runtime() {
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    conformance::store::all(&store, &store).await.unwrap();
}

#[tokio::test]
async fn law_03_sqlite_keeps_receipts_ten_minutes() {
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    let pass = async |time: Duration| {
        let sooner = format!("UPDATE faststate_receipts SET expires_at = expires_at - {}", time.as_millis());
        other(&folder).batch_execute(&sooner).unwrap();
    };
    conformance::store::receipts_are_kept_ten_minutes(&store, pass).await.unwrap();
}

#[tokio::test]
async fn law_13_a_locked_file_is_an_error_in_time_and_then_forgotten() {
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    let before = record("1");
    store.save(&key("before"), &before, Expect::Absent, None).await.unwrap();
    let mut locker = other(&folder);
    locker.batch_execute("BEGIN IMMEDIATE").unwrap();

    let saves = (0..8).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let asked = Instant::now();
            let saving = store.save(&key(&number.to_string()), &record("2"), Expect::Absent, None).await;
            assert!(matches!(saving, Err(StoreError::Unavailable(_))), "{saving:?}");
            assert!(asked.elapsed() <= PROMPT, "the answer took {:?}", asked.elapsed());
        })
    });
    let saves: Vec<_> = saves.collect();
    let asked = Instant::now();
    let found = store.load(&key("before"), None).await.unwrap().record;
    assert_eq!(found, Some(before), "a lock for writing is none for reading");
    assert!(asked.elapsed() < Duration::from_secs(1), "a read does not wait for writers");
    assert!(store.ping().await.is_err(), "a store that cannot save is not well");
    for save in saves {
        save.await.unwrap();
    }

    locker.batch_execute("ROLLBACK").unwrap();
    store.ping().await.unwrap();
    let saving = store.save(&key("0"), &record("3"), Expect::Absent, None).await.unwrap();
    assert_eq!(saving, Saving::Saved, "an attempt that failed was not made later");
}

#[tokio::test]
async fn law_13_a_full_disk_is_an_error_in_time_and_then_forgotten() {
    let disk = Disk::new();
    let store = DieselStore::sqlite(disk.path().join("test.db")).await.unwrap();
    let ballast = disk.path().join("ballast");
    let mut acknowledged = Vec::new();
    let refused = loop {
        let number = acknowledged.len();
        assert!(number < 100, "the disk never was full");
        let (key, record) = (key(&number.to_string()), record("x".repeat(100_000)));
        let asked = Instant::now();
        let saving = store.save(&key, &record, Expect::Absent, Some(&Receipt::minted())).await;
        assert!(asked.elapsed() <= PROMPT, "the answer took {:?}", asked.elapsed());
        match saving {
            Ok(saving) => {
                assert_eq!(saving, Saving::Saved);
                acknowledged.push((key, record));
            }
            Err(error) => break (key, record, error),
        }
        if number == 0 {
            fs::write(&ballast, vec![0; Disk::BYTES - (3 << 20)]).unwrap();
        }
    };
    let (key, record, error) = refused;
    // The COMMIT reports it, and is rolled back: nothing changed, and the outcome is known.
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert!(store.load(&key, None).await.unwrap().record.is_none(), "what was refused is not stored");
    assert!(acknowledged.len() > 2, "the disk was full before the test began");
    for (key, record) in &acknowledged {
        assert_eq!(store.load(key, None).await.unwrap().record.as_ref(), Some(record), "{key}");
    }

    fs::remove_file(ballast).unwrap();
    let saving = store.save(&key, &record, Expect::Absent, None).await.unwrap();
    assert_eq!(saving, Saving::Saved, "with room again it saves again");
    drop(store);
    let again = DieselStore::sqlite(disk.path().join("test.db")).await.unwrap();
    for (key, record) in &acknowledged {
        assert_eq!(again.load(key, None).await.unwrap().record.as_ref(), Some(record), "{key}");
    }
}

#[tokio::test]
async fn what_no_store_can_be_is_refused() {
    let folder = Folder::new("sqlite");
    for path in [":memory:", "", "file::memory:?cache=shared", "sqlite://:memory:"] {
        assert!(DieselStore::sqlite(path).await.is_err(), "{path}");
    }
    let missing = DieselStore::sqlite(folder.join("missing/test.db")).await.unwrap_err();
    assert!(matches!(missing, StoreError::Unavailable(_)), "{missing:?}");

    let store = open(&folder).await;
    let large = store.save(&key("large"), &record("x".repeat((1 << 20) + 1)), Expect::Absent, None).await;
    assert!(matches!(large, Err(StoreError::Refused(_))), "{large:?}");

    other(&folder).batch_execute("INSERT INTO faststate_schema VALUES (1000)").unwrap();
    let newer = DieselStore::sqlite(folder.join("test.db")).await.unwrap_err();
    assert!(format!("{newer:?}").contains("Newer"), "{newer:?}");
}
