//! Every store against its real server.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod killed;
mod ledger;
mod redis;
