//! Conformance suites for implementers of stores, broadcasters and adapters. **Not a stable part of the public API.**
//!
//! Any release may add checks, make a check stricter or rename it, so an implementation that passes today may fail with
//! the next minor version.
//!
//! A suite has one async function per promise, and one function `all` that runs them in turn. The functions depend on no
//! test framework. Each returns `Ok(())`, or a [`Failure`] that names the broken promise and what was found instead:
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
//! `examples/custom_store` in the repository is a complete store.
//!
//! The suite of an adapter needs only the address of a server that serves the [`fixture`].
//!
//! For an implementation's own tests, [`faults`](crate::faults) has wrappers that make a store or a broadcaster hang, fail or
//! lose changes, and a [`Browser`](crate::Browser) merges streams as a browser's page does.

#![allow(clippy::missing_errors_doc, reason = "every check returns the first broken promise as its error")]

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
