//! PostgreSQL with several hosts in one address.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use faststate_core::{
    Key, Scope, Store, Version,
    store::{Precondition, Receipt, Record, SaveOutcome},
};
use faststate_store_diesel::{DieselStore, PostgresBroadcaster};
use faststate_tests::Postgres;
use tokio::{
    task::{JoinSet, block_in_place},
    time::sleep,
};

use crate::{failover::rounds, open::open};

/// The time within which the store uses the successor.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// The address of these servers, in this order.
fn address(servers: [&Postgres; 2]) -> String {
    let [a, b] = servers.map(|server| server.address().to_string());
    format!("postgres://faststate:secret@{a},{b}/postgres?target_session_attrs=read-write")
}

async fn set_read_only(server: &Postgres, read_only: bool) {
    let mut admin = AsyncPgConnection::establish(&server.url()).await.unwrap();
    let setting = format!("ALTER SYSTEM SET default_transaction_read_only = {read_only}");
    for statement in ["SET default_transaction_read_only = off", &setting, "SELECT pg_reload_conf()"] {
        admin.batch_execute(statement).await.unwrap();
    }
    let is_read_only = async || {
        let mut admin = AsyncPgConnection::establish(&server.url()).await.unwrap();
        admin.batch_execute("CREATE TABLE IF NOT EXISTS probe ()").await.is_err()
    };
    while is_read_only().await != read_only {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Saves a record; returns whether the save succeeded.
async fn saves(store: &dyn Store, id: usize) -> bool {
    let key = Key::new("host", Scope::Record, None, Some(&id.to_string())).unwrap();
    let record = Record { schema: 1, version: Version::start(), data: "{}".into(), ttl: None };
    let saved = store.save(&key, &record, Precondition::Absent, Some(&Receipt::internal())).await;
    matches!(saved, Ok(SaveOutcome::Saved))
}

async fn records(server: &Postgres) -> i64 {
    use diesel_async::RunQueryDsl as _;
    let mut admin = AsyncPgConnection::establish(&server.url()).await.unwrap();
    let count = diesel::dsl::sql::<diesel::sql_types::BigInt>("SELECT count(*) FROM faststate_records");
    count.get_result(&mut admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_uses_the_first_host_that_accepts_writes() {
    let (reader, writer) = (Postgres::start(), Postgres::start());
    open(&reader.url()).await;
    set_read_only(&reader, true).await;
    let store = open(&address([&reader, &writer])).await;
    assert!(saves(&*store, 1).await);
    assert_eq!((records(&reader).await, records(&writer).await), (0, 1));
    PostgresBroadcaster::connect(address([&reader, &writer])).await.unwrap();

    // A host that is dead, and one that hangs.
    let dead = address([&reader, &writer]).replace(&reader.address().to_string(), "127.0.0.1:1");
    assert!(saves(&*open(&dead).await, 2).await);
    reader.pause();
    let store = open(&address([&reader, &writer])).await;
    assert!(saves(&*store, 3).await);
    PostgresBroadcaster::connect(address([&reader, &writer])).await.unwrap();
    reader.resume();

    // No host accepts writes.
    set_read_only(&writer, true).await;
    let error = DieselStore::postgres(address([&reader, &writer])).await.unwrap_err();
    assert!(error.is_temporary() && format!("{error:?}").contains("does not allow writes"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_postgres_store_finds_the_promoted_host() {
    let (first, second) = (Postgres::start(), Postgres::start());
    for server in [&first, &second] {
        open(&server.url()).await;
    }
    set_read_only(&second, true).await;
    let store = open(&address([&first, &second])).await;
    let mut id = 0;
    for (old, new) in [(&first, &second), (&second, &first), (&first, &second)] {
        id += 1;
        assert!(saves(&*store, id).await);
        set_read_only(old, true).await;
        set_read_only(new, false).await;
        let since = Instant::now();
        loop {
            id += 1;
            if saves(&*store, id).await {
                break;
            }
            assert!(
                since.elapsed() < FAILOVER_TIMEOUT,
                "{FAILOVER_TIMEOUT:?} after the promotion nothing is saved"
            );
            sleep(Duration::from_millis(20)).await;
        }
        eprintln!("saved {:?} after the promotion", since.elapsed());
        store.ping().await.unwrap();
    }
}

/// Tasks that save records, and the ids of those that were acknowledged.
struct Load {
    acknowledged: Arc<Mutex<Vec<usize>>>,
    _tasks: JoinSet<()>,
}

impl Load {
    fn start(store: &Arc<dyn Store>, next: &Arc<AtomicUsize>) -> Self {
        let acknowledged = Arc::<Mutex<Vec<usize>>>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (store, next, all) = (Arc::clone(store), Arc::clone(next), Arc::clone(&acknowledged));
            tasks.spawn(async move {
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    if saves(&*store, id).await {
                        all.lock().unwrap().push(id);
                    } else {
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            });
        }
        Self { acknowledged, _tasks: tasks }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until this many more saves are acknowledged; returns the duration.
    async fn goes_on(&self, saves: usize, within: Duration) -> Duration {
        let (since, target) = (Instant::now(), self.count() + saves);
        while self.count() < target {
            assert!(since.elapsed() < within, "only {} of {target} saves", self.count());
            sleep(Duration::from_millis(5)).await;
        }
        since.elapsed()
    }
}

/// Makes the primary wait for its standby before it acknowledges a commit.
async fn wait_for_standby(primary: &Postgres) {
    let mut admin = AsyncPgConnection::establish(&primary.url()).await.unwrap();
    for statement in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
        admin.batch_execute(statement).await.unwrap();
    }
    let is_synchronous = "DO $$ BEGIN ASSERT EXISTS
        (SELECT FROM pg_stat_replication WHERE sync_state = 'sync'); END $$";
    let since = Instant::now();
    while admin.batch_execute(is_synchronous).await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(20), "the standby does not follow");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_postgres_failover_under_load_loses_nothing_acknowledged() {
    let mut primary = Postgres::start();
    let mut standby = Postgres::standby_of(&primary);
    let address = address([&primary, &standby]);
    let store = open(&address).await;
    let next = Arc::new(AtomicUsize::new(0));
    for round in 0..rounds() {
        wait_for_standby(&primary).await;
        let load = Load::start(&store, &next);
        load.goes_on(200, Duration::from_secs(20)).await;
        block_in_place(|| primary.crash());
        let mut admin = AsyncPgConnection::establish(&standby.url()).await.unwrap();
        admin.batch_execute("SELECT pg_promote()").await.unwrap();
        let took = load.goes_on(1, FAILOVER_TIMEOUT).await;
        eprintln!("round {round}: saved {took:?} after the promotion");
        load.goes_on(100, Duration::from_secs(20)).await;
        // A cold pool reaches the new primary as well.
        assert!(saves(&*open(&address).await, next.fetch_add(1, Ordering::Relaxed)).await);
        let acknowledged = load.acknowledged.lock().unwrap().clone();
        drop(load);
        for id in acknowledged {
            assert!(loads(&*store, id).await, "round {round}: save {id} was acknowledged and is lost");
        }
        block_in_place(|| primary.follow(&standby));
        (primary, standby) = (standby, primary);
    }
}

async fn loads(store: &dyn Store, id: usize) -> bool {
    let key = Key::new("host", Scope::Record, None, Some(&id.to_string())).unwrap();
    store.load(&key, None).await.unwrap().record.is_some()
}
