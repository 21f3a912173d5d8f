//! Redis is down, or has lost its data.

use std::time::{Duration, Instant};

use faststate_core::store::StoreError;
use faststate_store_redis::RedisStore;
use faststate_tests::{RedisServer, UNAVAILABLE_LIMIT};
use tokio::task::block_in_place;

use super::{connect, key};

#[tokio::test(flavor = "multi_thread")]
async fn law_13_a_redis_that_is_not_there_is_an_error_in_time() {
    let mut server = RedisServer::start();
    let store = connect(server.url()).await;
    server.kill();
    let errors = Instant::now();
    for _ in 0..3 {
        let asked = Instant::now();
        let error = store.load(&key("x"), None).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(asked.elapsed() < UNAVAILABLE_LIMIT, "it took {:?}", asked.elapsed());
    }
    assert!(errors.elapsed() < 3 * UNAVAILABLE_LIMIT);
    let asked = Instant::now();
    let error = RedisStore::connect(server.url()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(asked.elapsed() < UNAVAILABLE_LIMIT, "it took {:?}", asked.elapsed());
    server.restart();
    let back = Instant::now();
    while store.ping().await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(3), "it is still away");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_cut_while_idle_is_not_used_again() {
    let mut server = RedisServer::start();
    let store = connect(server.url()).await;
    for _ in 0..5 {
        store.ping().await.unwrap();
        block_in_place(|| {
            server.kill();
            server.restart();
        });
        // The pool has detected the closed connection by now, so the first call uses a new one.
        store.load(&key("x"), None).await.unwrap();
    }
}
