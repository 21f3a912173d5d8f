//! Navigation: links, the back button, a second tab, offline mode, the keyboard.

use faststate_tests::{Demo, Session, http};
use serde_json::json;

use super::ADAPTER;
use crate::{ADD, streaming};

#[test]
fn the_navigation_leads_everywhere_and_shows_where_one_is() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/"));
    for (name, title) in [
        ("Products", "Products"),
        ("Chat", "Chat"),
        ("Counter", "Counter"),
        ("Status", "Status"),
        ("Home", "State on the server. Every window follows."),
    ] {
        let link = format!(
            "[...document.querySelectorAll('.top nav a')].find(link => link.textContent == '{name}').id = 'next'"
        );
        page.eval(&link);
        page.click("#next");
        page.shows("h1", title);
        page.until("window.datastarReady");
        page.shows(".top nav [aria-current=page]", name);
        // Leaving the previous page closes its stream.
        streaming(&demo, 1);
    }
}

#[test]
fn the_back_button_and_a_second_tab_show_the_truth() {
    let demo = Demo::over(ADAPTER);
    let session = Session::new();
    let (page, second) = (session.open(&demo.url("/counter")), session.open(&demo.url("/counter")));
    page.click(ADD);
    second.shows("#count", "1");
    page.click(".brand");
    page.shows("h1", "State on the server. Every window follows.");
    second.click(ADD);
    second.click(ADD);
    second.shows("#count", "3");
    page.eval("history.back()");
    page.shows("#count", "3");
    second.click(ADD);
    page.shows("#count", "4");
    page.eval("history.forward()");
    page.shows("h1", "State on the server. Every window follows.");
    page.eval("history.back()");
    page.shows("#count", "4");
    streaming(&demo, 2);
}

#[test]
fn a_browser_that_is_offline_says_so_and_comes_back() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/counter"));
    page.shows(".link [data-text]", "Connected");
    page.expect_complaints(&["ERR_"]);
    page.call("Network.enable", &json!({}));
    let network = |offline: bool| {
        let conditions =
            json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
        page.call("Network.emulateNetworkConditions", &conditions);
    };
    network(true);
    // Offline mode does not cut an open stream, but it blocks a reconnect.
    page.hide();
    page.show();
    page.shows(".link [data-text]", "Offline");
    let answer = http::post(demo.address(), "/faststate/counter/increment", r#"{"amount":7}"#);
    assert_eq!(answer.expect("the demo answers").status, 200);
    network(false);
    page.shows(".link [data-text]", "Connected");
    page.shows("#count", "7");
}

#[test]
fn the_keyboard_is_enough() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/"));
    let tab = || {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 });
            page.call("Input.dispatchKeyEvent", &key);
        }
    };
    tab();
    assert_eq!(page.eval("document.activeElement.className"), "skip");
    page.enter();
    page.until("document.activeElement.id == 'content'");
    let mut reached = Vec::new();
    for _ in 0..16 {
        tab();
        let name = "document.activeElement.id || document.activeElement.ariaLabel || document.activeElement.textContent.trim()";
        reached.push(page.eval(name).as_str().unwrap_or_default().to_owned());
        let outlined = "getComputedStyle(document.activeElement).outlineStyle != 'none'";
        assert_eq!(page.eval(outlined), true, "{reached:?}");
    }
    for control in
        ["Decrement", "number-field", "Increment", "text", "start-ticking", "Start Tea", "Clear Eggs"]
    {
        assert!(reached.iter().any(|seen| seen == control), "{control}: {reached:?}");
    }
    page.focus("button[aria-label=Increment]");
    page.enter();
    page.shows("#number", "1");
}
