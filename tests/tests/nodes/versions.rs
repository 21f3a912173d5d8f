//! Two versions of an application side by side, over real servers, while the newer replaces the older.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use faststate_core::{
    Access, Broadcaster, Context, Event, Key, ReactiveState, Registry as _, Rejection, Scope, StateConfig,
    StateRegistry, Store, Viewer,
    registry::{Applied, Call},
    wire::Input,
};
use faststate_store_diesel::{DieselStore, PostgresBroadcaster};
use faststate_store_redis::{RedisBroadcaster, RedisStore};
use faststate_tests::{Postgres, RedisServer};
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{sleep, timeout};

/// The older application.
mod older {
    use super::*;

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    pub(super) struct Poster {
        pub(super) count: u64,
    }

    impl ReactiveState for Poster {
        const NAME: &'static str = "poster";
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Add {}

    impl Event for Add {
        type State = Poster;
        const NAME: &'static str = "add";

        fn apply(&self, poster: &mut Poster, _: &mut Context<Poster>) -> Result<(), Rejection> {
            poster.count += 1;
            Ok(())
        }
    }
}

/// The newer application: a poster has a colour.
mod newer {
    use super::*;

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    pub(super) struct Poster {
        pub(super) count: u64,
        #[serde(default)]
        pub(super) colour: u64,
    }

    impl ReactiveState for Poster {
        const NAME: &'static str = "poster";
        const SCHEMA: u32 = 2;
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Add {}

    impl Event for Add {
        type State = Poster;
        const NAME: &'static str = "add";

        fn apply(&self, poster: &mut Poster, _: &mut Context<Poster>) -> Result<(), Rejection> {
            poster.count += 1;
            Ok(())
        }
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Paint {
        pub(super) colour: u64,
    }

    impl Event for Paint {
        type State = Poster;
        const NAME: &'static str = "paint";

        fn apply(&self, poster: &mut Poster, _: &mut Context<Poster>) -> Result<(), Rejection> {
            poster.colour = self.colour;
            Ok(())
        }
    }
}

async fn store(url: &str) -> Arc<dyn Store> {
    if url.starts_with("redis") {
        Arc::new(RedisStore::connect(url).await.unwrap())
    } else {
        Arc::new(DieselStore::postgres(url).await.unwrap())
    }
}

async fn broadcaster(url: &str) -> Arc<dyn Broadcaster> {
    if url.starts_with("redis") {
        Arc::new(RedisBroadcaster::connect(url).await.unwrap())
    } else {
        Arc::new(PostgresBroadcaster::connect(url).await.unwrap())
    }
}

fn config() -> StateConfig {
    StateConfig::global().access(Access::public()).persist()
}

async fn old_node(url: &str) -> Arc<StateRegistry> {
    let builder = StateRegistry::builder().store(store(url).await).broadcaster(broadcaster(url).await);
    builder.state::<older::Poster>(config(), |state| state.event::<older::Add>()).build().unwrap()
}

async fn new_node(url: &str) -> Arc<StateRegistry> {
    let builder = StateRegistry::builder().store(store(url).await).broadcaster(broadcaster(url).await);
    let events =
        builder.state::<newer::Poster>(config(), |state| state.event::<newer::Add>().event::<newer::Paint>());
    events.build().unwrap()
}

fn key() -> Key {
    Key::new("poster", Scope::Global, None, None).unwrap()
}

fn add(id: &str) -> Call {
    let input = Input::parse(None, None, b"").unwrap();
    Call::new(key(), "add", Viewer::application(), input).with_id(id.parse().unwrap())
}

/// The nodes among which a load balancer chooses.
type Nodes = Arc<Mutex<Vec<Arc<StateRegistry>>>>;

/// Adds repeatedly, each time until it is acknowledged; returns the numbers of additions and refusals.
async fn add_all(nodes: Nodes, writer: usize, enough: Arc<AtomicBool>) -> (u64, u64) {
    let (mut added, mut refused) = (0, 0);
    while !enough.load(Ordering::SeqCst) {
        let id = format!("{writer}-{added}");
        loop {
            let node = {
                let nodes = nodes.lock();
                Arc::clone(&nodes[rand::random_range(0..nodes.len())])
            };
            match timeout(Duration::from_secs(5), node.dispatch(add(&id))).await {
                Ok(Ok(_)) => break,
                _ => refused += 1,
            }
            sleep(Duration::from_millis(5)).await;
        }
        added += 1;
        sleep(Duration::from_millis(5)).await;
    }
    (added, refused)
}

async fn stored(store: &Arc<dyn Store>) -> (u32, Value) {
    let record = store.load(&key(), None).await.unwrap().record.expect("the record is stored");
    (record.schema, serde_json::from_slice(&record.data).unwrap())
}

async fn deploy(url: &str) {
    let nodes: Nodes = Arc::default();
    for _ in 0..3 {
        let node = old_node(url).await;
        nodes.lock().push(node);
    }
    let enough = Arc::<AtomicBool>::default();
    let writers: Vec<_> =
        (0..6).map(|writer| tokio::spawn(add_all(Arc::clone(&nodes), writer, Arc::clone(&enough)))).collect();
    let (store, last_old) = (store(url).await, Arc::clone(&nodes.lock()[2]));
    let mut colour = 0;
    for slot in 0..3 {
        sleep(Duration::from_millis(300)).await;
        let newer = new_node(url).await;
        let older = std::mem::replace(&mut nodes.lock()[slot], Arc::clone(&newer));
        for _ in 0..20 {
            colour += 1;
            let painted = newer.global::<newer::Poster>().unwrap().send(newer::Paint { colour }).await;
            assert_eq!(painted.unwrap().answer, Applied::Changed);
            // No addition made in the meantime is lost, on either version.
            let (schema, poster) = stored(&store).await;
            assert_eq!((schema, &poster["colour"]), (2, &Value::from(colour)), "{poster}");
            sleep(Duration::from_millis(10)).await;
        }
        // The older version can still show the state that it must not change any more.
        let shown = last_old.global::<older::Poster>().unwrap().read().await.unwrap().count;
        assert!(shown > 0);
        assert!(last_old.dispatch(add(&format!("refused-{slot}"))).await.is_err());
        older.settle().await;
    }
    enough.store(true, Ordering::SeqCst);
    let (mut added, mut refused) = (0, 0);
    for writer in join_all(writers).await {
        let (more, again) = writer.unwrap();
        (added, refused) = (added + more, refused + again);
    }
    let (schema, poster) = stored(&store).await;
    eprintln!(
        "a deploy under load: {added} added, {refused} refused by the older version and sent again, {poster}"
    );
    assert_eq!((schema, &poster["count"], &poster["colour"]), (2, &added.into(), &colour.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_01_what_a_newer_version_wrote_is_not_lost_by_an_older_one_beside_it() {
    let (redis, postgres) = (RedisServer::start(), Postgres::start());
    deploy(&redis.url()).await;
    deploy(&postgres.url()).await;
}
