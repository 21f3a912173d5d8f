//! Number fields, typed key by key.

use faststate_tests::{Demo, until};

use super::BROWSER;

/// Typed texts with the numbers that they mean.
const TYPED: [(&str, &str); 3] = [("-12", "-12"), ("1e3", "1000"), ("7", "7")];

#[test]
fn bound_number_is_saved_as_typed() {
    let demo = Demo::start();
    let page = BROWSER.visitor().open(&demo.url("/"));
    for (typed, number) in TYPED {
        page.fill("#number-field", typed);
        page.shows("#number", number);
        assert_eq!(page.value("#number-field"), typed);
    }
}

#[test]
fn bound_number_that_is_emptied_is_not_saved_as_zero() {
    let demo = Demo::start();
    let page = BROWSER.visitor().open(&demo.url("/"));
    page.fill("#number-field", "5");
    page.shows("#number", "5");
    page.fill("#number-field", "");
    page.eval("new Promise(done => setTimeout(done, 600))");
    assert_eq!(page.value("#number-field"), "");
    page.shows("#number", "5");
    // After it loses the focus, the field shows the server's number.
    page.eval("document.activeElement.blur()");
    until("the field to show the number again", || page.value("#number-field"), |seen| seen == "5");
}

#[test]
fn minus_that_is_typed_survives_a_change_from_the_server() {
    let demo = Demo::start();
    let visitor = BROWSER.visitor();
    let (page, other) = (visitor.open(&demo.url("/")), visitor.open(&demo.url("/")));
    page.fill("#number-field", "-");
    other.click("button[aria-label=Increment]");
    page.shows("#number", "1");
    page.type_keys("12");
    page.shows("#number", "-12");
    other.shows("#number", "-12");
    until("the other field to follow", || other.value("#number-field"), |seen| seen == "-12");
}

#[test]
fn amount_is_sent_as_typed() {
    let demo = Demo::start();
    let page = BROWSER.visitor().open(&demo.url("/counter"));
    page.fill("#amount", "-12");
    page.click("#increment");
    page.shows("#amount-error", "from 1 to 1000");
    page.shows("#count", "0");
    page.fill("#amount", "1e3");
    page.click("#increment");
    page.shows("#count", "1000");
    assert_eq!(page.value("#amount"), "1e3");
}

#[test]
fn amount_that_is_emptied_sends_nothing() {
    let demo = Demo::start();
    let page = BROWSER.visitor().open(&demo.url("/counter"));
    page.fill("#amount", "");
    page.click("#increment");
    page.click("#decrement");
    page.until("document.querySelector('#amount').validity.valueMissing");
    page.fill("#amount", "3");
    page.click("#increment");
    page.shows("#count", "3");
    page.shows("#update-count", "1");
}
