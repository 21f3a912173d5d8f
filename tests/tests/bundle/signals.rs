//! Merging of signals.

use faststate::internal::EncodedFields;
use faststate_tests::{Answer, Page, Session, Site, until};
use serde_json::json;

use crate::{LISTEN, site, visit};

/// A page that shows `$a.x` and counts events in `$done`, and a stream to it.
fn watched(signals: &str) -> (Site, Page) {
    let body = format!(
        r#"<body data-signals="{signals}" data-init="{LISTEN}">
        <p id="x" data-text="typeof $a.x == 'object' ? '' : $a.x"></p>
        <p id="all" data-text="JSON.stringify($a.x)"></p>
        <p id="k" data-text="$a.x?.k ?? 'none'"></p>
        <p id="done" data-text="$done"></p>"#
    );
    let site = site(&body).on("/stream", [Answer::Stream("")]);
    let page = visit(&site);
    site.streaming("/stream", 1);
    (site, page)
}

/// Waits until all pushed events are merged.
fn settled(site: &Site, page: &Page, mark: u32) {
    site.patch("/stream", &format!(r#"{{"done":{mark}}}"#));
    page.shows("#done", &mark.to_string());
}

#[test]
fn null_deletes_a_signal_and_what_read_it_stays_frozen() {
    let (site, page) = watched("{a: {x: 'one'}, done: 0}");
    page.shows("#x", "one");
    site.patch("/stream", r#"{"a":{"x":null}}"#);
    site.patch("/stream", r#"{"a":{"x":"two"}}"#);
    settled(&site, &page, 1);
    assert_eq!(page.signal("a.x"), "two");
    assert_eq!(page.text("#x").as_deref(), Some("one"));
}

#[test]
fn an_empty_string_clears_a_signal_and_what_read_it_stays_alive() {
    let (site, page) = watched("{a: {x: 'one'}, done: 0}");
    page.shows("#x", "one");
    site.patch("/stream", r#"{"a":{"x":""}}"#);
    page.shows("#x", "");
    site.patch("/stream", r#"{"a":{"x":"two"}}"#);
    page.shows("#x", "two");
}

#[test]
fn merging_an_object_keeps_the_keys_it_lacks() {
    let (site, page) = watched("{a: {x: {k: 1, l: 2}}, done: 0}");
    site.patch("/stream", r#"{"a":{"x":{"l":3}}}"#);
    page.shows("#all", r#"{"k":1,"l":3}"#);
}

#[test]
fn an_empty_string_before_an_object_takes_removed_keys_away() {
    let (site, page) = watched("{a: {x: {k: 1, l: {m: 2, n: 3}}}, done: 0}");
    page.shows("#k", "1");
    site.patch("/stream", r#"{"a":{"x":""}}"#);
    site.patch("/stream", r#"{"a":{"x":{"l":{"n":4}}}}"#);
    settled(&site, &page, 1);
    assert_eq!(page.signal("a.x.l"), json!({ "n": 4 }));
    page.shows("#k", "");

    // The key returns, and its binding updates again.
    site.patch("/stream", r#"{"a":{"x":{"k":5}}}"#);
    page.shows("#k", "5");
    site.patch("/stream", r#"{"a":{"x":{"k":6}}}"#);
    page.shows("#k", "6");
}

#[test]
fn an_object_may_become_text_and_an_object_again() {
    let (site, page) = watched("{a: {x: {k: 1}}, done: 0}");
    for round in 2..5 {
        site.patch("/stream", r#"{"a":{"x":""}}"#);
        page.shows("#all", r#""""#);
        site.patch("/stream", &format!(r#"{{"a":{{"x":{{"k":{round}}}}}}}"#));
        page.shows("#all", &format!(r#"{{"k":{round}}}"#));
        page.shows("#k", &round.to_string());
    }
}

#[test]
fn an_array_is_replaced_whole() {
    let (site, page) = watched("{a: {x: [1, 2, {k: 3, l: 4}]}, done: 0}");
    page.shows("#all", r#"[1,2,{"k":3,"l":4}]"#);
    for next in [r#"[{"l":5},6]"#, "[]", r#"["one"]"#, "[[1],[]]"] {
        site.patch("/stream", &format!(r#"{{"a":{{"x":{next}}}}}"#));
        page.shows("#all", next);
    }
}

#[test]
fn reading_a_signal_that_does_not_exist_creates_it_empty() {
    let (site, page) = watched("{a: {}, done: 0}");
    page.shows("#x", "");
    assert_eq!(page.signal("a.x"), "");
    site.patch("/stream", r#"{"a":{"x":"now it does"}}"#);
    page.shows("#x", "now it does");
}

#[test]
fn strict_json_stays_data_and_anything_else_is_run() {
    let (site, page) = watched("{a: {x: ''}, done: 0}");
    let code = r#"{"a":{"x":"function () { return window.ran = 1 }", "y":"window.ran = 2"}}"#;
    site.patch("/stream", code);
    settled(&site, &page, 1);
    assert_eq!(page.eval("window.ran ?? 'not run'"), "not run");
    assert_eq!(page.signal("a.y"), "window.ran = 2");

    site.patch("/stream", r#"{"a":{"x": window.ran = 3}}"#);
    page.shows("#x", "3");
    assert_eq!(page.eval("window.ran"), 3);
}

#[test]
fn numbers_beyond_2_53_lose_their_last_digits_and_texts_do_not() {
    let (site, page) = watched("{a: {x: ''}, done: 0}");
    site.patch("/stream", r#"{"a":{"x":9007199254740993}}"#);
    page.shows("#x", "9007199254740992");
    site.patch("/stream", r#"{"a":{"x":"9007199254740993"}}"#);
    page.shows("#x", "9007199254740993");
}

#[test]
fn dots_in_a_key_make_a_path_that_reaches_prototypes() {
    // This is the reason why such names are refused at any level.
    for (key, polluted) in [
        ("k.__proto__.polluted", "({}).polluted"),
        ("k.constructor.prototype.polluted", "({}).polluted"),
        ("toString.polluted", "({}).toString.polluted"),
    ] {
        let (site, page) = watched("{a: {x: {}}, done: 0}");
        site.patch("/stream", &format!(r#"{{"a":{{"x":{{"{key}":"yes"}}}}}}"#));
        settled(&site, &page, 1);
        assert_eq!(page.eval(polluted), "yes", "{key}");
    }
}

/// A state with other keys is not encoded.
#[test]
fn law_12_keys_that_reach_prototypes_are_refused() {
    let page = Session::new().window();
    page.navigate("about:blank");
    let inherited = page.eval("Object.getOwnPropertyNames(Object.prototype)");
    for name in inherited.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str) {
        for key in [name.to_owned(), format!("{name}.a"), format!("a.{name}.b")] {
            assert!(EncodedFields::of(&json!({ "map": { &*key: 1 } })).is_err(), "{key}");
        }
    }
}

#[test]
fn objects_under_inherited_names_reach_prototypes() {
    let (site, page) = watched("{a: {x: {}}, done: 0}");
    for (mark, value) in [(1, "one"), (2, "two")] {
        site.patch("/stream", &format!(r#"{{"a":{{"x":{{"toString":{{"polluted":"{value}"}}}}}}}}"#));
        settled(&site, &page, mark);
    }
    assert_eq!(page.eval("({}).toString.polluted"), "two");
}

#[test]
fn a_proto_key_breaks_the_page() {
    let (site, page) = watched("{a: {x: {}}, done: 0}");
    page.expect_complaints(&["Cannot create property"]);
    site.patch("/stream", r#"{"a":{"x":{"__proto__":{"polluted":"yes"}}}}"#);
    until("an exception", || page.complaints().len(), |complaints| *complaints > 0);
}
