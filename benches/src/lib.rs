//! FastState side by side with what one would pick instead.
//!
//! One application, a board of 16 numbers that every follower sees live, written as FastState has it and as
//! each alternative would have it. A benchmark starts each [`Server`] as a process of its own on one core, puts
//! load on it from another core, and compares CPU time per operation. Each is a `cargo bench --bench NAME`.

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
    round::{Settings, bench, rounds},
    servers::{SLOTS, Server},
};
