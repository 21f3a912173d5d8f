//! Accessibility: axe-core on every page, light and dark, desktop and phone.

use faststate_tests::{Demo, Page, Session, http};

use super::ADAPTER;
use crate::sign_in;

fn no_barriers(name: &str, page: &Page) {
    for width in [1280, 390] {
        for scheme in ["light", "dark"] {
            page.look(width, scheme);
            let barriers = page.barriers();
            assert!(barriers.is_empty(), "{name}, {width}, {scheme}: {barriers:#?}");
        }
    }
}

#[test]
fn no_page_has_a_barrier() {
    let demo = Demo::over(ADAPTER);
    let said = r#"{"username":"Ada","message":"Hello"}"#;
    let _ = http::post(demo.address(), "/faststate/chat/send_message", said);
    let guest = Session::new().window();
    guest.expect_complaints(&["404"]);
    for path in [
        "/",
        "/products",
        "/product/lamp",
        "/auction",
        "/auction/l1",
        "/chat",
        "/counter",
        "/login",
        "/source/home.rs",
        "/nowhere",
    ] {
        guest.goto(&demo.url(path));
        guest.shows(".link [data-text]", "Connected");
        no_barriers(path, &guest);
    }
    guest.goto(&demo.url("/status"));
    guest.until("document.querySelector('[data-figure=streams]')");
    no_barriers("/status", &guest);
}

#[test]
fn no_page_of_an_administrator_has_a_barrier_in_any_theme() {
    let demo = Demo::over(ADAPTER);
    let session = Session::new();
    let page = sign_in(&session, &demo, "admin");
    no_barriers("/login", &page);
    page.goto(&demo.url("/profile"));
    page.fill("#preference", "Colour");
    page.fill("#value", "green");
    page.enter();
    page.mentions("#preferences", "green");
    no_barriers("/profile", &page);
    page.goto(&demo.url("/auction/l2"));
    no_barriers("/auction/l2", &page);
    page.goto(&demo.url("/auction"));
    page.click("#add-credit");
    page.shows("#credit", "100");
    no_barriers("/auction", &page);
    page.goto(&demo.url("/admin"));
    page.fill("#text", "An announcement");
    page.click("#announce");
    page.click("#maintenance-switch");
    page.until("document.querySelector('#maintenance').checkVisibility()");
    for theme in ["indigo", "ember", "forest"] {
        page.click(&format!("#theme-{theme}"));
        page.until(&format!("document.body.dataset.theme == '{theme}'"));
        no_barriers(theme, &page);
    }
    page.goto(&demo.url("/"));
    no_barriers("/ in another theme", &page);
}

#[test]
fn a_barrier_would_be_found() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/"));
    page.eval("document.querySelector('#text').labels[0].remove(), document.querySelector('.hint').style.color = '#ddd'");
    let barriers = page.barriers();
    let rules: Vec<_> =
        barriers.iter().map(|barrier| barrier.split(':').next().unwrap_or_default()).collect();
    assert!(rules.contains(&"color-contrast") && rules.contains(&"label"), "{barriers:#?}");
}

#[test]
fn what_went_wrong_is_no_barrier_either() {
    let demo = Demo::over(ADAPTER);
    let page = Session::new().open(&demo.url("/product/mug"));
    page.fill("#name", "");
    page.click("#save");
    page.mentions("#name-error", "1 to 60");
    no_barriers("a field's message", &page);
    page.goto(&demo.url("/product/chair"));
    for left in (0..4).rev() {
        page.click("#buy");
        page.shows("#shown-stock", &format!("{left} in stock"));
    }
    page.click("#buy");
    page.mentions("#problem", "the last one");
    no_barriers("a problem", &page);
}
