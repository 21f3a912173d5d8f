//! Saves that share a transaction, of which one blocks or fails.

use std::time::{Duration, Instant, SystemTime};

use diesel_async::{AsyncConnection as _, AsyncMysqlConnection, AsyncPgConnection, SimpleAsyncConnection};
use faststate_core::{
    Key, Scope, Store, Version,
    store::{PendingMessages, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_tests::{MariaDb, Postgres, UNAVAILABLE_LIMIT};
use futures::future::join_all;

use crate::open::open;

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    count: i64,
}

const SAVES: usize = 32;
/// The save that blocks or fails.
const BLOCKED: usize = 7;

#[tokio::test]
async fn law_13_postgres_saves_the_others_where_one_row_is_locked() {
    let server = Postgres::start();
    let other = AsyncPgConnection::establish(&server.url()).await.unwrap();
    one_row_is_locked(&server.url(), other).await;
}

#[tokio::test]
async fn law_13_mysql_saves_the_others_where_one_row_is_locked() {
    let server = MariaDb::start();
    let other = AsyncMysqlConnection::establish(&server.url()).await.unwrap();
    one_row_is_locked(&server.url(), other).await;
}

#[tokio::test]
async fn law_03_postgres_saves_the_others_where_a_receipt_comes_in_meanwhile() {
    let server = Postgres::start();
    let other = AsyncPgConnection::establish(&server.url()).await.unwrap();
    a_receipt_comes_in_meanwhile(&server.url(), other, r"'\x", "'").await;
}

#[tokio::test]
async fn law_03_mysql_saves_the_others_where_a_receipt_comes_in_meanwhile() {
    let server = MariaDb::start();
    let other = AsyncMysqlConnection::establish(&server.url()).await.unwrap();
    a_receipt_comes_in_meanwhile(&server.url(), other, "x'", "'").await;
}

#[tokio::test]
async fn law_10_postgres_waits_for_who_may_yet_keep_an_expired_record_alive() {
    let server = Postgres::start();
    let other = AsyncPgConnection::establish(&server.url()).await.unwrap();
    kept_alive_just_in_time(&server.url(), other).await;
}

#[tokio::test]
async fn law_10_mysql_waits_for_who_may_yet_keep_an_expired_record_alive() {
    let server = MariaDb::start();
    let other = AsyncMysqlConnection::establish(&server.url()).await.unwrap();
    kept_alive_just_in_time(&server.url(), other).await;
}

#[tokio::test]
async fn postgres_saves_with_and_without_messages_share_transactions() {
    let server = Postgres::start();
    let store = open(&server.url()).await;
    let saves = (0..256).map(|number| {
        let store = &store;
        async move {
            let record = record(number, Version::start());
            let saving =
                store.save(&key(number), &record, Precondition::Absent, Some(&Receipt::internal())).await;
            assert_eq!(saving.unwrap(), SaveOutcome::Saved);
            assert_eq!(store.load(&key(number), None).await.unwrap().record, Some(record));
        }
    });
    join_all(saves).await;
    let mut admin = AsyncPgConnection::establish(&server.url()).await.unwrap();
    let mixed = "SELECT count(*) FROM (
        SELECT FROM faststate_records GROUP BY xmin::text HAVING count(pending) > 0 AND count(pending) < count(*)
    ) AS mixed";
    let mixed: Vec<Count> =
        diesel_async::RunQueryDsl::load(diesel::sql_query(mixed), &mut admin).await.unwrap();
    assert!(mixed[0].count > 0, "no transaction saved records with and without messages");
    assert_eq!(store.due(256).await.unwrap().keys.len(), 128);
}

#[tokio::test]
async fn law_16_postgres_refusal_waits_for_a_save_in_progress() {
    let server = Postgres::start();
    let other = AsyncPgConnection::establish(&server.url()).await.unwrap();
    refusal_waits(&server.url(), other, r"'\x", "'").await;
}

#[tokio::test]
async fn law_16_mysql_refusal_waits_for_a_save_in_progress() {
    let server = MariaDb::start();
    let other = AsyncMysqlConnection::establish(&server.url()).await.unwrap();
    refusal_waits(&server.url(), other, "x'", "'").await;
}

/// Refuses a message whose receipt another transaction has inserted, and which then commits or rolls back.
async fn refusal_waits(url: &str, mut other: impl SimpleAsyncConnection, before: &str, after: &str) {
    let store = open(url).await;
    for (number, (end, refused)) in (0..).zip([("COMMIT", false), ("ROLLBACK", true)]) {
        let receipt = Receipt::message(&key(0), number);
        let digest = u128::from_be_bytes(*receipt.as_bytes());
        let insert = format!(
            "BEGIN; INSERT INTO faststate_receipts (digest, expires_at) VALUES ({before}{digest:032x}{after}, {})",
            i64::MAX
        );
        other.batch_execute(&insert).await.unwrap();
        let (target, answer) = (key(0), "no".into());
        let finish = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            other.batch_execute(end).await.unwrap();
        };
        let (refusal, ()) = tokio::join!(store.refuse(&target, &receipt, &answer), finish);
        assert_eq!(refusal.unwrap(), refused, "{end}");
        let found = store.load(&target, Some(&receipt)).await.unwrap().receipt.unwrap();
        assert_eq!(&found[..], if refused { &b"no"[..] } else { b"" }, "{end}");
    }
}

