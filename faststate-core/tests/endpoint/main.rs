//! The endpoint over the real engine, without a socket.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod app;
mod events;
mod nodes;
mod pages;
mod stale;
mod streams;
