//! Reactive web applications in plain Rust: the state lives on the server, every browser follows it.
//!
//! This crate is what applications use. It has no code of its own: the traits and the engine are
//! `faststate-core`'s, and adapters come by feature.
//!
//! ```
//! use faststate::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Counter {
//!     count: i64,
//! }
//!
//! impl ReactiveState for Counter {
//!     const NAME: &'static str = "counter";
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Increment {
//!     amount: i64,
//! }
//!
//! impl Event for Increment {
//!     type State = Counter;
//!     const NAME: &'static str = "increment";
//!
//!     fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
//!         counter.count = counter.count.checked_add(self.amount)
//!             .ok_or_else(|| Rejection::invalid("the count would overflow").field("amount"))?;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), faststate::BoxError> {
//! let registry = StateRegistry::builder()
//!     .state::<Counter>(StateConfig::global().access(Access::public()), |counter| counter.event::<Increment>())
//!     .build()?;
//! let counter = registry.global::<Counter>()?;
//! counter.send(Increment { amount: 2 }).await?;
//! assert_eq!(counter.read().await?.count, 2);
//! # Ok(())
//! # }
//! ```
//!
//! **[The guide](guide)** begins with [a live page in five minutes](guide::start), and explains
//! [states](guide::state), [events](guide::events), [views](guide::views), [forms](guide::forms),
//! [identity](guide::identity), [stores](guide::stores), [many nodes](guide::nodes) and all the rest.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `salvo` (default) | the adapter for [Salvo](https://salvo.rs), as [`faststate::salvo`](crate::salvo) |
//! | `axum` | the adapter for [axum](https://docs.rs/axum), as `faststate::axum`, with the same names |
//! | `store-diesel` | a store in SQLite, built in, as `faststate::store_diesel` |
//! | `store-postgres` | a store in PostgreSQL, in the same module |
//! | `store-mysql` | a store in MySQL or MariaDB, in the same module |
//! | `store-redis` | a store in Redis, as `faststate::store_redis`, and a broadcaster |
//! | `redis-cluster` | the broadcaster over a Redis cluster |
//! | `testing` | an application driven without a socket, as browsers see it, as `faststate::testing`: for its tests |
//! | `metrics` | Prometheus' figures at `/faststate/metrics`, once `Endpoint::metrics` says who may read them |
//! | `inspector` | what happens, live, at `/faststate/inspector`, once `Endpoint::inspector` says who may see it: for development |
//! | `conformance` | the suites for stores, broadcasters and adapters of your own, as `faststate::conformance` |
//!
//! Without features there is the engine alone, and the [`endpoint`] for an adapter of your own.
// The guide names what some features bring; with all of them every link holds.
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

// Its snippets need those features, too.
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

/// What applications import: `use faststate::prelude::*`.
pub mod prelude {
    pub use faststate_core::{
        Access, Action, Context, Elements, Event, Handle, PrepareContext, ReactiveState, Registry, Rejection,
        StateConfig, StateRegistry, View, Viewer,
    };
}

/// The README's example compiles.
#[cfg(all(doctest, feature = "salvo"))]
#[doc = include_str!("../README.md")]
struct Readme;
