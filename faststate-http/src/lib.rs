//! FastState over HTTP, on which the adapters for web frameworks depend.
//!
//! [`endpoint`] answers events, streams and pages, and needs no particular HTTP server. The feature `server` adds a
//! server over hyper that adapters share, as `server`. Applications use the facade crate `faststate`.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod endpoint;
#[cfg(feature = "server")]
pub mod server;
