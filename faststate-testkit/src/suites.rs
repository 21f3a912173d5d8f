//! The laws of stores, broadcasters and adapters as callable suites.
//!
//! Each suite is a handful of plain async functions, one per promise, and one `all` that runs them in
//! turn. They know nothing of a test framework: each gives `Ok(())`, or the [`Failure`] that names the
//! promise and says what was found instead. An implementation proves itself in a few lines:
//!
//! ```
//! # use std::sync::Arc;
//! use faststate_core::{MemoryStore, Store};
//! use faststate_testkit::suites;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), suites::Failure> {
//! let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
//! suites::store::all(&store, &store).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A store written by hand, whole, is `examples/custom_store.rs` in the repository.
//!
//! An adapter's suite needs no more than the address of a server that serves the [`fixture`].
//!
//! With them comes [`testing`](crate): its [`faults`](crate::faults) wrap a store or a broadcaster so
//! that it hangs, fails or loses, and its [`page`](crate::page) is a browser's page without the browser, for
//! tests of streams.

pub mod adapter;
pub mod broadcaster;
#[doc(hidden)]
pub mod client;
pub mod fixture;
pub mod store;
mod wait;

pub(crate) use self::wait::until;
#[doc(no_inline)]
pub use crate::Failure;
pub(crate) use crate::ensure;
