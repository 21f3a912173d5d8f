//! A server is demoted while connections to it stay open: calls fail in time, and later calls reach its successor.
//!
//! `FASTSTATE_FAILOVERS=20 cargo test -p faststate-tests --test stores --test nodes failover -- --test-threads=1` runs
//! all failovers 20 times: these, those under load (`hosts`, `mysql::failover`, `redis::failover`), and those of the
//! broadcasters (in the test `nodes`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diesel_async::{
    AsyncConnection as _, AsyncMysqlConnection, AsyncPgConnection, SimpleAsyncConnection as _,
};
use faststate_core::{
    Broadcaster as _, Key, Scope, Store, Version,
    store::{CircuitBreaker, Precondition, Receipt, Record, SaveOutcome},
};
use faststate_store_diesel::PostgresBroadcaster;
use faststate_tests::{Cable, MariaDb, Postgres, RedisServer, failovers};
use futures::future::join_all;
use tokio::time::sleep;

use crate::open::open;

/// The time within which the store uses the successor.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(3);

fn key(id: &impl ToString) -> Key {
    Key::new("failover", Scope::Record, None, Some(&id.to_string())).unwrap()
}

fn record() -> Record {
    Record::new(1, Version::start(), "{}", None)
}

/// Saves once with a receipt; returns whether the save succeeded.
async fn saves(store: &dyn Store, id: usize) -> bool {
    let receipt = Receipt::internal();
    matches!(
        store.save(&key(&id), &record(), Precondition::Absent, Some(&receipt)).await,
        Ok(SaveOutcome::Saved)
    )
}

