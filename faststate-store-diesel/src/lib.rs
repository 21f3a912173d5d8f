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
//! Each feature adds only its own driver, and none needs a system library.
//!
//! # Addresses
//!
//! | database | address |
//! | --- | --- |
//! | SQLite | a path, or `sqlite:///path?mode=rwc` |
//! | PostgreSQL | `postgres://user:password@host:port,host:port/database?name=value`, `postgresql://..`, or libpq's `host=.. user=..` |
//! | MySQL, MariaDB | `mysql://user:password@host:port/database?name=value`, `mariadb://..` |
//!
//! Special characters are percent-encoded. The host may be the percent-encoded path of a socket. An address that is not
//! understood is refused with an error that names the part, and no error, log line or `Debug` output shows a password.
//!
//! The address alone decides about TLS, with the meanings of libpq and MySQL:
//!
//! | PostgreSQL: `sslmode` | MySQL: `ssl-mode` | encrypted | server verified |
//! | --- | --- | --- | --- |
//! | `disable` | `DISABLED` | no | no |
//! | `prefer` | `PREFERRED` | if the server offers TLS | no |
//! | `require` | `REQUIRED` | yes | no; if the address names an authority, as `verify-ca` |
//! | `verify-ca` | `VERIFY_CA` | yes | signed by a trusted authority |
//! | `verify-full` | `VERIFY_IDENTITY` | yes | also has the host's name |
//!
//! Without this parameter, a connection to another machine is verified as by `verify-full`, and a connection to a socket,
//! `localhost` or a loopback address is not encrypted. Both are deliberate: the tools of both databases would silently
//! fall back to cleartext. The other parameters are `sslrootcert`, `sslcert`, `sslkey`, `channel_binding`,
//! `sslnegotiation` (PostgreSQL) and `ssl-ca`, `ssl-cert`, `ssl-key` (MySQL; its driver reads only RSA keys). The files
//! are PEM, and are read when the store is opened. The trusted authorities are by default those of the machine (feature
//! `tls-native-roots`), or Mozilla's (feature `tls-webpki-roots`) if it has none.
//!
//! TLS is [rustls](https://docs.rs/rustls) with the cryptography of ring. PostgreSQL uses the provider that the
//! application has installed for the process, if there is one. MySQL's driver needs a provider of the process, so opening
//! the first encrypted store installs ring's if there is none.
//!
//! Of several PostgreSQL hosts, the first one that accepts writes is used, as with `target_session_attrs=read-write`. The
//! one that was used last is tried first.
//!
//! # Durability
//!
//! All stores keep the numbered promises of [`Store`](faststate_core::Store), as the suite
//! `faststate_testkit::suites::store` checks them. The server's settings determine which crashes
//! acknowledged saves survive (law 1):
//!
//! | database | acknowledged saves survive | settings | set by |
//! | --- | --- | --- | --- |
//! | SQLite | `kill -9`, and a power failure | `journal_mode = WAL`, `synchronous = FULL`, on macOS `fullfsync`; a disk of this machine that does not lie about fsync | this crate |
//! | PostgreSQL | `kill -9`, a power failure | `synchronous_commit` not `off` | this crate |
//! | | | `fsync = on`, `full_page_writes = on` (the defaults) | the server; a warning when connecting |
//! | | also the loss of the server | a standby in `synchronous_standby_names` | the server |
//! | MySQL, MariaDB | `kill -9`, a power failure | `innodb_flush_log_at_trx_commit = 1` (the default) | the server; a warning when connecting |
//!
//! # Costs
//!
//! | database | load | save | saves that are queued while others are in progress |
//! | --- | --- | --- | --- |
//! | SQLite | one statement on one of the reading threads | a transaction | share one transaction, at most 256 |
//! | PostgreSQL | one round trip | one round trip: record and receipt are one statement | share one transaction of two round trips, at most 256: all statements are sent before the first is answered, then the commit |
//! | MySQL | one round trip | four round trips (begin, record, receipt, commit), one without a receipt | share one transaction, at most 256: two round trips each and two for all, because the driver does not pipeline |
//!
//! PostgreSQL runs such transactions on a quarter of its connections ([`DieselStoreBuilder::connections`]), MySQL on half.
//! They lock in the order of the keys, so that no two of them wait for each other. A conflict or a duplicate is an ordinary
//! outcome and does not affect the other saves (on MySQL it takes one more round trip). If one save waits too long for a
//! lock, the transaction is rolled back and each save is retried alone; the others are then saved after 0.5 s (MySQL: 1 s).
//!
//! Unfinished messages are columns of the record, so a save with messages takes the same round trips. A save without
//! messages binds no value for them. [`Store::due`](faststate_core::Store::due) reads an index, of which only the records
//! with a due time are a part (on MySQL, which has no such indexes, the others have an entry without a value), and
//! [`Store::release`](faststate_core::Store::release) takes one round trip for each 64 receipts.
//!
//! `cargo bench --bench stores` compares all stores with one that uses a check-out and a transaction for each save.
//!
//! Statements are prepared once per connection, and no query checks whether a connection is alive: when a call finds it
//! closed, all connections of its generation are replaced. The same happens when a server has become read-only, as after
//! a failover, so that new connections lead to its successor. An error that the server sends as the answer to a statement
//! does not close the connection. The stores over a server need the tokio runtime in which they were opened.
//!
//! # Pools and proxies
//!
//! PgBouncer works with `pool_mode = session`. With `pool_mode = transaction`, add `pgbouncer=true` to the address, or call
//! `pgbouncer(true)` on the builder: each statement is then sent with its text, and each transaction begins with its own
//! settings, because prepared statements and settings are lost there. Without it, opening the store fails with
//! [`StoreError::Refused`](faststate_core::store::StoreError::Refused). `pool_mode = statement` does not work, nor does
//! `PostgresBroadcaster` over any mode but `session`.
//!
//! # Timeouts
//!
//! A call takes at most 2 s ([`DieselStoreBuilder::timeout`]), including the wait for a connection, and then fails with
//! [`StoreError::Unavailable`](faststate_core::store::StoreError::Unavailable). The outcome of a save is then unknown; load
//! its receipt to learn it. A connection whose call was not completed is closed. After the database has recovered, the
//! next calls succeed.
//!
//! # Multiple nodes
//!
//! `PostgresBroadcaster` (feature `postgres`) carries changes between nodes over LISTEN and NOTIFY: give it to the
//! registry's `broadcaster`. Nodes over MySQL use Redis instead. One process serves a SQLite file: the store notices within seconds when
//! another process writes to it, and reloads the followed states.
//!
//! # Tables
//!
//! `faststate_records` has a row for each key: the key's text as bytes, so that no collation merges two keys; schema number
//! and version as 64-bit integers; the data as bytes, because JSON may contain characters that a database's text type does
//! not allow; and the expiry in milliseconds since 1970 by the database's clock (for SQLite, this machine's clock). The
//! columns `pending`, `waiting`, `parked`, `oldest` and `due` have the record's messages, their numbers, and two times in
//! milliseconds since 1970; they are NULL in a record without messages. `faststate_receipts` has a row for each receipt,
//! which outlives its record, with the answer to a refused message. The stores work on a runtime with one thread.
//!
//! # Upgrades
//!
//! `faststate_schema` lists the completed migrations. Opening a store runs the missing ones, one node at a time, and refuses
//! tables of a newer version. The database's user then needs the rights to create and alter tables and indexes. An upgrade
//! waits at most 2 s for a table that another transaction reads, such as a dump's, because the calls of all nodes wait
//! behind it. Opening the store then fails with
//! [`StoreError::Unavailable`](faststate_core::store::StoreError::Unavailable), and can be repeated. It also fails if it
//! takes more than 30 s, in which SQLite upgrades a few million records.
//!
//! | version | adds | while it is added |
//! | --- | --- | --- |
//! | 1 | the tables | |
//! | 2 | the columns and indexes of messages | all calls wait while PostgreSQL or SQLite reads the records once for the indexes; MySQL continues to save |
//!
//! During a rolling deployment, nodes of the previous version keep their open stores. A node that does not know messages
//! leaves the columns of an existing record unchanged, so that no accepted message is lost: the newer nodes send it.
//! A node of the previous version cannot open upgraded tables.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod address;
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
mod schedule;
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
mod server_url;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod sql_store;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod tls;

#[cfg(feature = "postgres")]
pub use self::postgres::PostgresBroadcaster;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use self::{builder::DieselStoreBuilder, store::DieselStore};
