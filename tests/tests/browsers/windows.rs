//! Several windows of one browser.

use faststate_tests::Demo;

use super::BROWSER;
use crate::increment;

#[test]
fn two_windows_of_one_page_both_follow() {
    let demo = Demo::start();
    let visitor = BROWSER.visitor();
    let windows = [(); 2].map(|()| visitor.open(&demo.url("/counter")));
    increment(&demo, 3);
    for window in &windows {
        window.shows("#count", "3");
        window.shows(".link [data-text]", "Connected");
    }
}
