//! Test support: browsers, real servers, and waiting for conditions.
//!
//! A missing program or an expired deadline fails the test with a message that states what to do, so the
//! functions here panic instead of returning errors.
#![allow(clippy::missing_panics_doc, reason = "a harness fails by panicking")]

mod axe;
mod browser;
mod cable;
mod certificates;
mod clock;
mod console;
mod context;
mod demo;
mod devtools;
mod example;
mod failovers;
mod firefox;
pub mod http;
mod listening;
mod network;
mod page;
mod proxy;
mod random;
mod servers;
mod site;
mod tap;
mod value;
mod visitor;
mod wait;
mod window;

pub use self::{
    browser::{Browser, Session},
    cable::Cable,
    certificates::{CertificateFiles, Certificates},
    clock::{WallClock, shift_clock},
    demo::Demo,
    example::Example,
    failovers::failovers,
    listening::Listening,
    network::Network,
    page::Page,
    proxy::Proxy,
    random::Random,
    servers::{
        Disk, Folder, MariaDb, Nginx, PgBouncer, Postgres, PostgresSettings, RedisCluster, RedisSentinels,
        RedisServer, RedisSnapshot,
    },
    site::{Answer, Request, Site},
    tap::Tap,
    visitor::{BrowserKind, Visitor},
    wait::{DEADLINE, UNAVAILABLE_LIMIT, until, until_within},
    window::{Cookie, Key, Window},
};
