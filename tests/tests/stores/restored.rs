//! Stores restored from a backup: no follower keeps the lost changes.

use std::{cell::RefCell, fs, time::Duration};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use faststate_core::{Registry as _, internal::TopicName};
use faststate_tests::{Folder, RedisServer, until};
use serde_json::json;
use tokio::{task::block_in_place, time::sleep};

use crate::{ledger::Ledgers, open::open, window::Window};

async fn window(ledgers: &Ledgers) -> Window {
    Window::open(&ledgers.registry, TopicName::signals("ledger").of("x")).await
}

/// Sends an entry, repeated until the store responds.
async fn enter(ledgers: &Ledgers, id: &str) {
    let entered = async {
        while ledgers.enter("x", id).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), entered).await.expect("the store answers again");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_a_redis_restored_under_a_running_application_starts_a_new_epoch() {
    let server = RefCell::new(RedisServer::start());
    let url = server.borrow().url();
    let ledgers = Ledgers::new(open(&url).await);
    enter(&ledgers, "one").await;
    let snapshot = server.borrow().snapshot();
    enter(&ledgers, "two").await;
    let mut window = window(&ledgers).await;
    window.shows(&json!({ "entries": ["one", "two"] })).await;
    let lost = window.cursor();
    block_in_place(|| server.borrow_mut().kill());
    // Without any event, a probe detects the restore.
    for _ in 0..3 {
        assert!(!ledgers.registry.health().await.is_healthy());
    }
    block_in_place(|| server.borrow_mut().restore(&snapshot));
    window.shows(&json!({ "entries": ["one"] })).await;
    assert_ne!(window.cursor().epoch, lost.epoch);
    enter(&ledgers, "three").await;
    window.shows(&json!({ "entries": ["one", "three"] })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_a_redis_restored_between_two_applications_starts_a_new_epoch() {
    let server = RefCell::new(RedisServer::start());
    let url = server.borrow().url();
    let ledgers = Ledgers::new(open(&url).await);
    enter(&ledgers, "one").await;
    let snapshot = server.borrow().snapshot();
    restored_meanwhile(ledgers, &url, || server.borrow_mut().restore(&snapshot)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_sqlite_restored_from_a_backup_between_two_applications_starts_a_new_epoch() {
    let folder = Folder::new("sqlite");
    let (file, backup) = (folder.join("restored.db"), folder.join("backup.db"));
    let url = format!("sqlite://{}", file.display());
    let ledgers = Ledgers::new(open(&url).await);
    enter(&ledgers, "one").await;
    let mut sqlite = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    sqlite.batch_execute(&format!("VACUUM INTO '{}'", backup.display())).unwrap();
    drop(sqlite);
    let restore = || {
        // SQLite deletes its log when the last connection closes.
        let log = folder.join("restored.db-wal");
        until("the application to close its file", || log.exists(), |open| !open);
        fs::copy(&backup, &file).unwrap();
    };
    restored_meanwhile(ledgers, &url, restore).await;
}

/// An application has entered `one`; its next entry is lost.
async fn restored_meanwhile(ledgers: Ledgers, url: &str, restore: impl FnOnce()) {
    enter(&ledgers, "two").await;
    let mut window = window(&ledgers).await;
    let mut late = self::window(&ledgers).await;
    window.shows(&json!({ "entries": ["one", "two"] })).await;
    late.shows(&json!({ "entries": ["one", "two"] })).await;
    let lost = window.cursor();
    window.disconnect();
    late.disconnect();
    drop(ledgers);
    block_in_place(restore);

    let ledgers = Ledgers::new(open(url).await);
    // One page returns before any new change, one after the new history is longer than the lost one.
    window.connect(&ledgers.registry).await;
    window.shows(&json!({ "entries": ["one"] })).await;
    assert_ne!(window.cursor().epoch, lost.epoch);
    for id in ["three", "four", "five"] {
        enter(&ledgers, id).await;
    }
    for window in [&mut window, &mut late] {
        window.connect(&ledgers.registry).await;
        window.shows(&json!({ "entries": ["one", "three", "four", "five"] })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_sqlite_restored_under_a_running_application_starts_a_new_epoch() {
    let folder = Folder::new("sqlite");
    let (file, backup) = (folder.join("restored.db"), folder.join("backup.db"));
    let ledgers = Ledgers::new(open(&format!("sqlite://{}", file.display())).await);
    enter(&ledgers, "one").await;
    let mut sqlite = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    sqlite.batch_execute(&format!("VACUUM INTO '{}'", backup.display())).unwrap();
    enter(&ledgers, "two").await;
    let mut window = window(&ledgers).await;
    window.shows(&json!({ "entries": ["one", "two"] })).await;
    let lost = window.cursor();
    // Like `.restore` of SQLite's shell: into the open file.
    let restore = format!(
        "PRAGMA busy_timeout = 5000; ATTACH '{}' AS backup; BEGIN IMMEDIATE;
         DELETE FROM main.faststate_records; DELETE FROM main.faststate_receipts;
         INSERT INTO main.faststate_records SELECT * FROM backup.faststate_records;
         INSERT INTO main.faststate_receipts SELECT * FROM backup.faststate_receipts; COMMIT;",
        backup.display()
    );
    sqlite.batch_execute(&restore).unwrap();
    enter(&ledgers, "three").await;
    window.shows(&json!({ "entries": ["one", "three"] })).await;
    assert_ne!(window.cursor().epoch, lost.epoch);
}