/// Opens the store through `cable`, uses it first if `warm`, demotes its server, and measures the time until saves, loads
/// and pings succeed at the successor.
async fn fails_over(
    through: &str,
    cable: &Cable,
    warm: bool,
    demote: impl AsyncFn(bool),
    servers: (std::net::SocketAddr, std::net::SocketAddr),
) {
    let bare = open(through).await;
    let store = CircuitBreaker::new(Arc::clone(&bare));
    if warm {
        let calls = join_all((0..64).map(|id| saves(&store, id)));
        let loads = join_all((0..64).map(|id| {
            let store = &store;
            async move { store.load(&key(&id), None).await.is_ok() }
        }));
        let (saved, loaded) = tokio::join!(calls, loads);
        assert!(saved.into_iter().chain(loaded).all(|done| done), "the server was well before");
    }
    demote(true).await;
    assert!(bare.ping().await.is_err(), "a server that cannot write is not well");
    // Calls fail in the meantime.
    let failed = join_all((100..116).map(|id| saves(&store, id))).await;
    assert!(failed.into_iter().all(|done| !done), "a demoted server saved something");
    cable.lead_to(servers.1);
    let since = Instant::now();
    let mut id = 1000;
    while !saves(&store, id).await {
        id += 1;
        assert!(
            since.elapsed() <= FAILOVER_TIMEOUT,
            "{FAILOVER_TIMEOUT:?} after the failover nothing is saved"
        );
        sleep(Duration::from_millis(10)).await;
    }
    eprintln!("warm: {warm}, saved after {:?}", since.elapsed());
    let all = join_all((2000..2064).map(|id| saves(&store, id))).await;
    assert!(all.into_iter().all(|done| done), "a connection still leads to the demoted server");
    let loads = join_all((2000..2064).map(|id| {
        let store = &store;
        async move { store.load(&key(&id), None).await.is_ok_and(|found| found.record.is_some()) }
    }));
    assert!(loads.await.into_iter().all(|found| found), "something is read from the demoted server");
    store.ping().await.unwrap();
    assert!(since.elapsed() <= FAILOVER_TIMEOUT, "it took {:?}", since.elapsed());
    cable.lead_to(servers.0);
    demote(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_postgres_recovers_when_its_server_is_demoted() {
    let (old, new) = (Postgres::start(), Postgres::start());
    open(&new.url()).await;
    let demote = async |demoted: bool| {
        let mut server = AsyncPgConnection::establish(&old.url()).await.unwrap();
        let setting = format!("ALTER SYSTEM SET default_transaction_read_only = {demoted}");
        for statement in ["SET default_transaction_read_only = off", &setting, "SELECT pg_reload_conf()"] {
            server.batch_execute(statement).await.unwrap();
        }
        // Each of its processes reads the settings before its next statement; the postmaster needs a moment.
        let read_only = || async {
            let mut server = AsyncPgConnection::establish(&old.url()).await.unwrap();
            server.batch_execute("CREATE TABLE IF NOT EXISTS probe ()").await.is_err()
        };
        while read_only().await != demoted {
            sleep(Duration::from_millis(10)).await;
        }
    };
    for round in 0..failovers(2) {
        for warm in [true, false] {
            let cable = Cable::to(old.address());
            let fresh = "TRUNCATE faststate_records, faststate_receipts";
            for server in [&old, &new].into_iter().filter(|_| round > 0 || !warm) {
                let mut server = AsyncPgConnection::establish(&server.url()).await.unwrap();
                server.batch_execute(fresh).await.unwrap();
            }
            let through = Postgres::url_at(cable.address());
            fails_over(&through, &cable, warm, demote, (old.address(), new.address())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_postgres_connections_that_were_terminated_are_not_used() {
    let server = Postgres::start();
    let store = open(&server.url()).await;
    join_all((0..64).map(|id| saves(&*store, id))).await;
    let mut admin = AsyncPgConnection::establish(&server.url()).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND application_name = 'faststate'";
    admin.batch_execute(end).await.unwrap();
    // The driver detects it when its task runs.
    sleep(Duration::from_millis(100)).await;
    let all = join_all((100..164).map(|id| saves(&*store, id))).await;
    assert!(all.into_iter().all(|done| done), "a call was given a connection that had ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_the_postgres_broadcaster_leaves_a_demoted_server() {
    let (old, new) = (Postgres::start(), Postgres::start());
    let cable = Cable::to(old.address());
    let broadcaster = PostgresBroadcaster::connect(Postgres::url_at(cable.address())).await.unwrap();
    let _interest = broadcaster.join(&key(&"followed")).await.unwrap();
    cable.lead_to(new.address());
    let mut admin = AsyncPgConnection::establish(&old.url()).await.unwrap();
    admin.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let since = Instant::now();
    let mut admin = AsyncPgConnection::establish(&new.url()).await.unwrap();
    let there = "DO $$ BEGIN ASSERT EXISTS (SELECT FROM pg_stat_activity
        WHERE application_name = 'faststate' AND query ~ 'pg_notify'); END $$";
    while admin.batch_execute(there).await.is_err() {
        assert!(since.elapsed() <= Duration::from_secs(5), "it stays at the demoted server");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_mysql_recovers_when_its_server_is_demoted() {
    let (old, new) = (MariaDb::start(), MariaDb::start());
    open(&new.url()).await;
    let demote = async |demoted: bool| {
        let mut admin = AsyncMysqlConnection::establish(&old.admin_url()).await.unwrap();
        admin.batch_execute(&format!("SET GLOBAL read_only = {}", u8::from(demoted))).await.unwrap();
    };
    for _ in 0..failovers(2) {
        for warm in [true, false] {
            let cable = Cable::to(old.address());
            for url in [old.admin_url(), new.admin_url()] {
                let mut admin = AsyncMysqlConnection::establish(&url).await.unwrap();
                // They do not exist before the first round.
                let _ = admin.batch_execute("TRUNCATE faststate_records").await;
            }
            let through = MariaDb::url_at(cable.address());
            fails_over(&through, &cable, warm, demote, (old.address(), new.address())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_redis_recovers_when_its_server_is_demoted() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let demote = async |demoted: bool| {
        let (host, port) = (new.address().ip().to_string(), new.address().port().to_string());
        let master = if demoted { ["REPLICAOF", &host, &port] } else { ["REPLICAOF", "NO", "ONE"] };
        let _ = old.command(&master);
    };
    for _ in 0..failovers(2) {
        for warm in [true, false] {
            let cable = Cable::to(old.address());
            let _ = (old.command(&["FLUSHALL"]), new.command(&["FLUSHALL"]));
            let through = format!("redis://{}", cable.address());
            fails_over(&through, &cable, warm, demote, (old.address(), new.address())).await;
        }
    }
}
