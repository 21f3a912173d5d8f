//! Benchmarks of FastState and its alternatives.
//!
//! The application is a board of 16 numbers that every follower sees live. It is written with FastState and with each
//! alternative. A benchmark starts each [`Server`] as a separate process on one core, generates load from another core, and
//! compares CPU time per operation. Run one with `cargo bench --bench NAME`.

mod client;
mod cores;
mod followers;
mod process;
mod report;
mod round;
mod servers;

pub use self::{
    client::{Client, Poster},
    followers::{Followers, Seen},
    process::{Child, Usage},
    report::{Column, Report},
    round::{BenchSettings, bench, rounds},
    servers::{SLOTS, Server},
};
