//! What tests across crates need: a browser, servers to point it at, and a way to wait.
//!
//! Whatever is missing or late fails with a sentence that says what to do, so everything in here
//! panics rather than returns errors.
#![allow(clippy::missing_panics_doc, reason = "a harness fails by panicking")]

mod axe;
mod browser;
mod cable;
mod console;
mod demo;
mod devtools;
mod example;
pub mod http;
mod listening;
mod page;
mod proxy;
mod random;
mod servers;
mod site;
mod wait;

pub use self::{
    browser::{Browser, Session},
    cable::Cable,
    demo::Demo,
    example::Example,
    listening::Listening,
    page::Page,
    proxy::Proxy,
    random::Random,
    servers::{Disk, Folder, MariaDb, Nginx, PgBouncer, Postgres, RedisCluster, RedisServer, RedisSnapshot},
    site::{Answer, Request, Site},
    wait::{DEADLINE, until},
};
