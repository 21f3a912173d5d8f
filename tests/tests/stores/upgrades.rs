//! Tables that the previous version wrote, before records had messages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use diesel_async::{AsyncConnection as _, AsyncMysqlConnection, AsyncPgConnection, SimpleAsyncConnection};
use faststate_core::{
    EventId, Key, Scope, Store, Version,
    store::{PendingMessages, PendingSummary, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_store_diesel::DieselStore;
use faststate_tests::{Folder, MariaDb, PgBouncer, Postgres};
use futures::future::join_all;

use crate::open::open;

const SQLITE_TABLES: &str = "
CREATE TABLE faststate_schema (version INTEGER NOT NULL PRIMARY KEY);
CREATE TABLE faststate_records (
    record_key BLOB NOT NULL PRIMARY KEY,
    state_schema INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    nonce INTEGER NOT NULL,
    data BLOB NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE INDEX faststate_records_expire ON faststate_records (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE faststate_receipts (
    digest BLOB NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX faststate_receipts_expire ON faststate_receipts (expires_at);
INSERT INTO faststate_schema VALUES (1);
PRAGMA journal_mode = WAL;
";

const POSTGRES_TABLES: &str = "
CREATE TABLE faststate_schema (version bigint NOT NULL PRIMARY KEY);
CREATE TABLE faststate_records (
    record_key bytea NOT NULL PRIMARY KEY,
    state_schema bigint NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    nonce bigint NOT NULL,
    data bytea NOT NULL,
    expires_at bigint
);
CREATE INDEX faststate_records_expire ON faststate_records (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE faststate_receipts (
    digest bytea NOT NULL PRIMARY KEY,
    expires_at bigint NOT NULL
);
CREATE INDEX faststate_receipts_expire ON faststate_receipts (expires_at);
INSERT INTO faststate_schema VALUES (1);
";

const MARIADB_TABLES: &str = "
CREATE TABLE faststate_schema (version BIGINT NOT NULL PRIMARY KEY) ENGINE = InnoDB;
CREATE TABLE faststate_records (
    record_key VARBINARY(2048) NOT NULL PRIMARY KEY,
    state_schema BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    nonce BIGINT NOT NULL,
    data LONGBLOB NOT NULL,
    expires_at BIGINT,
    KEY faststate_records_expire (expires_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
CREATE TABLE faststate_receipts (
    digest VARBINARY(16) NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    KEY faststate_receipts_expire (expires_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
INSERT INTO faststate_schema VALUES (1);
";

/// A statement of PostgreSQL's previous version, with its values. It locks the tables in this order.
const POSTGRES_SAVE: &str = "
WITH present AS MATERIALIZED (SELECT FROM faststate_receipts WHERE digest = 'none' AND expires_at > 1),
saved AS (
    UPDATE faststate_records AS r SET seq = seq + 1
    WHERE r.record_key = 'written' AND NOT EXISTS (SELECT FROM present) RETURNING 1
),
noted AS (
    INSERT INTO faststate_receipts AS t (digest, expires_at) SELECT 'none', 1 FROM saved
    ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at
)
SELECT count(*) FROM saved
";

const MARIADB_SAVE: &str = "
START TRANSACTION;
UPDATE faststate_records SET seq = seq + 1 WHERE record_key = 'written';
INSERT INTO faststate_receipts (expires_at, digest) VALUES (1, 'none') ON DUPLICATE KEY UPDATE expires_at = 1;
COMMIT
";

/// The first day of 2100, in milliseconds since 1970.
const LATER: i64 = 4_102_444_800_000;

const VERSION: Version = Version { epoch: 5, seq: 6, nonce: 7 };

fn key(id: &str) -> Key {
    Key::new("thing", Scope::Record, None, Some(id)).unwrap()
}

fn receipt() -> Receipt {
    Receipt::new(&key("kept"), "event", &"id-of-the-event".parse::<EventId>().unwrap())
}

/// SQL that writes two records and a receipt. `bytes` writes bytes in the database's syntax.
fn rows(bytes: fn(&[u8]) -> String) -> String {
    let [kept, mortal, data] =
        [key("kept").as_str(), key("mortal").as_str(), "{}"].map(|text| bytes(text.as_bytes()));
    format!(
        "INSERT INTO faststate_records (state_schema, epoch, seq, nonce, data, expires_at, record_key)
         VALUES (1, 5, 6, 7, {data}, NULL, {kept}), (1, 5, 6, 7, {data}, {LATER}, {mortal});
         INSERT INTO faststate_receipts (digest, expires_at) VALUES ({}, {LATER})",
        bytes(receipt().as_bytes())
    )
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X'{digits}'")
}

fn postgres_hex(bytes: &[u8]) -> String {
    format!("'\\{}::bytea", hex(bytes).replace("X'", "x"))
}

/// Checks a store over tables with [`rows`]. `execute` runs a statement as the previous version does.
async fn check_upgraded(store: &dyn Store, bytes: fn(&[u8]) -> String, mut execute: impl AsyncFnMut(String)) {
    let loaded = store.load(&key("kept"), Some(&receipt())).await.unwrap();
    assert_eq!(loaded.record, Some(Record::new(1, VERSION, "{}", None)));
    assert!(loaded.receipt.is_some_and(|answer| answer.is_empty()), "an event's receipt has no answer");
    let mortal = store.load(&key("mortal"), None).await.unwrap().record.unwrap();
    assert!(mortal.ttl.is_some_and(|left| left > Duration::from_hours(24)), "{mortal:?}");
    assert_eq!(store.due(10).await.unwrap().keys, []);
    assert_eq!(store.pending(10).await.unwrap(), PendingSummary::default());
    assert!(!store.refuse(&key("kept"), &receipt(), &"no".into()).await.unwrap(), "the event was accepted");

    let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    let pending = PendingMessages { data: "[1]".into(), waiting: 2, parked: 1, oldest: Some(at(1_000)) };
    let with_messages = Record { pending, due: Some(at(2_000)), ..Record::new(1, next(VERSION), "{}", None) };
    let saved = store.save(&key("kept"), &with_messages, Precondition::Version(VERSION), None).await.unwrap();
    assert_eq!(saved, SaveOutcome::Saved);
    assert_eq!(store.load(&key("kept"), None).await.unwrap().record, Some(with_messages.clone()));
    assert_eq!(store.due(10).await.unwrap().keys, [key("kept")]);

    // A node of the previous version applies an event: the messages that were sent before remain.
    let [text, kept] = ["{\"by\":\"old\"}", key("kept").as_str()].map(|text| bytes(text.as_bytes()));
    execute(format!(
        "UPDATE faststate_records SET state_schema = 1, epoch = 5, seq = 8, nonce = 7, data = {text}, expires_at = NULL
         WHERE record_key = {kept} AND epoch = 5 AND seq = 7 AND nonce = 7"
    ))
    .await;
    let by_old = store.load(&key("kept"), None).await.unwrap().record.unwrap();
    let version = next(next(VERSION));
    assert_eq!(by_old, Record { version, data: "{\"by\":\"old\"}".into(), ..with_messages });
    let summary = store.pending(10).await.unwrap();
    assert_eq!((summary.waiting, summary.parked, summary.keys), (2, 1, vec![key("kept")]));

    let done = Record::new(1, next(version), "{}", None);
    let saved = store.save(&key("kept"), &done, Precondition::Version(version), None).await.unwrap();
    assert_eq!(saved, SaveOutcome::Saved);
    assert_eq!(store.load(&key("kept"), None).await.unwrap().record, Some(done));
    assert_eq!(store.due(10).await.unwrap().keys, []);
    assert_eq!(store.pending(10).await.unwrap(), PendingSummary::default());
}

const fn next(version: Version) -> Version {
    Version { seq: version.seq + 1, ..version }
}

/// Opens a store on three nodes at once while four nodes of the previous version save.
async fn open_during_saves<C: SimpleAsyncConnection + Send + 'static>(
    urls: &[String],
    writers: impl IntoIterator<Item = C>,
    save: &'static str,
) -> Vec<Arc<dyn Store>> {
    let ended = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = writers
        .into_iter()
        .map(|mut connection| {
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let mut saves = 0;
                while !ended.load(Ordering::Relaxed) {
                    connection.batch_execute(save).await.unwrap();
                    saves += 1;
                }
                saves
            })
        })
        .collect();
    let stores = join_all(urls.iter().map(|url| open(url))).await;
    ended.store(true, Ordering::Relaxed);
    let saves: u32 = join_all(writers).await.into_iter().map(Result::unwrap).sum();
    assert!(saves > 0);
    stores
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_file_of_the_previous_version_is_upgraded() {
    let folder = Folder::new("sqlite");
    let file = folder.join("old.db");
    let mut old = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    old.batch_execute(SQLITE_TABLES).unwrap();
    old.batch_execute(&rows(hex)).unwrap();
    let url = format!("sqlite://{}", file.display());
    let stores = join_all([open(&url), open(&url)]).await;
    check_upgraded(&*stores[0], hex, async |text: String| old.batch_execute(&text).unwrap()).await;
    // An upgraded file is opened as it is.
    open(&url).await.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_tables_of_the_previous_version_are_upgraded() {
    let server = Postgres::start();
    let mut old = AsyncPgConnection::establish(&server.url()).await.unwrap();
    old.batch_execute(POSTGRES_TABLES).await.unwrap();
    old.batch_execute(&rows(postgres_hex)).await.unwrap();
    old.batch_execute("INSERT INTO faststate_records VALUES ('written', 1, 1, 1, 1, '', NULL)")
        .await
        .unwrap();
    // Each snapshot of such a transaction would be older than the other node's upgrade.
    old.batch_execute("ALTER ROLE faststate SET default_transaction_isolation = 'serializable'")
        .await
        .unwrap();
    let pool = PgBouncer::start(&server, "transaction");
    let pooled = format!("{}?pgbouncer=true", pool.url());
    let urls = [pooled.clone(), server.url(), pooled, server.url()];
    let writers = join_all((0..4).map(async |_| {
        let mut writer = AsyncPgConnection::establish(&server.url()).await.unwrap();
        writer.batch_execute("SET default_transaction_isolation = 'read committed'").await.unwrap();
        writer
    }));
    let stores = open_during_saves(&urls, writers.await, POSTGRES_SAVE).await;
    check_upgraded(&*stores[0], postgres_hex, async |text: String| old.batch_execute(&text).await.unwrap())
        .await;
    open(&server.url()).await.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mariadb_tables_of_the_previous_version_are_upgraded() {
    let server = MariaDb::start();
    let mut old = AsyncMysqlConnection::establish(&server.url()).await.unwrap();
    old.batch_execute(MARIADB_TABLES).await.unwrap();
    old.batch_execute(&rows(hex)).await.unwrap();
    old.batch_execute("INSERT INTO faststate_records VALUES ('written', 1, 1, 1, 1, '', NULL)")
        .await
        .unwrap();
    let urls = [server.url(), server.url(), server.url()];
    let writers =
        join_all((0..4).map(async |_| AsyncMysqlConnection::establish(&server.url()).await.unwrap()));
    let stores = open_during_saves(&urls, writers.await, MARIADB_SAVE).await;
    check_upgraded(&*stores[0], hex, async |text: String| old.batch_execute(&text).await.unwrap()).await;
    open(&server.url()).await.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_upgrade_gives_up_while_a_dump_reads_the_tables() {
    let server = Postgres::start();
    let mut old = AsyncPgConnection::establish(&server.url()).await.unwrap();
    old.batch_execute(POSTGRES_TABLES).await.unwrap();
    old.batch_execute(&rows(postgres_hex)).await.unwrap();
    gives_up(old, async || DieselStore::postgres(server.url()).await.map(drop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_upgrade_gives_up_while_a_dump_reads_the_tables() {
    let server = MariaDb::start();
    let mut old = AsyncMysqlConnection::establish(&server.url()).await.unwrap();
    old.batch_execute(MARIADB_TABLES).await.unwrap();
    old.batch_execute(&rows(hex)).await.unwrap();
    gives_up(old, async || DieselStore::mysql(server.url()).await.map(drop)).await;
}

/// Opens a store while a transaction reads the tables, and once more after it.
async fn gives_up(mut dump: impl SimpleAsyncConnection, open: impl AsyncFn() -> Result<(), StoreError>) {
    // In the transaction, so that the whole result is read.
    let read = "BEGIN; CREATE TEMPORARY TABLE dumped AS SELECT record_key FROM faststate_records";
    dump.batch_execute(read).await.unwrap();
    let began = Instant::now();
    let error = open().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "the other calls waited for {:?}", began.elapsed());
    dump.batch_execute("COMMIT").await.unwrap();
    open().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_upgrade_continues_after_an_interruption() {
    const COLUMNS: &str =
        "ALTER TABLE faststate_records ADD COLUMN pending LONGBLOB, ADD COLUMN waiting BIGINT,
        ADD COLUMN parked BIGINT, ADD COLUMN oldest BIGINT, ADD COLUMN due BIGINT";
    const INDEXES: &str =
        "ALTER TABLE faststate_records ADD KEY faststate_records_oldest (oldest, waiting, parked),
        ADD KEY faststate_records_due (due)";
    const ANSWER: &str = "ALTER TABLE faststate_receipts ADD COLUMN answer BLOB";

    let server = MariaDb::start();
    let mut old = AsyncMysqlConnection::establish(&server.url()).await.unwrap();
    for done in [&[COLUMNS][..], &[COLUMNS, INDEXES], &[COLUMNS, INDEXES, ANSWER]] {
        old.batch_execute("DROP TABLE IF EXISTS faststate_schema, faststate_records, faststate_receipts")
            .await
            .unwrap();
        old.batch_execute(MARIADB_TABLES).await.unwrap();
        old.batch_execute(&rows(hex)).await.unwrap();
        for statement in done {
            old.batch_execute(statement).await.unwrap();
        }
        let store = open(&server.url()).await;
        check_upgraded(&*store, hex, async |text: String| old.batch_execute(&text).await.unwrap()).await;
    }
}
