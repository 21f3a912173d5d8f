//! The MySQL store, on MariaDB.

mod failover;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use diesel::sql_types::BigInt;
use diesel_async::{AsyncConnection as _, AsyncMysqlConnection, SimpleAsyncConnection as _};
use faststate_core::{
    EventId, Key, Scope, Store, Version,
    store::{Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::suites;
use faststate_tests::MariaDb;
use futures::future::join_all;

use crate::open::open;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mysql_keeps_its_promises() {
    let server = MariaDb::start();
    let url = server.url();
    let (a, b) = tokio::join!(open(&url), open(&url));
    suites::store::all(&a, &b).await.unwrap();
    let pass = async |time: Duration| {
        let sooner = format!("UPDATE faststate_receipts SET expires_at = expires_at - {}", time.as_millis());
        AsyncMysqlConnection::establish(&url).await.unwrap().batch_execute(&sooner).await.unwrap();
    };
    suites::store::receipt_is_kept_for_ten_minutes(&a, pass).await.unwrap();
    suites::store::message_receipt_is_kept_until_release(&a, pass).await.unwrap();
    let shown = format!("{a:?}");
    assert!(shown.contains("127.0.0.1") && !shown.contains("secret"), "{shown}");
}

/// The server's count of accepted connections.
async fn connections(admin: &mut AsyncMysqlConnection) -> i64 {
    use diesel_async::RunQueryDsl as _;
    let text = "SELECT CAST(variable_value AS SIGNED) AS count FROM information_schema.global_status
        WHERE variable_name = 'CONNECTIONS'";
    diesel::dsl::sql::<BigInt>(text).get_result(admin).await.unwrap()
}

fn key(id: &str) -> Key {
    Key::new("thing", Scope::Record, None, Some(id)).unwrap()
}

async fn save(store: &Arc<dyn Store>, id: &str, bytes: usize) -> Result<SaveOutcome, StoreError> {
    let data = "x".repeat(bytes);
    let record = Record::new(1, Version::start(), data, None);
    store.save(&key(id), &record, Precondition::Absent, Some(&Receipt::internal())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_a_server_error_costs_mysql_no_connection() {
    let server = MariaDb::with(&["--max-allowed-packet=65536"]);
    let store = open(&server.url()).await;
    let mut admin = AsyncMysqlConnection::establish(&server.admin_url()).await.unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON faststate_records FOR EACH ROW
        IF NEW.record_key LIKE '%refused%' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'; END IF";
    admin.batch_execute(refuse).await.unwrap();
    let warm = (0..64).map(|id| {
        let store = Arc::clone(&store);
        async move { save(&store, &format!("warm{id}"), 10).await.unwrap() }
    });
    join_all(warm).await;
    let before = connections(&mut admin).await;
    for round in 0..5 {
        // Alone, and in one transaction with other saves.
        let refused = save(&store, &format!("refused{round}"), 10).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        let saves = (0..32).map(|id| {
            let store = Arc::clone(&store);
            async move {
                let name = if id % 16 == 3 { "refused" } else { "kept" };
                save(&store, &format!("{name}{round}-{id}"), 10).await.is_ok() == (name == "kept")
            }
        });
        assert!(join_all(saves).await.into_iter().all(|as_expected| as_expected), "round {round}");
        let large = save(&store, &format!("large{round}"), 100_000).await;
        assert!(matches!(large, Err(StoreError::Refused(_))), "{large:?}");
    }
    assert_eq!(save(&store, "fits", 61_000).await.unwrap(), SaveOutcome::Saved);
    let opened = connections(&mut admin).await - before;
    assert!(opened <= 16, "{opened} connections were opened although none had failed");
}

#[tokio::test]
async fn law_03_mysql_clock_is_steady_when_daylight_saving_ends() {
    // In central Europe, an hour after midnight UTC: 02:00 to 03:00 occurs twice.
    const MIDNIGHT: i64 = 1_792_886_400;
    const TTL: Duration = Duration::from_secs(3 * 3600);
    let server = MariaDb::in_zone("CET-1CEST,M3.5.0,M10.5.0/3", &["--sysdate-is-now"]);
    open(&server.url()).await;
    let mut admin = AsyncMysqlConnection::establish(&server.admin_url()).await.unwrap();
    // A connection opened now keeps this session time.
    let mut at = async |seconds: i64| {
        let at = format!("SET GLOBAL init_connect = 'SET timestamp = {}'", MIDNIGHT + seconds);
        admin.batch_execute(&at).await.unwrap();
        open(&server.url()).await
    };
    let receipt = Receipt::new(&key("kept"), "event", &EventId::random());
    let due = SystemTime::UNIX_EPOCH + Duration::from_secs(MIDNIGHT.unsigned_abs() + 3_600);
    let record = Record { due: Some(due), ..Record::new(1, Version::start(), "{}", Some(TTL)) };
    let store = at(-10).await;
    assert_eq!(
        store.save(&key("kept"), &record, Precondition::Absent, Some(&receipt)).await.unwrap(),
        SaveOutcome::Saved
    );
    for seconds in [-5, 5, 300, 580, 1800, 3590, 3610, 5400, 7190, 7210, 10_000] {
        let store = at(seconds).await;
        let passed = Duration::from_secs(seconds.unsigned_abs()) + Duration::from_secs(10);
        let passed = if seconds < 0 { Duration::from_secs(5) } else { passed };
        let found = store.load(&key("kept"), Some(&receipt)).await.unwrap();
        let left = found.record.and_then(|record| record.ttl);
        assert_eq!(left, Some(TTL - passed), "{seconds} s after midnight");
        let is_due = !store.due(1).await.unwrap().keys.is_empty();
        assert_eq!(is_due, seconds >= 3_600, "{seconds} s after midnight");
        assert_eq!(found.receipt.is_some(), passed < Duration::from_secs(600), "{seconds} s after midnight");
        store.sweep(1000).await.unwrap();
    }
    let store = at(10_800).await;
    assert_eq!(store.load(&key("kept"), None).await.unwrap().record, None);
}

#[tokio::test]
async fn law_06_mysql_is_swept_by_one_node_at_a_time() {
    let server = MariaDb::start();
    let store = open(&server.url()).await;
    let mut admin = AsyncMysqlConnection::establish(&server.admin_url()).await.unwrap();
    let expired = "INSERT INTO faststate_receipts (digest, expires_at) VALUES ('a', 1), ('b', 1), ('c', 1)";
    admin.batch_execute(expired).await.unwrap();
    // As another node does while it sweeps.
    admin.batch_execute("DO GET_LOCK(CONCAT('faststate_sweep_', MD5(DATABASE())), 0)").await.unwrap();
    assert_eq!(store.sweep(2).await.unwrap(), 0);
    admin.batch_execute("DO RELEASE_LOCK(CONCAT('faststate_sweep_', MD5(DATABASE())))").await.unwrap();
    assert_eq!(store.sweep(2).await.unwrap(), 2);
    assert_eq!(store.sweep(2).await.unwrap(), 1);
    assert_eq!(store.sweep(2).await.unwrap(), 0);
}
