//! PostgreSQL with several hosts in one address.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use faststate_core::{
    Key, Scope, Store, Version,
    store::{Precondition, Receipt, Record, SaveOutcome},
};
use faststate_store_diesel::{DieselStore, PostgresBroadcaster};
use faststate_tests::{Postgres, failovers};
use tokio::{task::block_in_place, time::sleep};

use crate::{load::Load, open::open};

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
    let record = Record::new(1, Version::start(), "{}", None);
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

#[tokio::test(flavor = "multi_thread")]
async fn law_01_postgres_failover_under_load_loses_nothing_acknowledged() {
    let mut primary = Postgres::start();
    let mut standby = Postgres::standby_of(&primary);
    let mut load = Load::start(&address([&primary, &standby]), Duration::ZERO).await;
    let mut checked = BTreeSet::new();
    for round in 0..failovers(2) {
        block_in_place(|| primary.wait_for_standby());
        load.goes_on(200).await;
        block_in_place(|| {
            primary.crash();
            standby.promote();
        });
        eprintln!("round {round}: every node is healthy {:?} after the promotion", load.healthy().await);
        load.goes_on(100).await;
        let acknowledged = load.acknowledged();
        let missing = load.missing(acknowledged.difference(&checked).copied()).await;
        assert!(missing.is_empty(), "round {round}: acknowledged and lost: {missing:?}");
        checked = acknowledged;
        block_in_place(|| primary.follow(&standby));
        (primary, standby) = (standby, primary);
    }
    load.stop().await;
    let missing = load.missing(load.acknowledged()).await;
    assert!(missing.is_empty(), "a later failover lost {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_postgres_failover_from_a_hanging_primary_takes_seconds() {
    for run in 0..failovers(1) {
        let primary = Postgres::start();
        let standby = Postgres::standby_of(&primary);
        block_in_place(|| primary.wait_for_standby());
        let mut load = Load::start(&address([&primary, &standby]), Duration::ZERO).await;
        load.fill_pools().await;
        load.goes_on(200).await;
        block_in_place(|| {
            primary.pause();
            standby.promote();
        });
        eprintln!("run {run}: every node is healthy {:?} after the promotion", load.healthy().await);
        load.goes_on(100).await;
        load.stop().await;
        let missing = load.missing(load.acknowledged()).await;
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
        // Otherwise it cannot be terminated.
        primary.resume();
    }
}
