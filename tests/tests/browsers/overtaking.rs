//! Two saves of one field, where the first is slow or repeated.

use faststate_tests::{Demo, Proxy, Window, until};

use super::BROWSER;

fn type_and_wait(page: &dyn Window, proxy: &Proxy, text: &str) {
    page.fill("#text", text);
    until("the first save", || proxy.event_ids().len(), |sent| *sent > 0);
}

#[test]
fn law_05_slow_save_does_not_overtake_a_newer_one() {
    let demo = Demo::start();
    let proxy = Proxy::to(demo.address());
    let page = BROWSER.visitor().open(&proxy.url("/"));
    proxy.hold_post();
    page.fill("#text", "old");
    until("the first save", || proxy.awaits_post(), |waits| !waits);
    page.type_keys("er and newer");
    // Longer than the typing pause that triggers a save.
    page.eval("new Promise(done => setTimeout(done, 1000))");
    proxy.release();
    page.shows("#server-text", "older and newer");
    page.eval("new Promise(done => setTimeout(done, 500))");
    page.shows("#server-text", "older and newer");
    assert_eq!(page.value("#text"), "older and newer");
}

#[test]
fn law_05_save_that_is_sent_again_does_not_overtake_a_newer_one() {
    let demo = Demo::start();
    let proxy = Proxy::to(demo.address());
    let page = BROWSER.visitor().open(&proxy.url("/"));
    page.expect_complaints(&["502"]);
    proxy.refuse_posts(1);
    page.fill("#text", "old");
    page.until("fetches.includes('error')");
    page.type_keys("er and newer");
    page.shows("#server-text", "older and newer");
    page.eval("new Promise(done => setTimeout(done, 2500))");
    page.shows("#server-text", "older and newer");
    assert_eq!(page.value("#text"), "older and newer");
}

#[test]
fn law_03_save_whose_answer_is_lost_counts_once_and_in_order() {
    let demo = Demo::start();
    let proxy = Proxy::to(demo.address());
    let page = BROWSER.visitor().open(&proxy.url("/"));
    page.expect_complaints(&["ERR_EMPTY_RESPONSE"]);
    proxy.lose_answers(1);
    type_and_wait(&*page, &proxy, "first");
    page.fill("#text", "second");
    page.shows("#server-text", "second");
    // Slow typing causes several saves; a repeated request still counts once.
    let ids = proxy.event_ids();
    assert_eq!(ids[0], ids[1], "{ids:?}");
    page.shows("#seq", &(ids.len() - 1).to_string());
}

#[test]
fn text_that_is_left_while_it_is_saved_is_not_lost() {
    let demo = Demo::start();
    let proxy = Proxy::to(demo.address());
    let page = BROWSER.visitor().open(&proxy.url("/"));
    proxy.hold_post();
    page.fill("#text", "old");
    until("the first save", || proxy.awaits_post(), |waits| !waits);
    page.type_keys("er and newer");
    page.eval("document.activeElement.blur()");
    page.eval("new Promise(done => setTimeout(done, 1600))");
    proxy.release();
    page.shows("#server-text", "older and newer");
}
