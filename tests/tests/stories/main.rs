//! What people see in the demo, over its real program in a real browser.

mod chat;
mod counter;
mod dead_store;
mod outage;
mod pages;
mod playground;
mod visibility;

use faststate_tests::{Demo, until};

/// The button that sends the form's event.
const ADD: &str = "#increment";

/// How many streams the demo has open.
fn streams(demo: &Demo) -> u64 {
    demo.health()["connections"].as_u64().expect("health counts connections")
}

/// Waits until the demo has exactly this many streams open.
fn streaming(demo: &Demo, count: u64) {
    until(&format!("{count} open streams"), || streams(demo), |open| *open == count);
}
