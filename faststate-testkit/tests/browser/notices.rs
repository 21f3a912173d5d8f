//! The message of each failing assertion.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use faststate_core::{Event as _, MemoryStore};
use faststate_testkit::{
    App, Browser, Cluster,
    faults::{BroadcastFault, FaultyStore, StoreFault},
};
use futures::FutureExt as _;
use http::Response;

use super::app::{Order, Price, Product, Stock, Take, app, over, shop};

/// Runs a failing test and returns its panic message.
async fn panic_message(test: impl Future<Output = ()>) -> String {
    let panic = AssertUnwindSafe(test).catch_unwind().await.expect_err("the test did not fail");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

macro_rules! assert_fails_with {
    ($texts:expr, $($test:tt)+) => {
        let message = panic_message(async { let _ = { $($test)+ }; }).await;
        let texts: &[&str] = &$texts;
        assert!(texts.iter().all(|text| message.contains(text)), "{texts:?} is not in: {message}");
    };
}

#[tokio::test]
async fn outcome_assertions_print_the_outcome() {
    let app = app();
    let mut alice = Browser::new(&app);
    let changed = alice.send(&Take { amount: 1 }).await.assert_changed();
    let unchanged = alice.send(&Take { amount: 0 }).await.assert_unchanged();
    let repeated = alice.repeat(changed.click()).await.assert_repeated();
    let rejected = alice.send(&Take { amount: 101 }).await.assert_rejected("amount");
    let unknown = alice.send("@get('/faststate/nowhere')").await.assert_problem("not_found");
    let health = alice.send("@get('/faststate/health')").await;
    assert_fails_with!(
        ["changed the state", "it was accepted and changed nothing"],
        unchanged.clone().assert_changed()
    );
    assert_fails_with!(["changed nothing, but it changed the state"], changed.clone().assert_unchanged());
    assert_fails_with!(["was a repeat, but it changed the state"], changed.clone().assert_repeated());
    assert_fails_with!(["changed the state, but it was a repeat"], repeated.assert_changed());
    assert_fails_with!(
        ["422 rejected, that is too much\n  amount: at most 100"],
        rejected.clone().assert_changed()
    );
    assert_fails_with!(
        ["with a message for `user`", "amount: at most 100"],
        rejected.clone().assert_rejected("user")
    );
    assert_fails_with!(["expected that the event was rejected, but"], rejected.clone().assert_rejected(""));
    assert_fails_with!(
        ["rejected with a message for `amount`", "404 not_found"],
        unknown.clone().assert_rejected("amount")
    );
    assert_fails_with!(["the problem `busy`", "404 not_found"], unknown.assert_problem("busy"));
    assert_fails_with!(["the problem `busy`, but it changed"], changed.assert_problem("busy"));
    assert_fails_with!(["the response was 200 OK and not of an event"], health.assert_changed());
}

#[tokio::test]
async fn page_assertions_print_the_difference() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.visit("/").await;
    alice.click("Take some").await.assert_changed();
    // The page lags until it is settled.
    assert_fails_with!(["`stock.count`", "expected -2, seen 0"], alice.assert_signal("stock.count", -2));
    assert_fails_with!(["law 4", "count: expected -2, seen 0"], alice.assert_current().await);
    assert_fails_with!(["expected no events, but", "notices.rs"], alice.assert_quiet().await);
    alice.settle().await;
    assert_fails_with!(["expected -1, seen -2"], alice.assert_signal("stock.count", -1));
    assert_fails_with!(["expected 1, seen \"\""], alice.assert_signal("stock.nothing", 1));
    assert_fails_with!(
        ["count: expected 1, seen -2", "tags[0]: expected \"new\", seen nothing"],
        alice.assert_state(&Stock { count: 1, tags: vec!["new".into()], ..Stock::default() })
    );
    assert_fails_with!(["`product.p1`", "expected"], alice.assert_record("p1", &Product { price: 1 }));
    assert_fails_with!(["expected \"-1\"", "seen     \"-2\""], alice.assert_text("h1", "-1"));
    assert_fails_with!(["no element matches `#missing`", "-2 left"], alice.assert_text("#missing", ""));
    assert_fails_with!(["does not show \"3 left\"", "-2 left"], alice.assert_reads("3 left"));
    assert_fails_with!(["the page shows \"-2 left\""], alice.assert_reads_not("-2 left"));
}

