//! The demo's real program and the examples, in a real browser.
#![allow(clippy::duplicate_mod, reason = "most stories run on several adapters")]

mod adapters;
mod todo;

/// All stories.
#[path = "."]
mod over_salvo {
    const ADAPTER: &str = "salvo";

    mod access;
    mod admin;
    mod auction;
    mod chat;
    mod counter;
    mod dead_store;
    mod downtime;
    mod inspector;
    mod journey;
    mod login;
    mod outage;
    mod pages;
    mod pictures;
    mod playground;
    mod products;
    mod profile;
    mod restart;
    mod startup;
    mod status;
    mod timers;
    mod visibility;
}

/// The stories that involve the adapter. How a page looks (`access`, `pictures`) is the same HTML; what a store does
/// (`dead_store`), how the program starts (`startup`) and what the death of a process leaves behind (`downtime`, `outage`, `restart`) is below what adapters know, and
/// the one part of theirs, the drain, is in their conformance suite.
#[path = "."]
mod over_axum {
    const ADAPTER: &str = "axum";

    mod admin;
    mod auction;
    mod chat;
    mod counter;
    mod inspector;
    mod journey;
    mod login;
    mod pages;
    mod playground;
    mod products;
    mod profile;
    mod status;
    mod timers;
    mod visibility;
}

/// For the hand-written adapter, one page is enough.
#[path = "."]
mod over_hyper {
    const ADAPTER: &str = "hyper";

    mod counter;
}

use faststate_tests::{Demo, Page, Session, http, until};

/// The button that sends the form's event.
const ADD: &str = "#increment";

/// The number of open streams of the demo.
fn streams(demo: &Demo) -> u64 {
    demo.health()["connections"].as_u64().expect("health counts connections")
}

/// Waits until the demo has exactly `count` open streams.
fn streaming(demo: &Demo, count: u64) {
    until(&format!("{count} open streams"), || streams(demo), |open| *open == count);
}

/// Opens a window of this session and signs in with the form.
fn sign_in(session: &Session, demo: &Demo, user: &str) -> Page {
    let page = session.open(&demo.url("/login"));
    fill_in(&page, user);
    page
}

/// Submits the sign-in form, and waits for the next page.
fn fill_in(page: &Page, user: &str) {
    page.fill("#name", user);
    page.fill("#password", "faststate");
    page.eval("window.before = true");
    page.enter();
    page.until("window.datastarReady && !window.before");
    page.shows("#who", user);
}

/// Signs in without a browser; returns the header line with the cookie of the new session.
fn cookie(demo: &Demo, user: &str) -> String {
    let form = format!("name={user}&password=faststate");
    let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
    let reply = http::exchange(demo.address(), "POST", "/login", headers, form.as_bytes());
    let reply = reply.expect("the demo answers");
    assert_eq!(reply.status, 303, "{}", reply.text());
    let lines = reply.head.lines().filter_map(|line| line.split_once(": "));
    let set = lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).map(|(_, value)| value);
    let pairs: Vec<_> = set.filter_map(|value| value.split(';').next()).collect();
    assert_eq!(pairs.len(), 2, "a new session, and a hint");
    format!("Cookie: {}\r\nDatastar-Request: true\r\n", pairs.join("; "))
}

/// Sends an event with this cookie.
fn send(demo: &Demo, cookie: &str, path: &str, json: &str) -> String {
    let headers = format!("{cookie}Content-Type: application/json\r\n");
    let reply = http::exchange(demo.address(), "POST", path, &headers, json.as_bytes());
    let reply = reply.expect("the demo answers");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}
