//! The focus after a list has changed.

use faststate_tests::{Demo, Key, Visitor, Window};

use super::BROWSER;

/// Opens the profile page, signed in with the form.
fn sign_in(visitor: &Visitor, demo: &Demo) -> Box<dyn Window> {
    let page = visitor.open(&demo.url("/login?next=/profile"));
    page.fill("#name", "alice");
    page.fill("#password", "faststate");
    page.press(Key::Enter);
    page.until("window.datastarReady && document.querySelector('h1')?.textContent == 'Profile'");
    page
}

fn prefer(page: &dyn Window, name: &str) {
    page.fill("#preference", name);
    page.fill("#value", "x");
    page.press(Key::Enter);
    page.until(&format!("document.querySelector('#preference-{name}')"));
    page.until("document.querySelector('#preference').value == ''");
}

fn shown(page: &dyn Window, names: &str) {
    let shown =
        "[...document.querySelectorAll('#preferences li .hint')].map(name => name.textContent).join(' ')";
    page.until(&format!("{shown} == '{names}'"));
}

#[test]
fn focus_stays_on_its_item_when_another_is_removed() {
    let demo = Demo::start();
    let visitor = BROWSER.visitor();
    let page = sign_in(&visitor, &demo);
    for name in ["aa", "bb", "cc"] {
        prefer(&*page, name);
    }
    let other = visitor.open(&demo.url("/profile"));
    page.until("document.querySelector('[aria-label=\"Remove bb\"]').focus(), true");
    other.click("[aria-label=\"Remove aa\"]");
    shown(&*page, "bb cc");
    assert_eq!(page.eval("document.activeElement.ariaLabel"), "Remove bb");
    page.press(Key::Enter);
    shown(&*page, "cc");
    shown(&*other, "cc");
}

#[test]
fn focus_moves_to_no_other_item_when_its_own_is_removed() {
    let demo = Demo::start();
    let visitor = BROWSER.visitor();
    let page = sign_in(&visitor, &demo);
    for name in ["aa", "bb"] {
        prefer(&*page, name);
    }
    let other = visitor.open(&demo.url("/profile"));
    page.until("document.querySelector('[aria-label=\"Remove aa\"]').focus(), true");
    other.click("[aria-label=\"Remove aa\"]");
    shown(&*page, "bb");
    page.press(Key::Enter);
    // A change after the key press shows that no other button received it.
    prefer(&*other, "dd");
    shown(&*page, "bb dd");
}
