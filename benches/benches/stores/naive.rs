//! The naive alternative: each save takes a connection from a pool and runs a transaction on it.
//!
//! It uses the same drivers and the usual tools, and is tuned: statements are prepared once, connections are not tested before
//! use, and the pools have the same size as those of the stores.

mod mysql;
mod postgres;
mod redis;
mod sqlite;
mod tables;

pub(crate) use self::{mysql::Mysql, postgres::Postgres, redis::Redis, sqlite::Sqlite};

/// The number of connections in a pool.
const CONNECTIONS: u32 = 16;
