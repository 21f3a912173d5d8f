//! What holds for every page.

use std::{fs, path::Path};

use faststate_tests::{Demo, Page, Session, http};
use serde_json::json;

const PAGES: &[(&str, &str)] = &[("home", "/"), ("counter", "/counter"), ("chat", "/chat")];
const WIDTHS: &[u32] = &[1280, 390];

fn every_page(demo: &Demo) -> impl Iterator<Item = (&'static str, Page)> {
    let session = Session::new();
    PAGES.iter().map(move |(name, path)| (*name, session.open(&demo.url(path))))
}

#[test]
fn the_bundle_is_the_pinned_one_and_its_integrity_is_checked() {
    let demo = Demo::start();
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
    let demo = Demo::start();
    let page = Session::new().open(&demo.url("/"));
    assert_eq!(page.eval("document.cookie"), "");
    let cookies = page.call("Network.getCookies", &json!({}));
    let cookie = &cookies["cookies"][0];
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&json!(true), &json!("Lax")), "{cookies}");
}

#[test]
fn every_page_has_one_heading_a_title_and_a_name_for_each_control() {
    let demo = Demo::start();
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
    let demo = Demo::start();
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
    let demo = Demo::start();
    for (name, page) in every_page(&demo) {
        page.until("$_ = document.querySelector('.link[data-link=connected]')");
        let shifts = "new Promise(done => new PerformanceObserver(list =>
            done(list.getEntries().reduce((sum, shift) => sum + shift.value, 0)))
            .observe({ type: 'layout-shift', buffered: true })) ";
        // The observer stays silent when nothing has shifted.
        let silent = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))";
        let shift = page.eval(&format!("Promise.race([{shifts}, {silent}])")).as_f64().unwrap_or(1.0);
        assert!(shift < 0.02, "{name} shifted by {shift}");
    }
}

#[test]
fn pictures_are_taken_when_asked_for() {
    if std::env::var_os("FASTSTATE_SCREENSHOTS").is_none() {
        return;
    }
    let demo = Demo::start();
    for (username, message) in
        [("Ada", "Hello, everybody!"), ("Ben", "Hi Ada. It followed at once."), ("Ada", "As it should.")]
    {
        let json = json!({ "username": username, "message": message }).to_string();
        let _ = http::post(demo.address(), "/faststate/chat/send_message", &json);
    }
    let _ = http::post(demo.address(), "/faststate/counter/increment", r#"{"amount":42,"user":"Ada"}"#);
    let program = std::env::current_exe().expect("a test knows its program");
    let folder = program.ancestors().nth(3).unwrap_or(Path::new("target")).join("screenshots");
    fs::create_dir_all(&folder).expect("a folder for the pictures");
    let take = |name: &str, page: &Page| {
        for width in WIDTHS {
            for scheme in ["light", "dark"] {
                page.picture(*width, scheme, &folder.join(format!("{name}-{width}-{scheme}.png")));
            }
        }
    };
    for (name, page) in every_page(&demo) {
        page.until("document.querySelector('.link[data-link=connected]')");
        take(name, &page);
    }
    let page = Session::new().open(&demo.url("/counter"));
    page.fill("#amount", "1001");
    page.click("#decrement");
    page.mentions("#amount-error", "1000");
    take("counter-refused", &page);
    page.expect_complaints(&["404"]);
    page.navigate(&demo.url("/nowhere"));
    take("nowhere", &page);
    page.goto(&demo.url("/"));
    page.expect_complaints(&["ERR_"]);
    drop(demo);
    page.until("document.querySelector('.link[data-link=reconnecting]')");
    take("home-reconnecting", &page);
    println!("pictures are in {}", folder.display());
}
