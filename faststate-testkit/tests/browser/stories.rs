//! Typical tests of an application.

use std::{sync::Arc, time::Duration};

use faststate_core::{Event as _, Handle, MemoryStore, Viewer};
use faststate_testkit::{
    Browser,
    faults::{FaultyStore, StoreFault},
};
use tokio::time::Instant;

use super::app::{Basket, Fill, Order, Price, Product, Stock, Take, app, over};

#[tokio::test]
async fn event_of_one_browser_reaches_another() {
    let app = app();
    let (mut alice, mut bob) = (Browser::new(&app), Browser::new(&app));
    alice.follow("stock, stock.shelf").await;
    alice.assert_state(&Stock::default());
    bob.send(&Take { amount: 3 }).await.assert_changed();
    alice.assert_signal("stock.count", 0);
    alice.settle().await;
    alice.assert_signal("stock.count", -3);
    alice.assert_text("#shelf li", "-3 left");
    alice.assert_current().await;
    alice.assert_quiet().await;
    // Bob follows nothing; the response contained the signals.
    bob.assert_signal("stock.count", -3);
    bob.send(&Take { amount: 0 }).await.assert_unchanged();
    alice.assert_quiet().await;
}

#[tokio::test]
async fn law_03_event_with_lost_response_is_applied_once() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.follow("stock").await;
    let click = alice.send_and_drop_reply(&Take { amount: 1 }).await;
    assert!(click.event_id().is_some());
    alice.repeat(&click).await.assert_repeated();
    alice.send(&Take { amount: 1 }).await.assert_changed();
    alice.settle().await;
    alice.assert_signal("stock.count", -2);
}

#[tokio::test]
async fn law_04_hidden_cut_and_lagging_windows_miss_nothing() {
    let app = app();
    let [mut hidden, mut cut, mut lagging, mut bob] = [(); 4].map(|()| Browser::new(&app));
    for window in [&mut hidden, &mut cut, &mut lagging] {
        window.follow("stock,stock.shelf").await;
        window.settle().await;
    }
    hidden.hide();
    assert!(!hidden.is_following());
    for bytes in 1..40 {
        bob.send(&Take { amount: 1 }).await.assert_changed();
        cut.disconnect_mid_frame(bytes * 7).await;
        cut.settle().await;
        cut.assert_signal("stock.count", -i64::try_from(bytes).unwrap());
        cut.assert_current().await;
    }
    hidden.settle().await;
    hidden.assert_signal("stock.count", 0);
    hidden.show().await;
    for window in [&mut hidden, &mut lagging] {
        window.settle().await;
        window.assert_text("#shelf li", "-39 left");
        window.assert_current().await;
    }
    assert_eq!(hidden.console(), [""; 0]);
}

#[tokio::test]
async fn law_08_each_user_has_its_own_basket() {
    let app = app();
    let [mut alice, mut bob] = ["alice", "bob"].map(|user| Browser::new(&app).user(user));
    let mut phone = Browser::new(&app).user("alice");
    for window in [&mut alice, &mut bob, &mut phone] {
        window.follow("basket").await;
    }
    alice.send(&Fill {}).await.assert_changed();
    phone.settle().await;
    phone.assert_state(&Basket { things: 1 });
    bob.settle().await;
    bob.assert_state(&Basket { things: 0 });
    let mut anonymous = Browser::new(&app);
    anonymous.send(&Fill {}).await.assert_problem("sign_in");
    assert!(anonymous.try_follow("basket").await.is_err() && anonymous.try_follow("till").await.is_err());
    Browser::new(&app).role("cashier").follow("till").await;
}

#[tokio::test]
async fn record_is_followed_by_its_id() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.follow("product:p%201%2E%2Fx").await;
    alice.send(Price { price: 5 }.action().on("p 1./x")).await.assert_changed();
    alice.settle().await;
    alice.assert_record("p 1./x", &Product { price: 5 });
    alice.assert_current().await;
}

#[tokio::test]
async fn rejection_sets_the_error_of_its_field() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.follow("stock").await;
    alice.send(&Take { amount: 101 }).await.assert_rejected("amount");
    alice.assert_signal("_errors.stock.amount", "at most 100");
    alice.assert_reads("that is too much");
    alice.send(&Take { amount: -1 }).await.assert_rejected("");
    alice.assert_signal("_errors.stock.amount", "");
    alice.send("@post('/faststate/stock/take',{payload:{amount:'some'}})").await.assert_rejected("amount");
    alice.send("@post('/faststate/stock/steal')").await.assert_problem("not_found");
    alice.send(&Take { amount: 1 }).await.assert_changed();
    alice.assert_signal("_problem", "");
}

#[tokio::test(start_paused = true)]
async fn paused_time_passes_immediately() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.follow("stock").await;
    let began = Instant::now();
    alice.send(&Order { amount: 5, after_ms: 15_000 }).await.assert_changed();
    alice.sees("stock.label", "on its way").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    alice.settle().await;
    alice.assert_state(&Stock { count: 5, label: "here".into(), ..Stock::default() });
    assert!(began.elapsed() >= Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn law_13_store_outage_is_shown_and_recovers() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let app = over(Arc::clone(&store));
    let mut alice = Browser::new(&app);
    alice.follow("stock").await;
    alice.send(&Take { amount: 1 }).await.assert_changed();
    store.set(StoreFault::Hang);
    let began = Instant::now();
    let refused = alice.send(&Take { amount: 1 }).await;
    assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(refused.problem().is_some(), "{refused:?}");
    alice.sees("_stale", true).await;
    alice.assert_signal("stock.count", -1);
    store.set(StoreFault::None);
    alice.sees("_stale", false).await;
    // The outcome is unknown; sending the same id again resolves it.
    alice.repeat(refused.click()).await;
    alice.settle().await;
    alice.assert_signal("stock.count", -2);
}

#[tokio::test]
async fn windows_of_one_browser_share_a_session() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.visit("/").await;
    let mut other = alice.window();
    other.visit("/").await;
    assert!(other.html().contains("faststate="), "{}", other.html());
    let stock = Handle::<Stock>::of(app.registry(), &Viewer::application(), None).unwrap();
    let set = |stock: &mut Stock| {
        stock.count = 7;
        Ok(())
    };
    stock.update(set).await.unwrap();
    for window in [&mut alice, &mut other] {
        window.settle().await;
        window.assert_text("h1", "7");
    }
}