/// A touch that begins before the expiry and commits after it: no load in between may find the record expired.
async fn kept_alive_just_in_time(url: &str, mut other: impl SimpleAsyncConnection) {
    const TTL: Duration = Duration::from_secs(1);
    let store = open(url).await;
    let mortal = Record { ttl: Some(TTL), ..record(0, Version::start()) };
    assert_eq!(store.save(&key(0), &mortal, Precondition::Absent, None).await.unwrap(), SaveOutcome::Saved);
    let touch =
        format!("BEGIN; UPDATE faststate_records SET expires_at = NULL WHERE record_key = '{}'", key(0));
    other.batch_execute(&touch).await.unwrap();
    assert!(store.load(&key(0), None).await.unwrap().record.is_some(), "it lived when the touch began");
    tokio::time::sleep(TTL + Duration::from_millis(50)).await;
    let commit = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        other.batch_execute("COMMIT").await.unwrap();
    };
    let (other_key, one_key) = (key(1), key(0));
    let (loaded, absent, ()) = tokio::join!(store.load(&one_key, None), store.load(&other_key, None), commit);
    assert!(loaded.unwrap().record.is_some(), "it was seen gone, and came back");
    assert!(absent.unwrap().record.is_none());
}

async fn one_row_is_locked(url: &str, mut other: impl SimpleAsyncConnection) {
    let store = open(url).await;
    let version = Version::start();
    let next = version.next();
    let receipts: Vec<_> = (0..SAVES).map(|_| Receipt::internal()).collect();
    for number in 0..SAVES {
        let saving = store.save(&key(number), &record(number, version), Precondition::Absent, None).await;
        assert_eq!(saving.unwrap(), SaveOutcome::Saved);
    }
    let lock = format!(
        "BEGIN; UPDATE faststate_records SET expires_at = NULL WHERE record_key = '{}'",
        key(BLOCKED)
    );
    other.batch_execute(&lock).await.unwrap();
    let saves = (0..SAVES).map(|number| {
        let (store, receipt) = (&store, &receipts[number]);
        async move {
            let (asked, expect) = (Instant::now(), Precondition::Version(version));
            let saving = store.save(&key(number), &record(number, next), expect, Some(receipt)).await;
            (number, saving, asked.elapsed())
        }
    });
    for (number, saving, elapsed) in join_all(saves).await {
        assert!(elapsed <= UNAVAILABLE_LIMIT, "{number}: the answer took {elapsed:?}");
        if number == BLOCKED {
            assert!(matches!(saving, Err(StoreError::Unavailable(_))), "{saving:?}");
        } else {
            assert_eq!(saving.unwrap(), SaveOutcome::Saved, "{number}");
        }
    }
    other.batch_execute("ROLLBACK").await.unwrap();
    // The outcome of the attempt is unknown; a load with its receipt reveals it.
    let (expect, receipt) = (Precondition::Version(version), &receipts[BLOCKED]);
    // The attempt may still reach the server: then this save comes second and is a conflict, and
    // the receipt shows which record is stored.
    store.save(&key(BLOCKED), &record(BLOCKED, next), expect, Some(receipt)).await.unwrap();
    let found = store.load(&key(BLOCKED), Some(receipt)).await.unwrap();
    assert_eq!((found.record, found.receipt.is_some()), (Some(record(BLOCKED, next)), true));
}

async fn a_receipt_comes_in_meanwhile(
    url: &str,
    mut other: impl SimpleAsyncConnection,
    before: &str,
    after: &str,
) {
    let store = open(url).await;
    let receipts: Vec<_> = (0..SAVES).map(|_| Receipt::internal()).collect();
    let digest = u128::from_be_bytes(*receipts[BLOCKED].as_bytes());
    // Not committed yet: loads find no record, and saves of the key wait.
    let insert = format!(
        "BEGIN; INSERT INTO faststate_receipts (digest, expires_at) VALUES ({before}{digest:032x}{after}, {})",
        i64::MAX
    );
    other.batch_execute(&insert).await.unwrap();
    let (others, mut saved) = tokio::sync::mpsc::unbounded_channel();
    let saves = (0..SAVES).map(|number| {
        let (store, receipt, others) = (&store, &receipts[number], others.clone());
        async move {
            let saving = store
                .save(&key(number), &record(number, Version::start()), Precondition::Absent, Some(receipt))
                .await;
            others.send(()).unwrap();
            saving
        }
    });
    let commit = async {
        for _ in 1..SAVES {
            saved.recv().await.unwrap();
        }
        other.batch_execute("COMMIT").await.unwrap();
    };
    let (savings, ()) = tokio::join!(join_all(saves), commit);
    for (number, saving) in savings.into_iter().enumerate() {
        let expected = if number == BLOCKED { SaveOutcome::Duplicate } else { SaveOutcome::Saved };
        assert_eq!(saving.unwrap(), expected, "{number}");
    }
    let found = store.load(&key(BLOCKED), None).await.unwrap().record;
    assert_eq!(found, None, "a duplicate saves nothing");
}

fn key(number: usize) -> Key {
    Key::new("thing", Scope::Record, None, Some(&number.to_string())).unwrap()
}

/// A record, which has messages if its number is odd.
fn record(number: usize, version: Version) -> Record {
    let record = Record::new(1, version, "1", None);
    if number.is_multiple_of(2) {
        return record;
    }
    let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    let pending = PendingMessages { data: "[1]".into(), waiting: 1, parked: 2, oldest: Some(at(3)) };
    Record { pending, due: Some(at(4)), ..record }
}
