//! Messages, due times and their indexes in Redis.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use faststate_core::{
    EventId, Store,
    store::{PendingMessages, Precondition, Receipt, Record, SaveOutcome},
};
use faststate_testkit::suites;
use faststate_tests::{RedisCluster, RedisServer};
use futures::future::join_all;

use super::{connect, key, record};

/// A time in the past.
fn past(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

fn waiting(due: SystemTime) -> Record {
    let pending = PendingMessages { data: "[1]".into(), waiting: 1, parked: 2, oldest: Some(due) };
    Record { pending, due: Some(due), ..record("{}") }
}

async fn save(store: &Arc<dyn Store>, id: &str, record: &Record) {
    let saving = store.save(&key(id), record, Precondition::Absent, None).await.unwrap();
    assert_eq!(saving, SaveOutcome::Saved);
}

/// Shortens all remaining lifetimes, as if this time had passed.
fn pass(server: &RedisServer, time: Duration) {
    let script = "for _, key in ipairs(redis.call('KEYS', '*')) do \
                    local left = redis.call('PTTL', key) - ARGV[1] \
                    if redis.call('PTTL', key) >= 0 then redis.call('PEXPIRE', key, left) end \
                  end";
    let answer = server.command(&["EVAL", script, "0", &time.as_millis().to_string()]);
    assert!(!answer.starts_with('-'), "{answer}");
}

#[tokio::test]
async fn redis_keeps_receipts_for_minutes_or_until_release() {
    let server = RedisServer::start();
    let store = connect(server.url()).await;
    let pass = async |time| pass(&server, time);
    suites::store::receipt_is_kept_for_ten_minutes(&store, &pass).await.unwrap();
    suites::store::message_receipt_is_kept_until_release(&store, &pass).await.unwrap();
}

/// The permissions in the documentation suffice for every call.
#[tokio::test(flavor = "multi_thread")]
async fn documented_permissions_are_sufficient() {
    let server = RedisServer::start();
    let commands = "+evalsha +script|load +get +set +getrange +exists +del +pttl +pexpire +zadd +zrem +zrange \
                    +zrangebyscore +zrandmember +time +ping +hello +client";
    let user = ["ACL", "SETUSER", "app", "on", ">secret", "~test:*"];
    let words: Vec<_> = user.into_iter().chain(commands.split_whitespace()).collect();
    let answer = server.command(&words);
    assert!(answer.starts_with("+OK"), "{answer}");
    let store = connect(server.url().replace("redis://", "redis://app:secret@")).await;
    suites::store::all(&store, &store).await.unwrap();
}

#[tokio::test]
async fn record_of_the_previous_version_is_loaded_and_replaced() {
    let server = RedisServer::start();
    let store = connect(server.url()).await;
    let (first, second) = (record(r#"{"a": 1}"#), waiting(past(5)));
    let written = format!("{} 1 {}", first.version, r#"{"a": 1}"#);
    let _ = server.command(&["SET", "test:v1:{test/r/x}", &written]);
    let receipt = Receipt::new(&key("x"), "add", &EventId::random());
    let digest = format!("{:032x}", u128::from_be_bytes(*receipt.as_bytes()));
    let _ = server.command(&["SET", &format!("test:v1:{{test/r/x}}:{digest}"), "", "PX", "600000"]);

    let found = store.load(&key("x"), Some(&receipt)).await.unwrap();
    assert_eq!((found.record.as_ref(), found.receipt), (Some(&first), Some("".into())));
    let expect = Precondition::Version(first.version);
    let repeat = store.save(&key("x"), &second, expect, Some(&receipt)).await.unwrap();
    assert_eq!(repeat, SaveOutcome::Duplicate);
    let saving = store.save(&key("x"), &second, expect, None).await.unwrap();
    assert_eq!(saving, SaveOutcome::Saved);
    assert_eq!(store.due(10).await.unwrap().keys, [key("x")]);
    let expect = Precondition::Version(second.version);
    assert_eq!(store.save(&key("x"), &first, expect, None).await.unwrap(), SaveOutcome::Saved);
    // A record without messages has the format of the previous version again.
    assert!(server.command(&["GET", "test:v1:{test/r/x}"]).contains(&written));
    assert!(store.due(10).await.unwrap().keys.is_empty());
}

#[tokio::test]
async fn record_without_messages_touches_no_index() {
    let server = RedisServer::start();
    let store = connect(server.url()).await;
    let (first, next) = (record("{}"), record("{}"));
    let receipt = Receipt::new(&key("x"), "add", &EventId::random());
    save(&store, "x", &first).await;
    let expect = Precondition::Version(first.version);
    assert_eq!(store.save(&key("x"), &next, expect, Some(&receipt)).await.unwrap(), SaveOutcome::Saved);
    assert!(store.delete(&key("x"), next.version).await.unwrap());
    let calls = server.command(&["INFO", "commandstats"]);
    assert!(calls.contains("cmdstat_evalsha") && !calls.contains("cmdstat_z"), "{calls}");
}

#[tokio::test]
async fn index_forgets_records_that_were_removed() {
    let server = RedisServer::start();
    let store = connect(server.url()).await;
    let indexed = || {
        let count = |index| server.command(&["ZCARD", &format!("test:v1:{index}")]);
        (count("due"), count("oldest"))
    };
    let far = waiting(SystemTime::now() + Duration::from_secs(1_000_000));
    for id in ["deleted", "saved"] {
        save(&store, id, &far).await;
    }
    assert_eq!(indexed(), (":2\r\n".into(), ":2\r\n".into()));
    assert!(store.delete(&key("deleted"), far.version).await.unwrap());
    let quiet = Record::new(1, far.version.next(), "{}", None);
    let expect = Precondition::Version(far.version);
    assert_eq!(store.save(&key("saved"), &quiet, expect, None).await.unwrap(), SaveOutcome::Saved);
    assert_eq!(indexed(), (":0\r\n".into(), ":0\r\n".into()));

    for number in 0..10 {
        save(&store, &number.to_string(), &far).await;
    }
    // As if they had expired.
    for number in 1..10 {
        let _ = server.command(&["DEL", &format!("test:v1:{{test/r/{number}}}")]);
    }
    let _ = server.command(&["LPUSH", "test:v1:{test/r/1}", "something else"]);
    while store.sweep(3).await.unwrap() > 0 {}
    while store.sweep(1000).await.unwrap() > 0 {}
    assert_eq!(indexed(), (":1\r\n".into(), ":1\r\n".into()));
}

#[tokio::test]
async fn expired_records_do_not_hide_those_that_are_due() {
    const EXPIRED: usize = 2500;
    let server = RedisServer::start();
    let store = connect(server.url()).await;
    let saves = (0..EXPIRED).map(|number| {
        let (store, record) = (Arc::clone(&store), waiting(past(number as u64)));
        async move { save(&store, &number.to_string(), &record).await }
    });
    join_all(saves).await;
    for (id, due) in [("a", 9000), ("b", 8000)] {
        save(&store, id, &waiting(past(due))).await;
    }
    let all = store.pending(usize::MAX).await.unwrap();
    assert_eq!((all.waiting, all.parked, all.keys.len()), (2502, 5004, EXPIRED + 2));
    assert_eq!(store.due(usize::MAX).await.unwrap().keys.len(), EXPIRED + 2);
    for number in 0..EXPIRED {
        let _ = server.command(&["DEL", &format!("test:v1:{{test/r/{number}}}")]);
    }
    let left = store.pending(1).await.unwrap();
    assert_eq!((left.waiting, left.parked, left.keys), (2, 4, vec![key("b")]));
    assert_eq!(store.due(1).await.unwrap().keys, [key("b")]);
    assert_eq!(store.due(100).await.unwrap().keys, [key("b"), key("a")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn due_records_of_all_buckets_are_listed_in_order() {
    const RECORDS: u32 = 500;
    let cluster = RedisCluster::start();
    let store = connect(cluster.url()).await;
    let saves = (0..RECORDS).map(|number| {
        let (store, record) = (Arc::clone(&store), waiting(past(number.into())));
        async move { save(&store, &number.to_string(), &record).await }
    });
    join_all(saves).await;
    let keys: Vec<_> = (0..RECORDS).map(|number| key(&number.to_string())).collect();
    assert_eq!(store.due(1000).await.unwrap().keys, keys);
    assert_eq!(store.due(100).await.unwrap().keys, keys[..100]);
    let summary = store.pending(50).await.unwrap();
    assert_eq!((summary.waiting, summary.parked, &summary.keys[..]), (500, 1000, &keys[..50]));
    let receipts: Vec<_> = keys.iter().map(|key| (key.clone(), Receipt::message(key, 7))).collect();
    for (key, receipt) in &receipts {
        assert!(store.refuse(key, receipt, &"no".into()).await.unwrap());
    }
    store.release(&receipts).await.unwrap();
    assert_eq!(store.load(&keys[3], Some(&receipts[3].1)).await.unwrap().receipt, Some("no".into()));
    while store.sweep(1000).await.unwrap() > 0 {}
    assert_eq!(store.due(1000).await.unwrap().keys.len(), keys.len());
}
