//! The headers of requests that show their origin, which the guard checks.

use faststate_tests::{Answer, Page, Request, Session, Site};

use crate::site;

/// A page that follows, and acts on a click. `target` is the prefix of the paths.
fn talkative(target: &str) -> Site {
    let body = format!(
        r#"<body data-init="@get('{target}/stream')"><button data-on:click="@post('{target}/act',{{payload:{{}}}})">Go</button>
        <form method="post" action="{target}/form"><input type="submit" id="submit"></form>"#
    );
    let done = || [Answer::Whole(204, "", String::new())];
    site(&body).on("/stream", done()).on("/act", done()).on("/form", done())
}

/// The headers that the guard reads: `Sec-Fetch-Site`, `Origin`, `Datastar-Request`.
fn provenance(request: &Request) -> [Option<&str>; 3] {
    ["sec-fetch-site", "origin", "datastar-request"].map(|name| request.header(name))
}

fn open_and_act(site: &Site, url: &str) -> Page {
    let page = Session::new().open(url);
    page.click("button");
    let _ = (site.requested("/stream", 1), site.requested("/act", 1));
    page
}

#[test]
fn a_page_on_a_secure_origin_says_that_it_is_same_origin() {
    let site = talkative("");
    let _page = open_and_act(&site, &site.url());
    let origin = site.url();
    let origin = origin.trim_end_matches('/');
    assert_eq!(provenance(&site.requests("/stream")[0]), [Some("same-origin"), None, Some("true")]);
    assert_eq!(provenance(&site.requests("/act")[0]), [Some("same-origin"), Some(origin), Some("true")]);
}

#[test]
fn on_a_plain_http_host_an_event_says_its_origin_and_a_stream_only_that_it_is_datastars() {
    let site = talkative("");
    let _page = open_and_act(&site, &site.url_by_name());
    let origin = site.url_by_name();
    let origin = origin.trim_end_matches('/');
    assert_eq!(provenance(&site.requests("/stream")[0]), [None, None, Some("true")]);
    assert_eq!(provenance(&site.requests("/act")[0]), [None, Some(origin), Some("true")]);
}

#[test]
fn a_foreign_page_cannot_claim_to_be_datastar_without_asking_first() {
    let victim = talkative("");
    let attacker = talkative(victim.url().trim_end_matches('/'));
    let page = Session::new().open(&attacker.url_by_name());
    page.expect_complaints(&["CORS", "ERR_FAILED", "preflight"]);
    page.click("button");
    for path in ["/stream", "/act"] {
        let asked = victim.requested(path, 1);
        assert!(asked.iter().all(|request| request.method == "OPTIONS"), "{path}");
    }
}

#[test]
fn a_foreign_form_says_where_it_comes_from() {
    let victim = talkative("");
    let attacker = talkative(victim.url().trim_end_matches('/'));
    let page = Session::new().open(&attacker.url_by_name());
    page.expect_complaints(&["CORS", "ERR_FAILED", "preflight"]);
    page.click("#submit");
    let origin = attacker.url_by_name();
    let form = &victim.requested("/form", 1)[0];
    assert_eq!(provenance(form), [Some("cross-site"), Some(origin.trim_end_matches('/')), None]);
}
