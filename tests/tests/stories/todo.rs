//! The to-do example, shared by two users.

use faststate_tests::{Example, Page, Session};
use serde_json::json;

fn open(example: &Example, authorization: &str) -> Page {
    let page = Session::new().window();
    page.call("Network.enable", &json!({}));
    page.call("Network.setExtraHTTPHeaders", &json!({ "headers": { "Authorization": authorization } }));
    page.expect_complaints(&["favicon"]);
    page.goto_without_cdn(&example.url("/"));
    page
}

#[test]
fn two_people_share_a_list() {
    let example = Example::start("todo");
    let (ada, ben) = (open(&example, "Basic YWRhOmFkYQ=="), open(&example, "Basic YmVuOmJlbg=="));
    ada.fill("input", "Buy <b>bread</b>");
    ada.enter();
    ben.mentions("#list", "Buy <b>bread</b> (ada)");
    ben.fill("input", "Bake it");
    ben.enter();
    ada.mentions("#list li:nth-child(2)", "Bake it (ben)");
    ada.click("#list li:nth-child(1) button");
    ben.until("document.querySelectorAll('#list li:nth-child(1) button').length == 0");
    assert_eq!(ben.count("#list button"), 1);
}

#[test]
fn law_08_a_stranger_is_asked_who_they_are() {
    let example = Example::start("todo");
    let stranger = faststate_tests::http::get(example.address(), "/").expect("the example answers");
    assert_eq!((stranger.status, stranger.header("www-authenticate")), (401, Some("Basic")));
    let stranger = faststate_tests::http::get(example.address(), "/faststate/sse?states=todo");
    assert_eq!(stranger.expect("the example answers").status, 404);
}
