//! Pages that the application renders.

use faststate_testkit::Browser;

use super::app::{Stock, app};

#[tokio::test]
async fn elements_are_clicked_by_their_text() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.visit("/old").await;
    assert_eq!(alice.status(), 200);
    alice.assert_text("title", "Shop");
    alice.assert_signal("note", "<none>");
    alice.click("Take some").await.assert_changed();
    alice.assert_text("#thanks b", "2 taken");
    alice.fill("wanted", "3").click("Take some").await.assert_changed();
    alice.click("Take all").await.assert_rejected("amount");
    alice.settle().await;
    alice.assert_text("h1", "-5");
    alice.assert_reads_not("{label}");
    alice.submit("#order").await.assert_changed();
    alice.settle().await;
    alice.click("Order").await.assert_changed();
    alice.settle().await;
    alice.assert_state(&Stock { count: 5, label: "here".into(), ..Stock::default() });
    alice.assert_reads("{label}");
    alice.assert_text("footer", "{$stock.count + 1}");
    alice.assert_current().await;
}

#[tokio::test]
async fn plain_form_sets_and_removes_a_cookie() {
    let app = app();
    let mut alice = Browser::new(&app);
    alice.post("/login", &[("name", "a b"), ("word", "&")]).await;
    assert!(alice.html().contains("name=a+b&word=%26"), "{}", alice.html());
    alice.visit("/").await;
    assert!(alice.html().contains("named=yes"), "{}", alice.html());
    alice.post("/logout", &[]).await;
    alice.visit("/").await;
    assert!(!alice.html().contains("named="), "{}", alice.html());
}

#[tokio::test]
async fn page_of_any_framework_is_loaded_from_html() {
    let app = app();
    let (mut alice, mut other) = (Browser::new(&app), Browser::new(&app));
    other.visit("/").await;
    // Escaped as a template does.
    alice.load(&other.html().replace('\'', "&#39;")).await;
    assert!(alice.is_following());
    other.click("Take some").await.assert_changed();
    alice.settle().await;
    alice.assert_text("h1", "-2");
}
