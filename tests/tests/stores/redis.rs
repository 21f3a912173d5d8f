//! The Redis store.

mod failover;
mod messages;
mod outage;
mod tls;

use std::{error::Error as _, sync::Arc};

use faststate_core::{
    EventId, Key, Scope, Store, Version,
    store::{Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_store_redis::{Durability, RedisStore};
use faststate_testkit::suites;
use faststate_tests::RedisServer;
use futures::future::join_all;

use crate::{
    burst::{Burst, once},
    ledger::Ledgers,
};

/// The messages of an error and of its sources.
fn explain(error: &StoreError) -> String {
    let mut text = format!("{error:?}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

async fn connect(url: String) -> Arc<dyn Store> {
    Arc::new(RedisStore::builder(url).prefix("test").connect().await.unwrap())
}

fn key(id: &str) -> Key {
    Key::new("test", Scope::Record, None, Some(id)).unwrap()
}

fn record(data: &str) -> Record {
    Record::new(1, Version::start(), data.to_owned(), None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_a_stores_promises() {
    let server = RedisServer::start();
    let (a, b) = (connect(server.url()).await, connect(server.url()).await);
    suites::store::all(&a, &b).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_what_is_acknowledged_survives_that_redis_is_killed() {
    let mut server = RedisServer::start();
    for round in 0..5 {
        let ledgers = Ledgers::new(connect(server.url()).await);
        let burst = Burst::start(&ledgers, 16);
        burst.goes_on(100).await;
        tokio::task::block_in_place(|| server.kill());
        let acknowledged = burst.stop().await;
        tokio::task::block_in_place(|| server.restart());
        let ledgers = Ledgers::new(connect(server.url()).await);
        let mut stored = Vec::new();
        for id in 0..8 {
            stored.extend(ledgers.entries(&id.to_string()).await);
        }
        once(&stored);
        assert!(acknowledged.iter().all(|id| stored.contains(id)), "lost in round {round}");
        let _ = server.command(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn law_11_two_prefixes_are_two_stores() {
    let server = RedisServer::start();
    let a = RedisStore::builder(server.url()).prefix("a").connect().await.unwrap();
    let b = RedisStore::builder(server.url()).prefix("b").connect().await.unwrap();
    let receipt = Receipt::new(&key("x"), "add", &EventId::random());
    for store in [&a, &b] {
        let saving =
            store.save(&key("x"), &record("{}"), Precondition::Absent, Some(&receipt)).await.unwrap();
        assert_eq!(saving, SaveOutcome::Saved);
    }
    let keys = server.command(&["KEYS", "*"]);
    assert!(keys.contains("a:v1:{test/r/x}\r\n") && keys.contains("b:v1:{test/r/x}:"), "{keys}");
    let wrong = RedisStore::builder(server.url()).prefix("a:b").connect().await.unwrap_err();
    assert!(matches!(wrong, StoreError::Refused(_)), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_redis_forgot_are_loaded_again() {
    let server = RedisServer::start();
    let store = connect(server.url()).await;
    for round in 0..3 {
        let _ = server.command(&["SCRIPT", "FLUSH"]);
        let saves = (0..100).map(|at| {
            let (store, key) = (Arc::clone(&store), key(&format!("{round}-{at}")));
            async move { store.save(&key, &record("{}"), Precondition::Absent, None).await.unwrap() }
        });
        assert!(join_all(saves).await.iter().all(|saving| *saving == SaveOutcome::Saved));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_saves_share_pipelines() {
    let server = RedisServer::start();
    let store = connect(server.url()).await;
    let polls = |info: &str| -> u64 {
        let line = info.lines().find(|line| line.starts_with("total_reads_processed:")).unwrap();
        line.split_once(':').unwrap().1.parse().unwrap()
    };
    let before = polls(&server.command(&["INFO", "stats"]));
    let saves = (0..1000).map(|at| {
        let (store, key) = (Arc::clone(&store), key(&at.to_string()));
        async move { store.save(&key, &record("{}"), Precondition::Absent, None).await.unwrap() }
    });
    join_all(saves).await;
    let reads = polls(&server.command(&["INFO", "stats"])) - before;
    assert!(reads < 100, "1000 saves took Redis {reads} reads");
}

#[tokio::test]
async fn law_01_the_settings_are_looked_at_and_told() {
    let durability = async |settings: &[&str]| {
        let server = RedisServer::with(settings);
        RedisStore::connect(server.url()).await.unwrap().durability().clone()
    };
    let always = ["--appendonly", "yes", "--appendfsync", "always"];
    assert_eq!(durability(&always).await, Durability::Synced);
    let Durability::Weaker(reasons) =
        durability(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await
    else {
        panic!("Redis' own defaults do not keep law 1");
    };
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    let hidden = [&always[..], &["--rename-command", "CONFIG", ""]].concat();
    assert_eq!(durability(&hidden).await, Durability::Unknown);
}

#[tokio::test]
async fn a_full_redis_says_so_and_changes_nothing() {
    let server = RedisServer::with(&["--maxmemory", "1"]);
    let store = connect(server.url()).await;
    let receipt = Receipt::new(&key("x"), "add", &EventId::random());
    let refused = store.save(&key("x"), &record("{}"), Precondition::Absent, Some(&receipt)).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    let _ = server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let found = store.load(&key("x"), Some(&receipt)).await.unwrap();
    assert!(found.record.is_none() && found.receipt.is_none());
}

#[tokio::test]
async fn what_somebody_else_wrote_is_an_error_and_stays() {
    let server = RedisServer::start();
    let store = connect(server.url()).await;
    let _ = server.command(&["SET", "test:v1:{test/r/x}", "something else"]);
    let _ = server.command(&["LPUSH", "test:v1:{test/r/y}", "something else"]);
    let corrupt = store.load(&key("x"), None).await;
    assert!(matches!(corrupt, Err(StoreError::Corrupt { .. })), "{corrupt:?}");
    let refused = store.load(&key("y"), None).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    for id in ["x", "y"] {
        let saving = store.save(&key(id), &record("{}"), Precondition::Absent, None).await.unwrap();
        assert_eq!(saving, SaveOutcome::Conflict);
    }
}

#[tokio::test]
async fn no_password_is_shown_and_a_wrong_one_is_refused() {
    let server = RedisServer::with(&["--requirepass", "s3cret"]);
    let url = |password: &str| format!("redis://:{password}@{}", server.address());
    let builder = RedisStore::builder(url("s3cret"));
    assert!(!format!("{builder:?}").contains("s3cret"));
    let store = builder.connect().await.unwrap();
    assert!(!format!("{store:?}").contains("s3cret"));
    let refused = RedisStore::connect(url("wr0ng")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    assert!(!format!("{refused:?}").contains("wr0ng"));
    let nonsense = RedisStore::connect("http://s3cret@nowhere").await.unwrap_err();
    assert!(matches!(nonsense, StoreError::Refused(_)), "{nonsense:?}");
    assert!(!format!("{nonsense:?}").contains("s3cret"));
}
