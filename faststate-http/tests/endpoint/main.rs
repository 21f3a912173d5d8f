//! The endpoint over the real engine, without a socket.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod app;
mod events;
mod heads;
mod health;
#[cfg(feature = "inspector")]
mod inspector;
#[cfg(feature = "metrics")]
mod metrics;
mod mistakes;
mod new_sessions;
mod nodes;
mod pages;
mod spans;
mod stale;
mod streams;
