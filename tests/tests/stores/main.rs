//! Every store against its real server: the public suite, and each store's additional promises.
#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod addresses;
mod burst;
mod due;
mod expiry;
mod failover;
mod faults;
mod hosts;
mod kill;
mod ledger;
mod load;
mod mysql;
mod open;
mod postgres;
mod redis;
mod restored;
mod sqlite;
mod tls;
mod together;
mod upgrades;
mod window;
