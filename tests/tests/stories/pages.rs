//! Properties of every page.

use faststate_tests::{Demo, Page, Session, http};
use serde_json::json;

use super::ADAPTER;
use crate::sign_in;

const PAGES: &[(&str, &str)] = &[
    ("home", "/"),
    ("products", "/products"),
    ("product", "/product/lamp"),
    ("profile", "/profile"),
    ("auction", "/auction"),
    ("lot", "/auction/l1"),
    ("chat", "/chat"),
    ("counter", "/counter"),
    ("status", "/status"),
    ("admin", "/admin"),
    ("login", "/login"),
    ("source", "/source/counter.rs"),
];

/// Every page, opened by an administrator.
pub(super) fn every_page(demo: &Demo) -> impl Iterator<Item = (&'static str, Page)> {
    let session = Session::new();
    drop(sign_in(&session, demo, "admin"));
    PAGES.iter().map(move |(name, path)| (*name, session.open(&demo.url(path))))
}

#[test]
fn the_bundle_is_the_pinned_one_and_its_integrity_is_checked() {
    let demo = Demo::over(ADAPTER);
    for (name, page) in every_page(&demo) {
        let script = page.eval(
            "(script => [script.src, script.integrity])(document.querySelector('script[type=module]'))",
        );
        assert!(
            script[0].as_str().is_some_and(|source| source.contains("/faststate/datastar.js")),
            "{name}: {script}"
        );
        let pinned = "sha384-twbOvafhSBQ0rJDNPzJdUw6DRvthVgAVfSIG1BQVmCiNO7Qh2zeVn7T5qstgjJ9q";
        assert_eq!(script[1], pinned, "{name}");
    }
}

#[test]
fn the_session_cookie_is_out_of_scripts_reach() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/"));
    assert_eq!(page.eval("document.cookie"), "");
    let cookies = page.call("Network.getCookies", &json!({}));
    let cookie = &cookies["cookies"][0];
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&json!(true), &json!("Lax")), "{cookies}");
}

#[test]
fn every_page_has_one_heading_a_title_and_a_name_for_each_control() {
    let demo = Demo::over(ADAPTER);
    for (name, page) in every_page(&demo) {
        assert_eq!(page.count("h1"), 1, "{name}");
        assert_eq!(page.count("main"), 1, "{name}");
        assert_eq!(page.eval("document.documentElement.lang"), "en", "{name}");
        assert_eq!(page.eval("document.title.length > 3"), true, "{name}");
        let nameless = "[...document.querySelectorAll('input, button, progress, output, a, [role=log]')].filter(control =>
            !(control.labels?.length || control.textContent.trim() || control.ariaLabel || control.getAttribute('aria-labelledby')
            || control.title)).map(control => control.outerHTML)";
        assert_eq!(page.eval(nameless), json!([]), "{name}");
    }
}

#[test]
fn nothing_is_wider_than_a_phone() {
    let demo = Demo::over(ADAPTER);
    let long = json!({ "username": "W".repeat(30), "message": "W".repeat(300) }).to_string();
    assert_eq!(
        http::post(demo.address(), "/faststate/chat/send_message", &long).map(|reply| reply.status).ok(),
        Some(200)
    );
    for (name, page) in every_page(&demo) {
        for width in [390, 320] {
            let phone = json!({ "width": width, "height": 800, "deviceScaleFactor": 2, "mobile": true });
            page.call("Emulation.setDeviceMetricsOverride", &phone);
            assert_eq!(page.eval("document.documentElement.scrollWidth"), width, "{name}");
        }
    }
}

#[test]
fn nothing_jumps() {
    let demo = Demo::over(ADAPTER);
    for (name, page) in every_page(&demo) {
        page.until("$_ = document.querySelector('.link[data-link=connected]')");
        let shifts = "new Promise(done => new PerformanceObserver(list => done(list.getEntries().map(shift =>
            [shift.value, ...shift.sources.map(source => (source.node?.outerHTML ?? '').slice(0, 80))])))
            .observe({ type: 'layout-shift', buffered: true })) ";
        // The observer reports nothing without a layout shift.
        let silent =
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done([]))))";
        let shifts = page.eval(&format!("Promise.race([{shifts}, {silent}])"));
        let values = shifts.as_array().into_iter().flatten().map(|shift| shift[0].as_f64().unwrap_or(1.0));
        assert!(values.sum::<f64>() < 0.02, "{name} shifted: {shifts}");
    }
}

#[test]
fn every_page_loads_quickly_from_this_server_alone_and_nothing_fails() {
    let demo = Demo::over(ADAPTER);
    for (name, page) in every_page(&demo) {
        page.until("document.querySelector('.link[data-link=connected]')");
        let foreign = page.eval(
            "performance.getEntriesByType('resource').filter(entry => new URL(entry.name).origin != location.origin
                || entry.responseStatus >= 400).map(entry => entry.name + ' ' + entry.responseStatus)",
        );
        assert_eq!(foreign, json!([]), "{name}");
        let paint = page.until("performance.getEntriesByName('first-contentful-paint')[0]?.startTime");
        println!("{name}: first paint after {paint} ms");
        // One second is a generous limit, because other tests run at the same time.
        assert!(paint.as_f64().is_some_and(|paint| paint < 3_000.0), "{name} painted after {paint} ms");
        assert_eq!(page.complaints(), [""; 0], "{name}");
    }
}

#[test]
fn every_link_of_ours_leads_somewhere_and_the_source_links_to_the_line() {
    let demo = Demo::over(ADAPTER);
    let mut seen = std::collections::BTreeSet::new();
    for (name, page) in every_page(&demo) {
        let links = page
            .eval("[...document.querySelectorAll('a[href^=\"/\"]')].map(link => link.getAttribute('href'))");
        for link in links.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str) {
            if !seen.insert(link.to_owned()) {
                continue;
            }
            let (path, line) = link.split_once('#').unwrap_or((link, ""));
            let reply = http::get(demo.address(), path).expect("the demo answers");
            assert!(matches!(reply.status, 200 | 303), "{name}: {link}: {}", reply.status);
            assert!(line.is_empty() || reply.text().contains(&format!("id=\"{line}\"")), "{name}: {link}");
        }
    }
    assert!(seen.iter().filter(|link| link.contains("#L")).count() >= 4, "{seen:?}");
    assert!(!seen.contains("/source/home.rs#"), "{seen:?}");
}

#[test]
fn a_failure_of_a_page_is_a_styled_page_under_the_strictest_policy() {
    let demo = Demo::over(ADAPTER);
    let headers = "Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: cross-site\r\n";
    let reply =
        http::exchange(demo.address(), "POST", "/login", headers, b"name=alice").expect("the demo answers");
    assert_eq!(reply.status, 403);
    assert!(
        reply.header("content-security-policy").is_some_and(|policy| policy.contains("style-src 'sha256-"))
    );
    assert!(reply.text().contains("another site"), "{}", reply.text());
}
