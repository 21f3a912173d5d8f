//! What tests across crates need: a browser, servers to point it at, and a way to wait.
//!
//! Whatever is missing or late fails with a sentence that says what to do, so everything in here
//! panics rather than returns errors.
#![allow(clippy::missing_panics_doc, reason = "a harness fails by panicking")]

mod axe;
mod browser;
mod cable;
mod clock;
mod console;
mod demo;
mod devtools;
mod example;
mod firefox;
pub mod http;
mod listening;
mod network;
mod page;
mod proxy;
mod random;
mod servers;
mod site;
mod wait;
mod window;

pub use self::{
    browser::{Browser, Session},
    cable::Cable,
    clock::shift_clock,
    demo::Demo,
    example::Example,
    listening::Listening,
    network::Network,
    page::Page,
    proxy::Proxy,
    random::Random,
    servers::{Disk, Folder, MariaDb, Nginx, PgBouncer, Postgres, RedisCluster, RedisServer, RedisSnapshot},
    site::{Answer, Request, Site},
    wait::{DEADLINE, until, until_within},
    window::{BrowserKind, Cookie, Key, Visitor, Window},
};
