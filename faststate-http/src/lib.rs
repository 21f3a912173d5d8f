//! FastState over HTTP. The adapters for web frameworks depend on this crate.
//!
//! The module [`endpoint`] answers events, streams and pages, and works with any HTTP server. The feature `server`
//! adds the module `server`: a hyper server that the adapters share. Applications use the facade crate `faststate`.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod endpoint;
#[cfg(feature = "server")]
pub mod server;
