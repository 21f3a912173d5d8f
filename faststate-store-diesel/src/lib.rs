//! FastState's stores in SQLite, PostgreSQL and MySQL, through [diesel](https://diesel.rs).
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod backend;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod error;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod migrations;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod row;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod setup;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod statement;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod store;

#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use self::{setup::Setup, store::DieselStore};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use diesel;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use diesel_async;
#[cfg(feature = "sqlite")]
pub use libsqlite3_sys;
#[cfg(feature = "mysql")]
pub use mysql_async;
#[cfg(feature = "postgres")]
pub use tokio_postgres;
