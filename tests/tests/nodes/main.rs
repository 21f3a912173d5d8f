//! Several nodes over one server: the broadcasters, and several processes of the demo.
#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod broadcasters;
mod cluster;
mod counting;
mod deploy;
mod drain;
mod following;
mod nginx;
mod outages;
mod redis;
mod user;
mod versions;
