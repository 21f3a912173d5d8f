//! SQLite: the suite, a file locked by another process, a full disk.

use std::{
    error::Error as _,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, SqliteConnection, connection::SimpleConnection as _, dsl::sql, sql_types::BigInt,
};
use faststate_core::{
    Access, Key, ReactiveState, Scope, StateConfig, StateRegistry, Store, Version,
    internal::TopicName,
    store::{Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_store_diesel::DieselStore;
use faststate_testkit::suites;
use faststate_tests::{Disk, Folder, UNAVAILABLE_LIMIT};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::window::Window;

async fn open(folder: &Folder) -> Arc<dyn Store> {
    Arc::new(DieselStore::sqlite(folder.join("test.db")).await.unwrap())
}

/// Another process with the same file.
fn other(folder: &Folder) -> SqliteConnection {
    SqliteConnection::establish(folder.join("test.db").to_str().unwrap()).unwrap()
}

fn key(id: &str) -> Key {
    Key::new("thing", Scope::Record, None, Some(id)).unwrap()
}

fn record(data: impl Into<String>) -> Record {
    Record::new(1, Version::start(), data.into(), None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_its_promises() {
    let folder = Folder::new("sqlite");
    let (a, b) = (open(&folder).await, open(&folder).await);
    suites::store::all(&a, &a).await.unwrap();
    suites::store::all(&a, &b).await.unwrap();
}

#[tokio::test]
async fn sqlite_needs_no_threads_of_the_runtime() {
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    suites::store::all(&store, &store).await.unwrap();
}

#[tokio::test]
async fn law_03_sqlite_keeps_receipts_ten_minutes() {
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    let pass = async |time: Duration| {
        let sooner = format!("UPDATE faststate_receipts SET expires_at = expires_at - {}", time.as_millis());
        other(&folder).batch_execute(&sooner).unwrap();
    };
    suites::store::receipt_is_kept_for_ten_minutes(&store, pass).await.unwrap();
    suites::store::message_receipt_is_kept_until_release(&store, pass).await.unwrap();
}

#[tokio::test]
async fn law_13_a_locked_file_is_an_error_in_time_and_then_forgotten() {
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    let before = record("1");
    store.save(&key("before"), &before, Precondition::Absent, None).await.unwrap();
    let mut locker = other(&folder);
    locker.batch_execute("BEGIN IMMEDIATE").unwrap();

    let saves = (0..8).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let asked = Instant::now();
            let saving =
                store.save(&key(&number.to_string()), &record("2"), Precondition::Absent, None).await;
            assert!(matches!(saving, Err(StoreError::Unavailable(_))), "{saving:?}");
            assert!(asked.elapsed() <= UNAVAILABLE_LIMIT, "the answer took {:?}", asked.elapsed());
        })
    });
    let saves: Vec<_> = saves.collect();
    let found = store.load(&key("before"), None).await.unwrap().record;
    assert_eq!(found, Some(before), "a lock for writing is none for reading");
    assert!(saves.iter().any(|save| !save.is_finished()), "a read does not wait for writers");
    assert!(store.ping().await.is_err(), "a store that cannot save is not well");
    for save in saves {
        save.await.unwrap();
    }

    locker.batch_execute("ROLLBACK").unwrap();
    store.ping().await.unwrap();
    let saving = store.save(&key("0"), &record("3"), Precondition::Absent, None).await.unwrap();
    assert_eq!(saving, SaveOutcome::Saved, "an attempt that failed was not made later");
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
        let saving = store.save(&key, &record, Precondition::Absent, Some(&Receipt::internal())).await;
        assert!(asked.elapsed() <= UNAVAILABLE_LIMIT, "the answer took {:?}", asked.elapsed());
        match saving {
            Ok(saving) => {
                assert_eq!(saving, SaveOutcome::Saved);
                acknowledged.push((key, record));
            }
            Err(error) => break (key, record, error),
        }
        if number == 0 {
            fs::write(&ballast, vec![0; Disk::BYTES - (3 << 20)]).unwrap();
        }
    };
    let (key, record, error) = refused;
    // The COMMIT reports the full disk and is rolled back: nothing has changed, and the outcome is known.
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert!(store.load(&key, None).await.unwrap().record.is_none(), "what was refused is not stored");
    assert!(acknowledged.len() > 2, "the disk was full before the test began");
    for (key, record) in &acknowledged {
        assert_eq!(store.load(key, None).await.unwrap().record.as_ref(), Some(record), "{key}");
    }

    fs::remove_file(ballast).unwrap();
    let saving = store.save(&key, &record, Precondition::Absent, None).await.unwrap();
    assert_eq!(saving, SaveOutcome::Saved, "with room again it saves again");
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
    let large =
        store.save(&key("large"), &record("x".repeat((1 << 20) + 1)), Precondition::Absent, None).await;
    assert!(matches!(large, Err(StoreError::Refused(_))), "{large:?}");

    other(&folder).batch_execute("INSERT INTO faststate_schema VALUES (1000)").unwrap();
    let newer = DieselStore::sqlite(folder.join("test.db")).await.unwrap_err();
    assert!(format!("{newer:?}").contains("Newer"), "{newer:?}");
}

