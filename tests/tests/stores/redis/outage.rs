//! Redis goes away in the middle of a burst, in every way it can, and comes back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use faststate_core::{Store, store::StoreError};
use faststate_store_redis::RedisStore;
use faststate_tests::{Cable, RedisServer};
use tokio::{task::block_in_place, time::sleep};

use super::ledger::{Burst, application, enter, ledger};
use super::{connect, key};

/// How long a burst runs before something happens.
const SOON: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn law_13_redis_is_restarted_in_the_middle_of_a_burst() {
    let mut server = RedisServer::start();
    let registry = application(connect(server.url()).await);
    let burst = Burst::start(&registry, 32, 200);
    for _ in 0..3 {
        sleep(SOON).await;
        block_in_place(|| {
            server.kill();
            server.restart();
        });
    }
    burst.settle(connect(server.url()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_redis_is_stopped_for_five_seconds_in_the_middle_of_a_burst() {
    let server = RedisServer::start();
    let registry = application(connect(server.url()).await);
    let burst = Burst::start(&registry, 32, 200);
    sleep(SOON).await;
    server.pause();
    sleep(Duration::from_secs(5)).await;
    server.resume();
    recovers(&registry).await;
    let failures = burst.settle(connect(server.url()).await).await;
    assert!(failures > 0, "nobody noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_the_network_swallows_everything_in_the_middle_of_a_burst() {
    let server = RedisServer::start();
    let cable = Cable::to(server.address());
    let registry = application(connect(format!("redis://{}", cable.address())).await);
    let burst = Burst::start(&registry, 32, 200);
    for away in [1, 5] {
        sleep(SOON).await;
        cable.cut();
        sleep(Duration::from_secs(away)).await;
        cable.mend();
        recovers(&registry).await;
    }
    burst.settle(connect(server.url()).await).await;
}

/// Within five seconds the application answers again.
async fn recovers(registry: &Arc<faststate_core::StateRegistry>) {
    let back = Instant::now();
    let ledger = ledger(registry, "probe");
    let mut at = 0;
    while enter(&ledger, &format!("probe-{at}-{:?}", Instant::now()).replace(' ', "")[..40]).await.is_err() {
        at += 1;
        assert!(back.elapsed() < Duration::from_secs(5), "it is still away");
    }
}

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
        assert!(asked.elapsed() < Duration::from_millis(2_200), "it took {:?}", asked.elapsed());
    }
    assert!(errors.elapsed() < Duration::from_secs(6));
    let asked = Instant::now();
    let error = RedisStore::connect(server.url()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(asked.elapsed() < Duration::from_millis(2_200), "it took {:?}", asked.elapsed());
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
        // Its end has been heard of by now, so that the first call already has a new one.
        store.load(&key("x"), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_a_redis_that_went_back_in_time_starts_a_new_epoch() {
    let mut server = RedisServer::start();
    let registry = application(connect(server.url()).await);
    let ledger = ledger(&registry, "x");
    enter(&ledger, "one").await.unwrap();
    let snapshot = server.snapshot();
    enter(&ledger, "two").await.unwrap();
    let lost = ledger.read().await.unwrap().version();
    block_in_place(|| server.restore(&snapshot));
    let mut tries = 0;
    while enter(&ledger, "three").await.is_err() {
        tries += 1;
        assert!(tries < 100);
        sleep(Duration::from_millis(50)).await;
    }
    let now = ledger.read().await.unwrap();
    assert_eq!(now.ids, ["one", "three"]);
    assert_ne!(now.version().epoch, lost.epoch);
    assert!(!now.version().is_before(lost) && !lost.is_before(now.version()));
}
