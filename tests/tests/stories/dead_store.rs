//! The pages during a store outage.

use std::time::{Duration, Instant};

use faststate_tests::{Demo, Page, RedisServer, Session, UNAVAILABLE_LIMIT, http, until};

use super::ADAPTER;
use crate::ADD;

/// The page's notice about its data.
const STALE: &str = ".stale";

fn visit(demo: &Demo) -> Page {
    let page = Session::new().open(&demo.url("/counter"));
    page.eval("window.neverReloaded = true");
    page
}

fn is_marked(page: &Page) {
    page.until(&format!("document.querySelector('{STALE}').checkVisibility()"));
}

fn is_not_marked(page: &Page) {
    page.until(&format!("!document.querySelector('{STALE}').checkVisibility()"));
}

/// Posts without Datastar; returns the status, the body and the duration.
fn post(demo: &Demo) -> (u16, String, Duration) {
    let asked = Instant::now();
    let reply = http::post(demo.address(), "/faststate/counter/increment", r#"{"amount":1}"#);
    let reply = reply.expect("the demo answers");
    (reply.status, reply.text(), asked.elapsed())
}

#[test]
fn law_13_a_store_that_hangs_is_told_and_what_is_remembered_is_marked() {
    let server = RedisServer::start();
    let demo = Demo::with(&["--adapter", ADAPTER, "--store", &server.url()]);
    let pages = [(); 2].map(|()| visit(&demo));
    pages[0].click(ADD);
    pages.iter().for_each(|page| page.shows("#count", "1"));
    pages.iter().for_each(is_not_marked);

    server.pause();
    // The page shows the error, patched by a 200: Datastar ignores the body of a 503.
    let asked = Instant::now();
    pages[0].click(ADD);
    pages[0].until("document.querySelector('#problem .title')");
    assert!(asked.elapsed() <= UNAVAILABLE_LIMIT, "the page shows the error after {:?}", asked.elapsed());
    let detail = pages[0].text("#problem .detail").expect("a detail");
    assert!(detail.contains("again"), "{detail}");
    assert!(pages[0].complaints().is_empty());
    // A page without an event shows the notice as well.
    pages.iter().for_each(is_marked);

    // Other clients get a status within the deadline, with a text that names the problem.
    for _ in 0..4 {
        let (status, body, took) = post(&demo);
        assert!(matches!(status, 503 | 504) && took <= UNAVAILABLE_LIMIT, "{status} after {took:?}: {body}");
        assert!(body.contains("again"), "{body}");
    }
    let (status, body, took) = post(&demo);
    assert!(status == 503 && body.contains("the store is not available"), "{status} after {took:?}: {body}");
    assert!(took < Duration::from_secs(1), "a store that rests is refused at once, not after {took:?}");
    assert_eq!(demo.health()["status"], "unavailable");

    // A new page shows the cached state with a notice; a state without persistence works.
    let asked = Instant::now();
    let late = visit(&demo);
    late.shows("#count", "1");
    is_marked(&late);
    assert!(asked.elapsed() <= 2 * UNAVAILABLE_LIMIT, "a page takes {:?}", asked.elapsed());
    let status = Session::new().open(&demo.url("/status"));
    status.mentions("tr[data-store=default]", "does not answer");

    server.resume();
    // Each click counts once or not at all, and every page matches the store again without a reload.
    pages.iter().chain([&late]).for_each(is_not_marked);
    until("the store to answer", || post(&demo).0, |status| *status == 200);
    let stored = server.command(&["GET", "faststate:v1:{counter/g}"]);
    let count = stored.split("\"count\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
    let count = count.unwrap_or_else(|| panic!("{stored}"));
    for page in pages.iter().chain([&late]) {
        page.shows("#count", count);
        assert_eq!(page.eval("window.neverReloaded"), true);
    }
}

#[test]
fn law_13_a_store_that_is_gone_is_told_and_found_again() {
    let mut server = RedisServer::start();
    let demo = Demo::with(&["--adapter", ADAPTER, "--store", &server.url()]);
    let page = visit(&demo);
    page.click(ADD);
    page.shows("#count", "1");
    server.kill();
    let (status, body, took) = post(&demo);
    assert!(matches!(status, 503 | 504) && took <= UNAVAILABLE_LIMIT, "{status} after {took:?}: {body}");
    is_marked(&page);
    page.click(ADD);
    page.until("document.querySelector('#problem .title')");
    server.restart();
    is_not_marked(&page);
    page.click(ADD);
    page.until("!document.querySelector('#problem .title')");
    until("the store to answer", || post(&demo).0, |status| *status == 200);
    page.until("+document.querySelector('#count').textContent >= 3");
    assert_eq!(page.eval("window.neverReloaded"), true);
}
