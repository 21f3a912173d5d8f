//! The inspector shows every event live.

use std::path::Path;

use faststate_tests::{Demo, Session, http};

use super::ADAPTER;
use crate::ADD;

/// The selector of the events, newest first.
const FIRST: &str = "#events > li:first-child";

fn demo() -> Demo {
    Demo::with(&["--adapter", ADAPTER, "--store", "memory:", "--inspector", "--metrics", "--token", "t0ken"])
}

#[test]
fn what_happens_is_shown_live_and_can_be_found_and_cleared() {
    let demo = demo();
    let developer = Session::new().open(&demo.url("/faststate/inspector?token=t0ken"));
    developer.mentions(".nothing", "Nothing yet");
    let visitor = Session::new().open(&demo.url("/counter"));
    visitor.fill("#user", "<Ada>");
    visitor.click(ADD);
    developer.mentions(FIRST, "counter.increment");
    developer.mentions(FIRST, "signals \u{d7} 1");
    developer.shows(&format!("{FIRST} .outcome"), "changed");
    developer.mentions(&format!("{FIRST} dl"), "\"<Ada>\"");
    developer.until("getComputedStyle(document.querySelector('.nothing')).display === 'none'");
    visitor.fill("#amount", "5000");
    visitor.click(ADD);
    developer.shows(&format!("{FIRST} .outcome"), "rejected");

    let shown = |count: u64| {
        let visible = "[...document.querySelectorAll('#events > li')].filter(li => li.offsetHeight).length";
        developer.until(&format!("{visible} === {count}"));
    };
    let all = developer.count("#events > li");
    developer.click("input[type=checkbox]");
    shown(1);
    developer.click("input[type=checkbox]");
    developer.fill("input[type=search]", "INCREMENT");
    shown(2);
    developer.fill("input[type=search]", "");
    shown(all);

    // A hidden inspector misses no event.
    developer.hide();
    visitor.click("#reset");
    developer.show();
    developer.mentions(FIRST, "counter.reset");
    developer.click("button");
    developer.until("document.querySelectorAll('#events > li').length === 0");
    visitor.fill("#amount", "3");
    visitor.click(ADD);
    developer.mentions(FIRST, "counter.increment");
    for width in [1280, 390] {
        for scheme in ["light", "dark"] {
            developer.look(width, scheme);
            assert_eq!(developer.barriers(), [""; 0], "{width} {scheme}");
            let wide = developer.eval("document.documentElement.scrollWidth > innerWidth");
            assert_eq!(wide, false, "{width} {scheme}: something is too wide");
            if std::env::var_os("FASTSTATE_SCREENSHOTS").is_some() {
                let folder = std::env::current_exe().expect("a test knows its program");
                let folder = folder.ancestors().nth(3).unwrap_or(Path::new("target")).join("screenshots");
                std::fs::create_dir_all(&folder).expect("a folder for the pictures");
                developer.picture(width, scheme, &folder.join(format!("inspector-{width}-{scheme}.png")));
            }
        }
    }
}

#[test]
fn law_08_it_is_there_only_when_asked_for_and_on_this_machine() {
    let (closed, open) = (Demo::with(&["--adapter", ADAPTER, "--store", "memory:"]), demo());
    for path in ["/faststate/inspector", "/faststate/metrics", "/faststate/inspector/sse?states=log"] {
        let status = |demo: &Demo, headers: &str| {
            http::exchange(demo.address(), "GET", path, headers, b"").expect("the demo answers").status
        };
        assert_eq!(status(&closed, ""), 404, "{path}");
        let token = "Authorization: Bearer t0ken\r\n";
        assert_eq!(status(&open, &format!("X-Forwarded-For: 127.0.0.1\r\n{token}")), 404, "{path}");
        assert_eq!(status(&open, "Authorization: Bearer t0ke\r\n"), 404, "{path}");
        assert_eq!(status(&open, ""), 404, "{path} without the token");
    }
    let visitor = Session::new().open(&open.url("/counter"));
    visitor.click(ADD);
    visitor.shows("#count", "1");
    let metrics =
        http::get(open.address(), "/faststate/metrics?token=t0ken").expect("the demo answers").text();
    let changed = "faststate_events_total{state=\"counter\",event=\"increment\",outcome=\"changed\"} 1\n";
    assert!(metrics.contains(changed) && metrics.contains("\nfaststate_streams 1\n"), "{metrics}");
    let inspector = http::get(open.address(), "/faststate/inspector?token=t0ken").expect("the demo answers");
    assert_eq!(inspector.status, 303, "it leads on to the page without the token in its address");
}