/// Saves one event; returns the error of a refused save.
async fn saves(store: &dyn Store, id: &str) -> Result<(), String> {
    match store.save(&key(id), &record("1"), Precondition::Absent, Some(&Receipt::internal())).await {
        Ok(saving) => {
            assert_eq!(saving, SaveOutcome::Saved);
            Ok(())
        }
        Err(error) => {
            Err(format!("{error:?} {}", error.source().map(ToString::to_string).unwrap_or_default()))
        }
    }
}

#[tokio::test]
async fn law_01_nothing_is_acknowledged_when_the_file_was_deleted_or_replaced() {
    let folder = Folder::new("sqlite");
    let (file, aside) = (folder.join("test.db"), folder.join("aside.db"));
    for replaced in [false, true] {
        let store = open(&folder).await;
        saves(&*store, &format!("before-{replaced}")).await.unwrap();
        fs::rename(&file, &aside).unwrap();
        if replaced {
            fs::write(&file, b"").unwrap();
        }
        for id in ["a", "b", "c"] {
            let error = saves(&*store, id).await.unwrap_err();
            assert!(error.contains("was deleted or replaced") && error.contains("test.db"), "{error}");
        }
        assert!(store.load(&key("before"), None).await.is_err(), "what is there is not what will be");
        assert!(store.ping().await.is_err(), "it is not well");
        assert_eq!(file.exists(), replaced, "no other file was made");

        // After the file is back, the store continues.
        fs::rename(&aside, &file).unwrap();
        saves(&*store, &format!("after-{replaced}")).await.unwrap();
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn law_01_nothing_is_acknowledged_when_the_log_was_deleted() {
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    saves(&*store, "before").await.unwrap();
    fs::remove_file(folder.join("test.db-wal")).unwrap();
    for id in ["a", "b"] {
        let error = saves(&*store, id).await.unwrap_err();
        assert!(error.contains("was deleted or replaced") && error.contains("test.db-wal"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_06_a_sweep_lets_saves_in_between() {
    const RECEIPTS: usize = 30_000;
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    let fill = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {RECEIPTS})
        INSERT INTO faststate_receipts (digest, expires_at) SELECT randomblob(16), 1 FROM n"
    );
    other(&folder).batch_execute(&fill).unwrap();
    let sweeping = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.sweep(RECEIPTS).await.unwrap() }
    });
    let mut turns = 0;
    while !sweeping.is_finished() {
        saves(&*store, &format!("save-{turns}")).await.unwrap();
        turns += 1;
    }
    assert_eq!(sweeping.await.unwrap(), RECEIPTS);
    assert!(turns > 4, "only {turns} saves came in between");
    assert_eq!(store.sweep(RECEIPTS).await.unwrap(), 0);
}

#[tokio::test]
async fn law_01_a_flush_leaves_everything_in_the_file_itself() {
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    for id in 0..100 {
        let large = record("x".repeat(100_000));
        store.save(&key(&id.to_string()), &large, Precondition::Absent, None).await.unwrap();
    }
    let log = folder.join("test.db-wal");
    assert!(fs::metadata(&log).unwrap().len() > 1 << 20, "there is a log");
    store.flush().await.unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    // A copy of the main file alone is complete.
    let copy = Folder::new("sqlite");
    fs::copy(folder.join("test.db"), copy.join("test.db")).unwrap();
    let copied = open(&copy).await;
    for id in 0..100 {
        assert!(copied.load(&key(&id.to_string()), None).await.unwrap().record.is_some(), "{id}");
    }
    saves(&*store, "after").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_a_backup_is_whole_while_others_save() {
    let folder = Folder::new("sqlite");
    let store = DieselStore::sqlite(folder.join("test.db")).await.unwrap();
    for id in 0..200 {
        saves(&store, &format!("before-{id}")).await.unwrap();
    }
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            for id in 0.. {
                saves(&store, &format!("during-{id}")).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    let backup = folder.join("backup.db");
    for _ in 0..3 {
        store.backup(&backup).await.unwrap();
        let copy = SqliteConnection::establish(backup.to_str().unwrap()).unwrap();
        assert!(!folder.join("backup.db-wal").exists(), "it needs no other file");
        drop(copy);
        let copied = DieselStore::sqlite(&backup).await.unwrap();
        for id in 0..200 {
            let found = copied.load(&key(&format!("before-{id}")), None).await.unwrap().record;
            assert!(found.is_some(), "before-{id}");
        }
        drop(copied);
        let again = store.backup(&backup).await.unwrap_err();
        assert!(format!("{again:?}").contains("AlreadyExists"), "{again:?}");
        for file in ["backup.db", "backup.db-wal", "backup.db-shm"] {
            let _ = fs::remove_file(folder.join(file));
        }
    }
    writing.abort();
    let missing = store.backup(folder.join("missing/backup.db")).await.unwrap_err();
    assert!(format!("{missing:?}").contains("NotFound"), "{missing:?}");
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Tally {
    count: u32,
}

impl ReactiveState for Tally {
    const NAME: &'static str = "tally";
}

#[tokio::test(flavor = "multi_thread")]
async fn law_04_what_another_process_writes_to_the_file_is_shown() {
    let folder = Folder::new("sqlite");
    let application = async || {
        let config = StateConfig::global().access(Access::public()).persist();
        let builder = StateRegistry::builder().store(open(&folder).await);
        builder.state::<Tally>(config, |tally| tally).build().unwrap()
    };
    let (here, elsewhere) = (application().await, application().await);
    let mut window = Window::open(&here, TopicName::signals("tally")).await;
    window.shows(&json!({ "count": 0 })).await;
    let add = |tally: &mut Tally| {
        tally.count += 1;
        Ok(())
    };
    for count in 1..3 {
        elsewhere.global::<Tally>().unwrap().update(add).await.unwrap();
        window.shows(&json!({ "count": count })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_06_a_registry_sweeps_until_nothing_is_left() {
    use diesel::RunQueryDsl as _;

    const RECEIPTS: usize = 100_000;
    let folder = Folder::new("sqlite");
    let store = open(&folder).await;
    let fill = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {RECEIPTS})
        INSERT INTO faststate_receipts (digest, expires_at) SELECT randomblob(16), 1 FROM n"
    );
    let mut other = other(&folder);
    other.batch_execute(&fill).unwrap();
    let config = StateConfig::global().access(Access::public()).persist();
    let registry =
        StateRegistry::builder().store(store).state::<Tally>(config, |tally| tally).build().unwrap();
    // The first sweep runs after about 15 s.
    let end = Instant::now() + Duration::from_secs(40);
    let left = || sql::<BigInt>("SELECT count(*) FROM faststate_receipts");
    while left().get_result::<i64>(&mut other).unwrap() > 0 {
        assert!(Instant::now() < end, "a sweep stopped before all was swept");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(registry);
}
