//! What one would write instead: for each save a connection out of a pool, and a transaction on it.
//!
//! Written with the same drivers and the usual tools, and not to lose: statements are prepared once, no
//! connection is asked whether it still lives, and the pools are as large as ours.

mod mysql;
mod postgres;
mod redis;
mod sqlite;
mod tables;

pub(crate) use self::{mysql::Mysql, postgres::Postgres, redis::Redis, sqlite::Sqlite};

/// How many connections a pool has.
const CONNECTIONS: u32 = 16;