#[tokio::test]
async fn differing_view_is_reported() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.visit("/").await;
    alice.load(&alice.html().replace("<li>0 left", "<li>5 left")).await;
    alice.settle().await;
    assert_fails_with!(["stock.shelf", "<li>0 left"], alice.assert_current().await);
    alice.load("<p data-signals='{stock:{count:5}}'>").await;
    assert_fails_with!(["expected 0, seen 5"], alice.assert_state(&Stock::default()));
}

#[tokio::test(start_paused = true)]
async fn waits_fail_with_the_difference() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.follow("stock").await;
    assert_fails_with!(
        ["within 20s", "expected 1, seen 0", "notices.rs"],
        alice.sees("stock.count", 1).await
    );
    assert_fails_with!(["did not show \"1 left\" within 20s"], alice.reads("1 left").await);
    alice.hide();
    assert_fails_with!(["expected 1, seen 0"], alice.sees("stock.count", 1).await);
    alice.send(&Order { amount: 1, after_ms: 60_000 }).await.assert_changed();
    assert_fails_with!(["work after a commit is still running", "notices.rs"], alice.settle().await);
}

#[tokio::test(start_paused = true)]
async fn unopened_stream_is_reported_by_settle() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let app = over(Arc::clone(&store));
    let mut alice = Browser::new(&app);
    alice.follow("product:p1").await;
    alice.hide();
    // The instance is evicted.
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    store.set(StoreFault::Fail);
    alice.show().await;
    assert_fails_with!(["the stream cannot be opened"], alice.settle().await);
}

#[tokio::test(start_paused = true)]
async fn disagreeing_nodes_are_reported_by_settle() {
    let nodes = Cluster::start(2, shop);
    let [mut alice, mut bob] = [0, 1].map(|at| Browser::new(&nodes[at]));
    alice.follow("stock").await;
    nodes.broadcaster(0).set(|_| BroadcastFault::Lose);
    bob.send(&Take { amount: 1 }).await.assert_changed();
    assert_fails_with!(["not settled within 20s", "another node differs"], alice.settle().await);
}

#[tokio::test]
async fn impossible_actions_name_the_alternatives() {
    let app = app();
    let mut alice = Browser::new(&app);
    assert_fails_with!(["`till` cannot be followed"], alice.follow("till").await);
    assert_fails_with!(["App::pages"], Browser::new(&App::of(app.endpoint().clone())).visit("/").await);
    alice.visit("/").await;
    assert_fails_with!(["`Sell` has a `data-on:click`", "Take some, Take all"], alice.click("Sell").await);
    assert_fails_with!(["`#shelf` has a `data-on:submit`", "#order"], alice.submit("#shelf").await);
    assert_fails_with!(
        ["expected", "continues with `+1"],
        alice.send("@post('/x',{payload:{a:$a+1}})").await
    );
    assert_fails_with!(["names, ids, classes"], alice.assert_text("p > b", ""));
    let needs_id = Price { price: 1 }.action();
    assert_fails_with!(["an action"], alice.send(needs_id.bind("price", "not a signal")).await);
    let app = app.pages(|_| async {
        Response::builder().status(302).header("location", "/").body(Bytes::new()).unwrap()
    });
    assert_fails_with!(["redirects more than 10 times"], Browser::new(&app).visit("/").await);
}

#[tokio::test]
async fn patch_without_target_is_on_the_console() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.follow("stock").await;
    alice.send(&Take { amount: 1 }).await.assert_changed();
    assert_eq!(alice.console().len(), 1, "{:?}", alice.console());
    assert!(alice.console()[0].contains("#thanks"));
    alice.load("<p data-signals=\"{a:1*2}\">").await;
    assert!(alice.console()[0].contains("continues with `*2"), "{:?}", alice.console());
}
