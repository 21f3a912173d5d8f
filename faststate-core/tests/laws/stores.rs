//! States and their stores: names, schemas, sweeping, health.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Access, BoxError, Error, Handle, Key, MemoryStore, ReactiveState, Registry as _, Scope, SessionId,
    StateConfig, StateRegistry, Store, Version, Viewer,
    store::{Precondition, Record, StoreError},
};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::sleep;

/// A name, which was `{"first":..,"last":..}` in schema 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Name {
    whole: String,
}

impl ReactiveState for Name {
    const NAME: &'static str = "name";
    const SCHEMA: u32 = 2;

    fn migrate(from: u32, data: &mut Value) -> Result<(), BoxError> {
        assert_eq!(from, 1);
        let part = |name: &str| data.get(name).and_then(Value::as_str).ok_or("a part is missing");
        *data = serde_json::json!({ "whole": format!("{} {}", part("first")?, part("last")?) });
        Ok(())
    }
}

macro_rules! tally {
    ($type:ident, $name:literal) => {
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        struct $type {
            count: u32,
        }

        impl ReactiveState for $type {
            const NAME: &'static str = $name;
        }

        impl AsMut<u32> for $type {
            fn as_mut(&mut self) -> &mut u32 {
                &mut self.count
            }
        }
    };
}

tally!(Kept, "kept");
tally!(Cached, "cached");
tally!(Fleeting, "fleeting");

async fn add<S: ReactiveState + AsMut<u32>>(tally: &Handle<S>) -> Result<(), Error> {
    let one_more = |state: &mut S| {
        *state.as_mut() += 1;
        Ok(())
    };
    tally.update(one_more).await.map(drop)
}

fn global() -> StateConfig {
    StateConfig::global().access(Access::public())
}

#[tokio::test(start_paused = true)]
async fn state_is_saved_in_the_store_that_it_names() {
    let memories: [Arc<dyn Store>; 2] = std::array::from_fn(|_| Arc::new(MemoryStore::new()) as _);
    let stores = memories.clone().map(FaultyStore::new);
    let registry = StateRegistry::builder()
        .store(Arc::clone(&stores[0]))
        .store_named("cache", Arc::clone(&stores[1]))
        .state::<Kept>(global().persist(), |state| state)
        .state::<Cached>(global().persist_in("cache"), |state| state)
        .state::<Fleeting>(global(), |state| state)
        .build()
        .unwrap();
    let (kept, cached) = (registry.global::<Kept>().unwrap(), registry.global::<Cached>().unwrap());
    let fleeting = registry.global::<Fleeting>().unwrap();
    for _ in 0..2 {
        add(&kept).await.unwrap();
        add(&cached).await.unwrap();
        add(&fleeting).await.unwrap();
    }
    for (at, memory) in memories.iter().enumerate() {
        for (key, home) in [(kept.key(), 0), (cached.key(), 1), (fleeting.key(), 2)] {
            assert_eq!(memory.load(key, None).await.unwrap().record.is_some(), at == home, "{key} in {at}");
        }
    }

    stores[0].set(StoreFault::Slow(Duration::from_millis(300)));
    stores[1].set(StoreFault::Hang);
    let health = registry.health().await;
    let seen: Vec<_> = health.stores.iter().map(|store| (&*store.name, store.healthy)).collect();
    assert_eq!(seen, [("cache", false), ("default", true), ("memory", true)]);
    let latency: Vec<_> = health.stores.iter().map(|store| store.latency_ms).collect();
    assert!((2000.0..2010.0).contains(&latency[0]) && (300.0..310.0).contains(&latency[1]), "{latency:?}");
    assert!(latency[2] < 10.0 && !health.is_healthy());
    stores[0].set(StoreFault::None);
    assert!(add(&cached).await.is_err());
    add(&kept).await.unwrap();
    add(&fleeting).await.unwrap();
}

#[tokio::test]
async fn older_record_is_upgraded_on_load_and_saved_by_the_next_change() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let config = StateConfig::record().access(Access::public()).persist();
    let registry = StateRegistry::builder()
        .store(Arc::clone(&memory))
        .state::<Name>(config, |state| state.initial(|_| async { Some(Name::default()) }))
        .build()
        .unwrap();
    let old = |data: &'static str| Record::new(1, Version::start(), data, None);
    let key = |id| Key::new("name", Scope::Record, None, Some(id)).unwrap();
    memory
        .save(&key("ada"), &old(r#"{"first":"Ada","last":"Lovelace"}"#), Precondition::Absent, None)
        .await
        .unwrap();
    memory.save(&key("bad"), &old(r#"{"first":"Ada"}"#), Precondition::Absent, None).await.unwrap();

    let ada = registry.record::<Name>("ada").unwrap();
    assert_eq!(ada.read().await.unwrap().whole, "Ada Lovelace");
    let louder = |name: &mut Name| {
        name.whole.push('!');
        Ok(())
    };
    ada.update(louder).await.unwrap();
    let stored = memory.load(&key("ada"), None).await.unwrap().record.unwrap();
    assert_eq!((stored.schema, &*stored.data), (2, &br#"{"whole":"Ada Lovelace!"}"#[..]));

    let bad = registry.record::<Name>("bad").unwrap();
    let error = bad.read().await.unwrap_err();
    let Error::Unavailable(error @ StoreError::Corrupt { .. }) = error else { panic!("{error:?}") };
    assert!(!error.is_temporary() && format!("{error:?}").contains("a part is missing"), "{error:?}");
    assert!(bad.update(louder).await.is_err());
    let stored = memory.load(&key("bad"), None).await.unwrap().record.unwrap();
    assert_eq!(&*stored.data, br#"{"first":"Ada"}"#, "an unreadable record is not overwritten");
}

#[tokio::test(start_paused = true)]
async fn expired_records_make_room_without_a_call() {
    let registry = StateRegistry::builder()
        .store(MemoryStore::with_limits(5, 5))
        .state::<Kept>(StateConfig::session().persist().ttl(Duration::from_secs(1)), |state| state)
        .build()
        .unwrap();
    let session = |byte| {
        let viewer = Viewer::session(SessionId::from_bytes([byte; 16]));
        registry.handle::<Kept>(&viewer, None).unwrap()
    };
    for round in 0..3 {
        for at in 0..5 {
            add(&session(round * 5 + at)).await.unwrap();
        }
        let full = add(&session(100)).await;
        assert!(matches!(full, Err(Error::Unavailable(StoreError::Full(_)))), "{full:?}");
        sleep(Duration::from_secs(60)).await;
    }
}
