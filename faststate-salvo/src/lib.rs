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
//! [`FastState::serve`] is a whole server. To attach FastState to a bigger Salvo application, push
//! [`FastState::router`] and hang [`FastState::hoop`] on whatever has pages; drain
//! [`Endpoint`](faststate_core::endpoint::Endpoint) before you stop the server.
//!
//! This crate owns no behaviour: it translates requests, bodies and shutdown.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod connection;
mod error;
mod extract;
mod fast_state;
mod routes;
mod serve;
mod stream;
#[cfg(feature = "testing")]
mod testing;

pub use self::{
    error::PageError,
    extract::{Current, Page},
    fast_state::FastState,
    routes::{Pages, Routes},
};
