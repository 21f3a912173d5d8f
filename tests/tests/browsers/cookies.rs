//! A browser that keeps no cookie of the site.

use faststate_tests::{Demo, Proxy};

use super::BROWSER;

#[test]
fn page_says_that_cookies_are_blocked() {
    let demo = Demo::start();
    let proxy = Proxy::to(demo.address());
    proxy.block_cookies();
    let blocked = BROWSER.visitor().open(&proxy.url("/"));
    blocked.until("document.querySelector('#cookies-blocked:not([hidden])')");
    // With cookies, the page does not say so.
    let page = BROWSER.visitor().open(&demo.url("/"));
    page.click("button[aria-label=Increment]");
    page.shows("#number", "1");
    page.until("document.querySelector('#cookies-blocked[hidden]')");
}
