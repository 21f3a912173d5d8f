//! FastState on [Salvo](https://salvo.rs).
//!
//! ```no_run
//! use faststate_core::StateRegistry;
//! use faststate_salvo::{FastState, Page};
//! use salvo::prelude::*;
//!
//! #[handler]
//! async fn index(page: Page) -> Text<String> {
//!     Text::Html(format!("<!doctype html><head>{}</head>", page.datastar_script()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = StateRegistry::builder().build()?;
//! FastState::new(registry).serve("127.0.0.1:5000", Router::new().get(index)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`FastState::serve`] is a complete server. To attach FastState to an existing Salvo server, push
//! [`FastState::router`] at its root and add the hoop [`FastState::pages`] to every router with pages. Drain the
//! [`Endpoint`](faststate_http::endpoint::Endpoint) before you stop the server.
//!
//! This crate has no behaviour of its own: it converts requests, bodies and handler arguments.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod extract;
mod framework;
mod routes;

pub use self::{
    error::PageError,
    extract::{Current, Page},
    framework::Salvo,
    routes::Pages,
};

/// FastState on Salvo, with all settings and servers of [`server::FastState`](faststate_http::server::FastState). Its
/// `router` is Salvo's `Router`, and its `pages` are a hoop.
pub type FastState = faststate_http::server::FastState<Salvo>;
