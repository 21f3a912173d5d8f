//! Reactive web applications in plain Rust, for applications, which depend on this crate alone: the state lives on
//! the server, and every browser that shows it follows it live.
//!
//! An application consists of states (structs), events (types that change them) and pages (HTML from any
//! template engine). A page shows states and sends events through [Datastar](https://data-star.dev) attributes,
//! which FastState writes. There are no derive macros, no JavaScript to write and no build step.
//!
//! ```
//! use faststate::{Error, endpoint::Page, prelude::*};
//! use serde::{Deserialize, Serialize};
//!
//! // The state.
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Counter {
//!     count: i64,
//! }
//!
//! impl ReactiveState for Counter {
//!     const NAME: &'static str = "counter";
//! }
//!
//! // An event: its fields are its input.
//! #[derive(Serialize, Deserialize)]
//! struct Increment {
//!     amount: i64,
//! }
//!
//! impl Event for Increment {
//!     type State = Counter;
//!     const NAME: &'static str = "increment";
//!
//!     fn apply(
//!         &self,
//!         counter: &mut Counter,
//!         _: &mut Context<Counter>,
//!     ) -> Result<(), Rejection> {
//!         counter.count = counter.count.checked_add(self.amount).ok_or_else(|| {
//!             Rejection::invalid("the count would overflow").field("amount")
//!         })?;
//!         Ok(())
//!     }
//! }
//!
//! // A page: it follows the state, and its button sends the event.
//! async fn index(page: &Page) -> Result<String, Error> {
//!     let counter = page.follow::<Counter>().await?;
//!     Ok(format!(
//!         r#"<!doctype html><title>Counter</title>{}
//!         <body data-signals="{}" data-init="{}">
//!         <h1 data-text="$counter.count">{}</h1>
//!         <button data-on:click="{}">Add one</button>"#,
//!         page.datastar_script(),
//!         page.signals(),
//!         page.follow_action(),
//!         counter.count,
//!         Increment { amount: 1 }.action(),
//!     ))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), faststate::BoxError> {
//! let registry = StateRegistry::builder()
//!     .state::<Counter>(StateConfig::global().access(Access::public()), |counter| {
//!         counter.event::<Increment>()
//!     })
//!     .build()?;
//!
//! // Application code and tests send the same events through a handle.
//! let counter = registry.global::<Counter>()?;
//! counter.send(Increment { amount: 2 }).await?;
//! assert_eq!(counter.read().await?.count, 2);
//! # let endpoint = faststate::endpoint::Endpoint::new(registry);
//! # let (parts, ()) = http::Request::new(()).into_parts();
//! # let html = index(&endpoint.page(&parts).await?).await?;
//! # assert!(html.contains(r#"data-text="$counter.count">2<"#), "{html}");
//! # Ok(())
//! # }
//! ```
//!
//! With an adapter, `FastState::new(registry).serve("127.0.0.1:5000", router)` serves pages, events and streams:
//! [the guide](guide) begins with [a live page in five minutes](guide::start).
//!
//! # When not to use it
//!
//! FastState keeps small states that several viewers see at once. It does not fit states of megabytes, queries
//! over many records, offline use, or pages without live parts: [the guide](guide::not_for) gives alternatives.
//!
//! # The items that an application uses first
//!
//! | item | purpose |
//! | --- | --- |
//! | [`ReactiveState`] | a state: its name, and what browsers see of it |
//! | [`Event`], [`Context`] | an event: its input, checks and effects |
//! | [`Address`], [`Context::send`], [`Context::schedule`] | messages to other instances, and timers |
//! | [`Job`], [`Retry`] | work outside the states that is done at least once |
//! | [`Rejection`] | an event's refusal, with messages beside fields |
//! | [`View`], [`Elements`] | HTML that follows a state |
//! | [`StateConfig`] | a state's scope, access, store and limits |
//! | [`Access`], [`Viewer`] | who may see and change a state |
//! | [`StateRegistry`] | the engine, built from states, stores and a broadcaster |
//! | [`Handle`] | typed access to one instance from application code |
//! | [`Action`] | an event as the value of a `data-on:*` attribute |
//! | [`endpoint::Page`] | what one page shows and follows |
//! | `salvo::FastState`, `axum::FastState` | the server with all of its settings |
//! | [`endpoint::Identity`], [`endpoint::Secret`] | users, roles and session cookies |
//! | [`MemoryStore`], `store_diesel::DieselStore`, `store_redis::RedisStore` | where states are saved |
//!
//! The items from `ReactiveState` to `Action` are in the [`prelude`].
//!
//! # Features
//!
//! The default adapter is `salvo`, which the guide and the demo use. For axum, write
//! `default-features = false, features = ["axum", "tls-native-roots"]`: both adapters have the same names and the same behaviour.
//! Without features, the crate contains the engine and the [`endpoint`] for an adapter of your own.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `salvo` (default) | the adapter for [Salvo](https://salvo.rs), as [`faststate::salvo`](crate::salvo) |
//! | `axum` | the adapter for [axum](https://docs.rs/axum), as `faststate::axum` |
//! | `multipart` | with `axum`: error pages with the status of the rejections of axum's `Multipart` |
//! | `store-diesel` | a store in SQLite, compiled in, as `faststate::store_diesel` |
//! | `store-postgres` | a store in PostgreSQL and a broadcaster, in the same module |
//! | `store-mysql` | a store in MySQL or MariaDB, in the same module |
//! | `tls-native-roots` (default), `tls-webpki-roots` | the authorities that TLS to database servers trusts: those of the machine, or Mozilla's |
//! | `store-redis` | a store in Redis and a broadcaster, as `faststate::store_redis` |
//! | `redis-cluster` | the same as `store-redis`, which includes clusters |
//! | `testing` | in-process browsers for an application's tests, as `faststate::testing` |
//! | `metrics` | Prometheus metrics at `/faststate/metrics`, for callers that `Endpoint::metrics` admits |
//! | `inspector` | a development page at `/faststate/inspector`, for viewers that `Endpoint::inspector` admits |
//! | `conformance` | suites for stores, broadcasters and adapters, as `faststate::conformance` |
//!
//! FastState needs Rust 1.95 and tokio. `faststate-core`, `faststate-http` and the other crates of the workspace
//! are for authors of stores and adapters.
// The guide links to items of some features; all links resolve only if these features are on.
#![cfg_attr(
    not(all(
        feature = "axum",
        feature = "conformance",
        feature = "inspector",
        feature = "metrics",
        feature = "salvo",
        feature = "store-diesel",
        feature = "store-postgres",
        feature = "store-redis",
        feature = "testing"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
#[doc(inline)]
pub use faststate_axum as axum;
#[doc(inline)]
pub use faststate_core::*;
#[doc(inline)]
pub use faststate_http::endpoint;
#[cfg(any(feature = "axum", feature = "salvo"))]
#[doc(inline)]
pub use faststate_http::server;
#[cfg(feature = "salvo")]
#[doc(inline)]
pub use faststate_salvo as salvo;
#[cfg(any(feature = "store-diesel", feature = "store-postgres", feature = "store-mysql"))]
#[doc(inline)]
pub use faststate_store_diesel as store_diesel;
#[cfg(feature = "store-redis")]
#[doc(inline)]
pub use faststate_store_redis as store_redis;
#[cfg(feature = "testing")]
#[doc(inline)]
pub use faststate_testkit as testing;
#[cfg(feature = "conformance")]
#[doc(inline)]
pub use faststate_testkit::suites as conformance;

// The guide's snippets need the same features.
#[cfg(any(
    all(doc, not(doctest)),
    all(
        doctest,
        feature = "axum",
        feature = "conformance",
        feature = "metrics",
        feature = "salvo",
        feature = "store-diesel",
        feature = "testing"
    )
))]
pub mod guide;

/// The items that most applications import: `use faststate::prelude::*`.
pub mod prelude {
    pub use faststate_core::{
        Access, Action, Context, Elements, Event, Handle, PrepareContext, ReactiveState, Registry, Rejection,
        StateConfig, StateRegistry, View, Viewer,
    };
}

/// Compiles the README's example.
#[cfg(all(doctest, feature = "salvo"))]
#[doc = include_str!("../README.md")]
struct Readme;
