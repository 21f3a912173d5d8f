//! Records: each product has its own address and followers.

use faststate_tests::{Demo, Page, Session, http, until};

use super::ADAPTER;

fn open(demo: &Demo, path: &str) -> Page {
    Session::new().open(&demo.url(path))
}

fn has(page: &Page, field: &str, text: &str) {
    page.until(&format!("document.querySelector('{field}').value == '{text}'"));
}

/// Records the page's requests from now on.
fn watch(page: &Page) {
    page.eval(
        "window.sent = []; const ask = window.fetch;
        window.fetch = (url, options) => { options?.method == 'POST' && sent.push(options.body); return ask(url, options) }",
    );
}

#[test]
fn two_windows_on_one_product_follow_each_other_and_another_is_untouched() {
    let demo = Demo::over(ADAPTER);
    let pages = [open(&demo, "/product/lamp"), open(&demo, "/product/lamp")];
    let (other, all) = (open(&demo, "/product/mug"), open(&demo, "/products"));
    pages[0].click("#buy");
    for page in &pages {
        page.shows("#shown-stock", "11 in stock");
        has(page, "#stock", "11");
    }
    all.mentions(".shelf li:nth-child(1) .price", "11 in stock");
    assert_eq!(other.text("#shown-stock").as_deref(), Some("40 in stock"));
    assert_eq!(other.signal("product.lamp"), serde_json::Value::Null);
    other.click("#buy");
    other.shows("#shown-stock", "39 in stock");
    assert_eq!(pages[1].text("#shown-stock").as_deref(), Some("11 in stock"));
}

#[test]
fn law_02_edits_of_one_product_at_the_same_time_merge() {
    let demo = Demo::over(ADAPTER);
    let (first, second) = (open(&demo, "/product/clock"), open(&demo, "/product/clock"));
    watch(&first);
    first.fill("#name", "Loud clock");
    first.shows("#touched", "Not saved yet: name");
    second.fill("#price", "1.5");
    second.fill("#description", "");
    second.click("#save");
    // The page shows the other client's save, and keeps the text being typed.
    first.shows("#shown-price", "€ 1.50");
    has(&first, "#price", "1.50");
    has(&first, "#name", "Loud clock");
    assert_eq!(first.text("#product-title").as_deref(), Some("Quiet clock"));
    first.click("#save");
    for page in [&first, &second] {
        page.shows("#product-title", "Loud clock");
        page.shows("#shown-price", "€ 1.50");
        page.shows("#shown-description", "");
        page.shows("#touched", "Everything is saved");
    }
    assert_eq!(first.eval("sent"), serde_json::json!([r#"{"name":"Loud clock"}"#]), "only what was touched");
}

#[test]
fn who_edits_the_same_field_sees_what_was_saved_meanwhile() {
    let demo = Demo::over(ADAPTER);
    let (first, second) = (open(&demo, "/product/book"), open(&demo, "/product/book"));
    first.fill("#name", "Mine");
    second.fill("#name", "Yours");
    second.click("#save");
    first.mentions("#name-meanwhile", "Yours");
    has(&first, "#name", "Mine");
    first.click("#save");
    second.shows("#product-title", "Mine");
    has(&second, "#name", "Mine");
    first.shows("#name-meanwhile", "");
}

#[test]
fn a_mistake_shows_beside_its_field_and_nothing_is_saved() {
    let demo = Demo::over(ADAPTER);
    let page = open(&demo, "/product/mug");
    page.fill("#name", " ");
    page.fill("#price", "free");
    page.click("#save");
    page.mentions("#name-error", "1 to 60");
    page.mentions("#price-error", "24.90");
    assert_eq!(page.text("#shown-price").as_deref(), Some("€ 14.50"));
    assert_eq!(page.text("#product-title").as_deref(), Some("Enamel mug"));
}

#[test]
fn the_last_one_is_taken_once_and_the_other_is_told() {
    let demo = Demo::over(ADAPTER);
    let (first, second) = (open(&demo, "/product/chair"), open(&demo, "/product/chair"));
    for left in (0..4).rev() {
        first.click("#buy");
        second.shows("#shown-stock", &format!("{left} in stock"));
    }
    second.click("#buy");
    second.mentions("#problem", "the last one");
    assert_eq!(second.text("#shown-stock").as_deref(), Some("0 in stock"));
    // A problem stays until it is dismissed or until an event succeeds.
    second.click("#problem button");
    until("the problem to go", || second.count("#problem *"), |count| *count == 0);
}

#[test]
fn an_unknown_product_is_a_friendly_404() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().window();
    page.expect_complaints(&["404"]);
    page.goto(&demo.url("/product/dragon"));
    page.shows("h1", "There is no such product");
    page.click("main a[href='/products']");
    page.until("document.querySelectorAll('.shelf li').length == 6");
    assert_eq!(http::get(demo.address(), "/product/dragon").map(|reply| reply.status).ok(), Some(404));
    let answer = http::post(demo.address(), "/faststate/product/dragon/buy", "{}").expect("the demo answers");
    assert_eq!(answer.status, 404);
}
