//! Several nodes over one server: the broadcasters, several processes of the demo, and of a small application.
#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod broadcasters;
mod cluster;
mod counting;
mod deploy;
mod drain;
mod following;
mod messages;
mod nginx;
mod outages;
mod redis;
mod user;
mod versions;
