//! States of every shape, over the real engine and the Salvo adapter, in a real browser.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod app;
mod refusals;
mod scopes;
mod shapes;
mod texts;
mod walk;
