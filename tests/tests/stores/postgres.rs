//! The PostgreSQL store.

use std::{sync::Arc, time::Duration};

use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use faststate_core::{Broadcaster, Store as _, store::StoreError};
use faststate_store_diesel::{DieselStore, PostgresBroadcaster};
use faststate_testkit::suites;
use faststate_tests::{MariaDb, PgBouncer, Postgres, UNAVAILABLE_LIMIT};

use crate::open::open;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_its_promises() {
    let server = Postgres::start();
    let url = server.url();
    let (a, b) = tokio::join!(open(&url), open(&url));
    suites::store::all(&a, &b).await.unwrap();
    let pass = async |time: Duration| {
        let sooner = format!("UPDATE faststate_receipts SET expires_at = expires_at - {}", time.as_millis());
        AsyncPgConnection::establish(&url).await.unwrap().batch_execute(&sooner).await.unwrap();
    };
    suites::store::receipt_is_kept_for_ten_minutes(&a, pass).await.unwrap();
    suites::store::message_receipt_is_kept_until_release(&a, pass).await.unwrap();
    let shown = format!("{a:?}");
    assert!(shown.contains("127.0.0.1") && !shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn postgres_needs_no_threads_of_the_runtime() {
    let server = Postgres::start();
    let store = open(&server.url()).await;
    suites::store::all(&store, &store).await.unwrap();
}

#[tokio::test]
async fn law_13_no_server_is_an_error_that_says_why() {
    let mut server = Postgres::start();
    let store = open(&server.url()).await;
    server.crash();
    for _ in 0..2 {
        let asked = tokio::time::Instant::now();
        let error = store.ping().await.unwrap_err();
        assert!(asked.elapsed() <= UNAVAILABLE_LIMIT, "the answer took {:?}", asked.elapsed());
        let shown = format!("{error:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
    let error = format!("{:?}", store.ping().await.unwrap_err());
    assert!(error.contains("ConnectionRefused"), "{error}");
    let error = DieselStore::postgres(server.url()).await.unwrap_err();
    assert!(format!("{error:?}").contains("ConnectionRefused"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_a_server_that_hangs_or_refuses_is_an_error_when_its_store_is_opened() {
    let (postgres, mysql) = (Postgres::start(), MariaDb::start());
    let nothing = postgres.url().replace("/postgres", "/nothing");
    let refused = [
        DieselStore::postgres(&nothing).await.map(drop),
        PostgresBroadcaster::connect(&nothing).await.map(drop),
        DieselStore::mysql(mysql.url().replace("secret", "wr0ng")).await.map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)) && !error.is_temporary(), "{error:?}");
        assert!(!format!("{error:?}").contains("wr0ng"), "{error:?}");
    }
    postgres.pause();
    mysql.pause();
    for setup in [DieselStore::postgres(postgres.url()), DieselStore::mysql(mysql.url())] {
        let asked = tokio::time::Instant::now();
        let error = setup.await.unwrap_err();
        assert!(asked.elapsed() <= UNAVAILABLE_LIMIT, "the answer took {:?}", asked.elapsed());
        assert!(matches!(error, StoreError::Unavailable(_)) && error.is_temporary(), "{error:?}");
    }
    // Their ids, so that the test can terminate them.
    postgres.resume();
    mysql.resume();
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let refused = [
        DieselStore::postgres("postgres://host:port/db").await.map(drop),
        PostgresBroadcaster::connect("postgres://host:port/db").await.map(drop),
        DieselStore::mysql("mysql://host:port/db").await.map(drop),
    ];
    assert!(refused.iter().all(|store| matches!(store, Err(StoreError::Refused(_)))), "{refused:?}");
}

#[tokio::test]
async fn no_address_that_is_wrong_shows_its_password() {
    for wrong in [
        "postgres://me:s3cret@host:port/db",
        "postgres://me:s3cret@[::1/db",
        "me:s3cret@host",
        "postgres://me:s3cret%zz@127.0.0.1:1/db",
    ] {
        let setup = DieselStore::postgres(wrong);
        assert!(!format!("{setup:?}").contains("s3cret"));
        let error = setup.await.unwrap_err();
        assert!(!format!("{error:?} {error} {}", chain(&error)).contains("s3cret"), "{error:?}");
    }
    for wrong in [
        "mysql://me:s3cret@host:port/db",
        "mysql://me:s3cret@[::1/db",
        "me:s3cret@host",
        "mysql://me:s3cret@127.0.0.1:1/db?nonsense=1",
        "mysql://me:s3cret@127.0.0.1:1/db",
    ] {
        let setup = DieselStore::mysql(wrong);
        assert!(!format!("{setup:?}").contains("s3cret"));
        let error = setup.await.unwrap_err();
        assert!(!format!("{error:?} {error} {}", chain(&error)).contains("s3cret"), "{error:?}");
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_transactions_is_refused_by_name() {
    let server = Postgres::start();
    let pool = PgBouncer::start(&server, "transaction");
    let refused = [
        DieselStore::postgres(pool.url()).await.map(drop),
        PostgresBroadcaster::connect(pool.url()).await.map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        let shown = chain(&error);
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
        assert!(shown.contains("PgBouncer") && shown.contains("pgbouncer=true"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_its_promises_behind_a_pool_of_sessions() {
    let server = Postgres::start();
    let pool = PgBouncer::start(&server, "session");
    let store = open(&pool.url()).await;
    suites::store::all(&store, &store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_broadcaster_keeps_its_promises_behind_a_pool_of_sessions() {
    let server = Postgres::start();
    let pool = PgBouncer::start(&server, "session");
    let node =
        async || Arc::new(PostgresBroadcaster::connect(pool.url()).await.unwrap()) as Arc<dyn Broadcaster>;
    suites::broadcaster::all(&[node().await, node().await, node().await]).await.unwrap();
}

/// The address of a transaction pool, as such.
fn declared(pool: &PgBouncer) -> String {
    format!("{}?pgbouncer=true", pool.url())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_its_promises_behind_a_transaction_pool() {
    let server = Postgres::start();
    let pool = PgBouncer::start(&server, "transaction");
    let (a, b) = (open(&declared(&pool)).await, open(&declared(&pool)).await);
    suites::store::all(&a, &b).await.unwrap();
    // The builder's setting has the same effect as the address.
    let store = DieselStore::postgres(pool.url()).pgbouncer(true).await.unwrap();
    store.ping().await.unwrap();
    // No setting of a store's transaction remains in the server's sessions.
    let mut session = AsyncPgConnection::establish(&pool.url()).await.unwrap();
    let unchanged = "DO $$ BEGIN
        ASSERT current_setting('statement_timeout') = '0', 'statement_timeout';
        ASSERT current_setting('lock_timeout') = '0', 'lock_timeout';
        ASSERT NOT EXISTS (SELECT FROM pg_prepared_statements WHERE statement ~ 'faststate_'), 'prepared';
    END $$";
    session.batch_execute(unchanged).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_its_promises_when_a_session_pool_is_declared() {
    let server = Postgres::start();
    let pool = PgBouncer::start(&server, "session");
    let store = open(&declared(&pool)).await;
    suites::store::all(&store, &store).await.unwrap();
    let error = PostgresBroadcaster::connect(declared(&pool)).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)) && chain(&error).contains("LISTEN"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_01_postgres_save_waits_for_the_disk_if_its_role_does_not() {
    let server = Postgres::start();
    let pool = PgBouncer::start(&server, "transaction");
    open(&server.url()).await;
    let mut admin = AsyncPgConnection::establish(&server.url()).await.unwrap();
    for statement in [
        "ALTER ROLE faststate SET synchronous_commit = off",
        "ALTER ROLE faststate SET default_transaction_isolation = 'serializable'",
        "CREATE FUNCTION check_durable() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            ASSERT current_setting('synchronous_commit') = 'on', 'the save does not wait for the disk';
            ASSERT current_setting('transaction_isolation') = 'read committed', 'isolation';
            ASSERT current_setting('statement_timeout') = '2s', 'the statement has no timeout';
            RETURN NULL;
        END $$",
        "CREATE TRIGGER durable AFTER INSERT OR UPDATE OR DELETE ON faststate_records
            FOR EACH STATEMENT EXECUTE FUNCTION check_durable()",
    ] {
        admin.batch_execute(statement).await.unwrap();
    }
    for url in [server.url(), declared(&pool)] {
        let store = open(&url).await;
        suites::store::all(&store, &store).await.unwrap();
    }
}
