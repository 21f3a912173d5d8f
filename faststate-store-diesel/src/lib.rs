//! FastState's stores in SQLite, PostgreSQL and MySQL, through [diesel](https://diesel.rs).
//!
//! ```no_run
//! # async fn open() -> Result<(), faststate_core::store::StoreError> {
//! use faststate_store_diesel::DieselStore;
//!
//! let store = DieselStore::sqlite("counter.db").await?;
//! # Ok(())
//! # }
//! ```
//!
//! | feature | database | driver |
//! | --- | --- | --- |
//! | `sqlite` (default) | SQLite, built in | `libsqlite3-sys` |
//! | `postgres` | PostgreSQL 12 and later | `tokio-postgres` |
//! | `mysql` | MySQL 8, MariaDB 10.5 and later | `mysql_async` |
//!
//! Each alone pulls in only its own driver, and none needs a system library. Connections to a server are not
//! encrypted: put a proxy between where the network is not yours.
//!
//! # What each promises
//!
//! All keep the numbered promises of [`Store`](faststate_core::Store), as the suite
//! `faststate_testkit::suites::store` checks them. What survives a crash (law 1) is a matter of
//! settings, too:
//!
//! | database | what was acknowledged survives | settings | set by |
//! | --- | --- | --- | --- |
//! | SQLite | `kill -9`, and a power failure | `journal_mode = WAL`, `synchronous = FULL`, on macOS `fullfsync`; a disk of this machine that does not lie about fsync | this crate |
//! | PostgreSQL | `kill -9`, a power failure | `synchronous_commit` not `off` | this crate |
//! | | | `fsync = on`, `full_page_writes = on` (the defaults) | the server; a warning when connecting |
//! | | also the loss of the server | a standby in `synchronous_standby_names` | the server |
//! | MySQL, MariaDB | `kill -9`, a power failure | `innodb_flush_log_at_trx_commit = 1` (the default) | the server; a warning when connecting |
//!
//! # What a call costs
//!
//! | database | load | save | saves that come while others are on their way |
//! | --- | --- | --- | --- |
//! | SQLite | one statement on one of the reading threads | a transaction | share one transaction, at most 256 |
//! | PostgreSQL | one round trip | one round trip: record and receipt are one statement | share one transaction of two round trips, at most 256: all statements are sent before the first is answered, then the commit |
//! | MySQL | one round trip | four round trips (begin, record, receipt, commit), one without a receipt | share one transaction, at most 256: two round trips each and two for all, as the driver sends nothing ahead |
//!
//! PostgreSQL has such transactions on a quarter of its connections ([`DieselStoreBuilder::connections`]), MySQL on
//! half. They lock in the order of the keys, so that no two of them wait for each other. A conflict or a
//! repeat among them is an outcome like others (on MySQL one more round trip); where one save waits for
//! somebody's lock, all are undone and each is tried by itself: the others are saved, half a second later
//! (MySQL: one).
//!
//! `cargo bench --bench stores` compares all of them with a check-out and a transaction for each save.
//!
//! Statements are prepared once for each connection, and no query asks a connection whether it still
//! lives: the first call that finds it dead has all of its age replaced. The same happens when a server
//! has become read-only, as after a failover, so that new connections lead to its successor. An error
//! that a server answers a statement with costs no connection. The stores over a server need the
//! tokio runtime that they were opened in.
//!
//! # Pools and proxies
//!
//! PgBouncer works with `pool_mode = session`. With `pool_mode = transaction` or `statement` opening the store
//! fails with [`StoreError::Refused`](faststate_core::store::StoreError::Refused), because prepared statements
//! and settings are lost there.
//!
//! # Time-outs
//!
//! A call takes at most 2 seconds ([`DieselStoreBuilder::timeout`]), waiting for a connection included, and then
//! fails with [`StoreError::Unavailable`](faststate_core::store::StoreError::Unavailable); whether a
//! save was done is then unknown, and its receipt tells. A connection whose call did not come to its end
//! is closed. After the database has come back, the next calls succeed.
//!
//! # Many nodes
//!
//! `PostgresBroadcaster` (feature `postgres`) carries changes between nodes over LISTEN and NOTIFY: give it to the
//! registry's `broadcaster`. Nodes over MySQL use a Redis for that. One process serves a SQLite file: another one that writes to it
//! is noticed within seconds, and what is followed is loaded again.
//!
//! # Tables
//!
//! `faststate_records` has a row for each key: the key's text as bytes, so that no collation merges two;
//! schema number and version as integers of 64 bits; the data as bytes, as JSON may contain what a
//! database's text may not; and the end of its life in milliseconds since 1970 by the database's clock
//! (SQLite's is this machine's). `faststate_receipts` has a row for each receipt, which outlives its
//! record. `faststate_schema` says which steps of the tables' making are done: opening a store does the
//! missing ones, one node at a time, and refuses tables that are newer than it knows. Nothing here needs
//! more than one thread of the runtime.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod backend;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod builder;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod error;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod migrations;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod row;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod statement;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod store;

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod save_batcher;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod sql_store;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "postgres")]
pub use self::postgres::PostgresBroadcaster;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use self::{builder::DieselStoreBuilder, store::DieselStore};
