//! The testing kit: that it sees what browsers see, and that each of its assertions can fail.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod access;
mod app;
mod clock;
mod cluster;
mod notices;
mod pages;
mod stories;
