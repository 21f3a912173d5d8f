//! FastState on [axum](https://docs.rs/axum).
//!
//! ```no_run
//! use axum::{Router, response::Html, routing::get};
//! use faststate_axum::{FastState, Page};
//! use faststate_core::StateRegistry;
//!
//! async fn index(page: Page) -> Html<String> {
//!     Html(format!("<!doctype html><head>{}</head>", page.datastar_script()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = StateRegistry::builder().build()?;
//! FastState::new(registry).serve("127.0.0.1:5000", Router::new().route("/", get(index))).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`FastState::serve`] is a complete server and the preferred one: `axum::serve` waits without a limit for the head of a
//! request and for a client that does not read, and its graceful shutdown waits for streams that never end.
//!
//! To attach FastState to an existing server, merge [`FastState::router`] at its root and put the layer
//! [`FastState::pages`] around all routers with pages. Let axum provide the client's address, or streams are not counted
//! per address, and drain [`Endpoint`](faststate_http::endpoint::Endpoint) before you stop the server:
//!
//! ```no_run
//! use std::net::SocketAddr;
//!
//! # use axum::{Router, routing::get};
//! # use faststate_axum::{FastState, Page};
//! # use faststate_core::StateRegistry;
//! # async fn index(page: Page) -> String { page.signals() }
//! # async fn stopped() {}
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let registry = StateRegistry::builder().build()?;
//! let site = FastState::new(registry);
//! let app = Router::new().route("/", get(index)).layer(site.pages()).merge(site.router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
//! let draining = async move {
//!     stopped().await;
//!     site.endpoint().drain(std::time::Duration::from_secs(5)).await;
//! };
//! axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
//!     .with_graceful_shutdown(draining)
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! A router with its own state takes `site.router().with_state(())`. The routes must not be nested under a prefix, because
//! pages use their absolute paths.
//!
//! This crate has no behaviour of its own: it converts requests, bodies and handler arguments.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod extract;
mod framework;
mod layer;
mod routes;

pub use self::{
    error::PageError,
    extract::{Current, Page},
    framework::Axum,
    layer::{Paged, Pages},
};

/// FastState on axum: all settings and servers of [`server::FastState`](faststate_http::server::FastState). Its router is
/// axum's `Router`, and its pages are a layer.
pub type FastState = faststate_http::server::FastState<Axum>;
