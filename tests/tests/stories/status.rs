//! The status page.

use faststate_tests::{Demo, Folder, Page, Session, until};

use super::ADAPTER;
use crate::{ADD, streaming};

fn figure(page: &Page, name: &str) -> String {
    page.text(&format!("[data-figure={name}]")).unwrap_or_default()
}

#[test]
fn the_figures_are_live_and_true() {
    let folder = Folder::new("status");
    let store = format!("sqlite://{}", folder.join("demo.db").display());
    let demo = Demo::with(&["--adapter", ADAPTER, "--store", &store]);
    let page = Session::new().open(&demo.url("/status"));
    until("the first figures", || figure(&page, "streams"), |streams| streams == "1");
    page.mentions("#nodes h2", &demo.address().to_string());
    let other = Session::new().open(&demo.url("/counter"));
    until("the second stream", || figure(&page, "streams"), |streams| streams == "2");
    until(
        "events",
        || {
            other.click(ADD);
            figure(&page, "rate")
        },
        |rate| rate.parse::<u64>().is_ok_and(|rate| rate > 0),
    );
    assert_eq!(figure(&page, "conflicts"), "0");
    assert!(figure(&page, "memory").ends_with("MiB"), "{}", figure(&page, "memory"));
    for store in ["default", "memory"] {
        page.mentions(&format!("tr[data-store={store}]"), "answers");
        page.mentions(&format!("tr[data-store={store}]"), "ms");
    }
    let uptime = page.text("#nodes .hint");
    until("the next second", || page.text("#nodes .hint"), |seen| *seen != uptime);
}

#[test]
fn the_button_opens_and_closes_a_test_stream() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/status"));
    until("the first figures", || figure(&page, "streams"), |streams| streams == "1");
    for _ in 0..2 {
        page.click("#test-stream");
        streaming(&demo, 2);
        until("one stream more", || figure(&page, "streams"), |streams| streams == "2");
        page.shows("#test-stream", "Close the stream");
        page.click("#test-stream");
        streaming(&demo, 1);
        until("one stream less", || figure(&page, "streams"), |streams| streams == "1");
    }
    page.shows(".link [data-text]", "Connected");
}
