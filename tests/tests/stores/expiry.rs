//! Expiry and deletion of records, also on machines whose clocks differ.

use std::{process::Command, sync::Arc, time::Duration};

use faststate_core::{
    Access, Handle, Key, ReactiveState, Registry as _, Scope, StateConfig, StateRegistry, Store, Version,
    internal::TopicName,
    store::{Precondition, Record, SaveOutcome},
};
use faststate_tests::{Folder, MariaDb, Postgres, RedisServer, shift_clock};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{open::open, window::Window};

const TTL: Duration = Duration::from_millis(800);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tally {
    count: u32,
}

impl ReactiveState for Tally {
    const NAME: &'static str = "tally";
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_what_ends_in_sqlite_starts_over_for_who_follows() {
    let folder = Folder::new("sqlite");
    starts_over(open(&format!("sqlite://{}", folder.join("expiry.db").display())).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_what_ends_in_postgres_starts_over_for_who_follows() {
    let server = Postgres::start();
    starts_over(open(&server.url()).await).await;
    clocks_do_not_matter(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_what_ends_in_mysql_starts_over_for_who_follows() {
    let server = MariaDb::start();
    starts_over(open(&server.url()).await).await;
    clocks_do_not_matter(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_what_ends_in_redis_starts_over_for_who_follows() {
    let server = RedisServer::start();
    starts_over(open(&server.url()).await).await;
    clocks_do_not_matter(&server.url()).await;
}

fn registry(store: &Arc<dyn Store>) -> Arc<StateRegistry> {
    let config = StateConfig::global().access(Access::public()).persist().ttl(TTL);
    StateRegistry::builder().store(Arc::clone(store)).state::<Tally>(config, |state| state).build().unwrap()
}

async fn add(tally: &Handle<Tally>) -> Version {
    let one_more = |tally: &mut Tally| {
        tally.count += 1;
        Ok(())
    };
    tally.update(one_more).await.unwrap().version
}

/// Whether the store contains the record, whatever the registry caches.
async fn is_stored(store: &Arc<dyn Store>, tally: &Handle<Tally>) -> bool {
    store.load(tally.key(), None).await.unwrap().record.is_some()
}

async fn starts_over(store: Arc<dyn Store>) {
    let registry = registry(&store);
    let tally = registry.global::<Tally>().unwrap();
    let topic = TopicName::signals("tally");

    // A followed record does not expire.
    let mut epoch = add(&tally).await.epoch;
    let mut window = Window::open(&registry, topic.clone()).await;
    let began = Instant::now();
    while began.elapsed() < 3 * TTL {
        assert!(is_stored(&store, &tally).await, "it expired although it is followed");
        sleep(TTL / 20).await;
    }
    assert_eq!(window.cursor().epoch, epoch);

    // Without followers and events it expires; a returning page shows that, and later changes.
    window.disconnect();
    while is_stored(&store, &tally).await {
        assert!(began.elapsed() < 20 * TTL, "it is still stored although it is unused");
        sleep(TTL / 20).await;
    }
    window.connect(&registry).await;
    window.shows(&json!({ "count": 0 })).await;
    assert_ne!(window.cursor().epoch, epoch);
    epoch = window.cursor().epoch;
    assert_eq!(add(&tally).await.epoch, epoch);
    window.shows(&json!({ "count": 1 })).await;

    // After a deletion, by the registry or directly in the store, an open stream shows the new instance.
    tally.delete().await.unwrap();
    window.shows(&json!({ "count": 0 })).await;
    assert_ne!(window.cursor().epoch, epoch);
    let version = add(&tally).await;
    window.shows(&json!({ "count": 1 })).await;
    assert!(store.delete(tally.key(), version).await.unwrap());
    window.shows(&json!({ "count": 0 })).await;
    assert_ne!(window.cursor().epoch, version.epoch);
    registry.settle().await;
}

/// Another process whose clock is one hour off observes the same lifetimes.
async fn clocks_do_not_matter(url: &str) {
    let store = open(url).await;
    for offset in ["+1h", "-1h"] {
        let record = Record::new(1, Version::start(), "{}", Some(4 * TTL));
        let saving = store.save(&key("ours", offset), &record, Precondition::Absent, None).await.unwrap();
        assert_eq!(saving, SaveOutcome::Saved);
        let mut other = Command::new(std::env::current_exe().unwrap());
        other
            .args(["--ignored", "--exact", "expiry::an_application_in_another_time", "--nocapture"])
            .env("FASTSTATE_CLOCK_URL", url)
            .env("FASTSTATE_CLOCK_OFFSET", offset);
        shift_clock(&mut other, offset);
        let other = other.output().unwrap();
        let said = String::from_utf8_lossy(&other.stdout).into_owned();
        assert!(other.status.success(), "{offset}: {said}{}", String::from_utf8_lossy(&other.stderr));
        // The records that the other process saved, touched and let expire.
        let left = async |id: &str| {
            let record = store.load(&key(id, offset), None).await.unwrap().record;
            record.and_then(|record| record.ttl)
        };
        assert!(left("theirs").await.is_some_and(|left| left <= Duration::from_secs(60)), "{offset}");
        assert!(left("ours").await.is_some_and(|left| left > Duration::from_secs(30)), "{offset}");
        assert_eq!(left("short").await, None, "{offset}");
        while store.sweep(1000).await.unwrap() > 0 {}
        assert!(left("theirs").await.is_some(), "{offset}");
    }
}

fn key(id: &str, offset: &str) -> Key {
    Key::new("clock", Scope::Record, None, Some(&format!("{id}{offset}"))).unwrap()
}

#[tokio::test]
#[ignore = "it is what another test starts"]
async fn an_application_in_another_time() {
    let offset = std::env::var("FASTSTATE_CLOCK_OFFSET").expect("it is started by the other tests");
    let ours = std::fs::metadata("/proc/self").unwrap().modified().unwrap();
    let apart = std::time::SystemTime::now().duration_since(ours).unwrap_or_else(|early| early.duration());
    assert!(apart > Duration::from_secs(3000), "this clock is right: {apart:?}");

    let store = open(&std::env::var("FASTSTATE_CLOCK_URL").unwrap()).await;
    let found = store.load(&key("ours", &offset), None).await.unwrap().record.expect("it still lives");
    assert!(found.ttl.is_some_and(|left| left <= 4 * TTL), "{:?}", found.ttl);
    assert!(store.touch(&key("ours", &offset), Duration::from_secs(60)).await.unwrap());
    let new = |ttl| Record::new(1, Version::start(), "{}", Some(ttl));
    for (id, ttl) in [("theirs", Duration::from_secs(60)), ("short", Duration::from_millis(50))] {
        let saving = store.save(&key(id, &offset), &new(ttl), Precondition::Absent, None).await.unwrap();
        assert_eq!(saving, SaveOutcome::Saved);
    }
    while store.sweep(1000).await.unwrap() > 0 {}
    let began = Instant::now();
    while store.load(&key("short", &offset), None).await.unwrap().record.is_some() {
        assert!(began.elapsed() < Duration::from_secs(5), "it does not expire");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(store.load(&key("theirs", &offset), None).await.unwrap().record.is_some());

    // Records are due by the store's clock.
    let due = store.due(0).await.unwrap().now + Duration::from_millis(500);
    let record = Record { due: Some(due), ..new(Duration::from_secs(60)) };
    let (timer, began) = (key("timer", &offset), Instant::now());
    let saving = store.save(&timer, &record, Precondition::Absent, None).await.unwrap();
    assert_eq!(saving, SaveOutcome::Saved);
    while !store.due(10).await.unwrap().keys.contains(&timer) {
        assert!(began.elapsed() < Duration::from_secs(5), "it is not due");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(400), "it is due after {:?}", began.elapsed());
    assert!(store.delete(&timer, record.version).await.unwrap());
}
