//! The site's cookies in browsers, and a browser without cookies.

use std::time::UNIX_EPOCH;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use faststate_tests::{Cookie, Demo, Key, Proxy, RedisServer, Visitor};

use super::BROWSER;

const DAY: i64 = 24 * 60 * 60;

#[test]
fn page_says_that_cookies_are_blocked() {
    let demo = Demo::start();
    let proxy = Proxy::to(demo.address());
    proxy.block_cookies();
    let blocked = BROWSER.visitor().open(&proxy.url("/"));
    blocked.until("document.querySelector('#cookies-blocked:not([hidden])')");
    // With cookies, the page shows no warning.
    let page = BROWSER.visitor().open(&demo.url("/"));
    page.click("button[aria-label=Increment]");
    page.shows("#number", "1");
    page.until("document.querySelector('#cookies-blocked[hidden]')");
}

#[test]
fn cookie_is_renewed_after_a_quarter_of_its_lifetime() {
    let visited = visit_twice(92);
    assert_ne!(visited[1].value, visited[0].value);
    assert_eq!(session(&visited[1]), session(&visited[0]));
    assert!(visited[1].expires > now() + 364 * DAY, "{visited:?}");
}

#[test]
fn cookie_stays_before_a_quarter_of_its_lifetime() {
    let visited = visit_twice(90);
    assert_eq!(visited[1], visited[0]);
}

#[test]
fn two_applications_on_one_host_sign_no_visitor_out() {
    let one = Demo::start();
    let other = Demo::with(&["--secret", &"07".repeat(32)]);
    let visitor = BROWSER.visitor();
    let users = [(&one, "alice"), (&other, "bob")];
    let window = visitor.window();
    let open = |demo: &Demo, path: &str| {
        window.load(&demo.url(path));
        window.until("window.datastarReady");
    };
    for (demo, _) in users {
        open(demo, "/");
        window.click("button[aria-label=Increment]");
        window.shows("#number", "1");
    }
    for (demo, user) in users {
        // The guest still has the session of the first visit.
        open(demo, "/");
        window.shows("#number", "1");
        open(demo, "/login?next=/profile");
        window.fill("#name", user);
        window.fill("#password", "faststate");
        window.press(Key::Enter);
        // Firefox reports an integrity error for a script whose download the next navigation aborts.
        window.until("document.querySelector('h1')?.textContent == 'Profile' && window.datastarReady");
    }
    for (demo, user) in users {
        open(demo, "/profile");
        window.shows("h1", "Profile");
        window.shows("#who", user);
    }
}

/// The session cookie before and after a second visit `days` after the first one. The page shows the state of
/// the same session.
fn visit_twice(days: i64) -> [Cookie; 2] {
    // The store's clock is not shifted, so the state survives the days that the demo's clock skips.
    let redis = RedisServer::start();
    let mut demo = Demo::with_clock(&format!("-{days}d"), &["--store", &redis.url()]);
    let visitor = BROWSER.visitor();
    let page = visitor.open(&demo.url("/"));
    page.click("button[aria-label=Increment]");
    page.shows("#number", "1");
    drop(page);
    demo.kill();

    // The browser's clock is not shifted either.
    let mut first = session_cookie(&visitor);
    first.expires = now() + (365 - days) * DAY;
    visitor.set_cookie(&first);
    demo.restart();
    let page = visitor.open(&demo.url("/"));
    page.shows("#number", "1");
    [first, session_cookie(&visitor)]
}

fn session_cookie(visitor: &Visitor) -> Cookie {
    let mut cookies = visitor.cookies();
    cookies.retain(|cookie| cookie.name.starts_with("faststate_"));
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    cookies.remove(0)
}

/// The session id at the start of the cookie.
fn session(cookie: &Cookie) -> [u8; 16] {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&cookie.value).expect("the cookie is Base64");
    *bytes.first_chunk().expect("the cookie has an id")
}

fn now() -> i64 {
    let passed = UNIX_EPOCH.elapsed().expect("it is after 1970");
    passed.as_secs().try_into().expect("a time of this age")
}
