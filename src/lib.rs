//! Reactive web applications in plain Rust: the state lives on the server, every browser follows it.
//!
//! This crate is what applications use. It has no code of its own: the traits and the engine are
//! `faststate-core`'s, and adapters come by feature.
//!
//! # A state and its events
//!
//! A state is a struct. An event is a type whose fields are its input; [`Event::apply`] changes a copy of
//! the state, which is saved and committed if it succeeds, and otherwise forgotten.
//!
//! ```
//! use faststate::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Room {
//!     topic: String,
//! }
//!
//! impl ReactiveState for Room {
//!     const NAME: &'static str = "room";
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Rename {
//!     topic: String,
//! }
//!
//! impl Event for Rename {
//!     type State = Room;
//!     const NAME: &'static str = "rename";
//!
//!     fn authorize(&self, _: &Room, viewer: &Viewer) -> Result<(), Rejection> {
//!         viewer.user().map(drop).ok_or_else(|| Rejection::forbidden("sign in first"))
//!     }
//!
//!     fn apply(&self, room: &mut Room, _: &mut Context<Room>) -> Result<(), Rejection> {
//!         if self.topic.trim().is_empty() {
//!             return Err(Rejection::invalid("a room has a topic").field("topic"));
//!         }
//!         room.topic = self.topic.trim().to_owned();
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), faststate::BoxError> {
//! let registry = StateRegistry::builder()
//!     .state::<Room>(StateConfig::record().access(Access::public()), |room| room.event::<Rename>())
//!     .build()?;
//!
//! // What the endpoint does with a request, application code and tests do with a handle.
//! let kitchen = Handle::<Room>::of(registry, &Viewer::application(), Some("kitchen"))?;
//! kitchen.update(|room| { room.topic = "soup".into(); Ok(()) }).await?;
//! assert_eq!(kitchen.read().await?.topic, "soup");
//! # Ok(())
//! # }
//! ```
//!
//! Whose state it is, is its *scope*, which [`StateConfig`] declares: one instance per session, per user,
//! for everybody, per record or per component of a page. The instance follows from the [`Viewer`] and, for
//! records and components, an id in the path. `build()` reports every mistake at once.
//!
//! # A page
//!
//! A page shows states and follows them. With the adapter for Salvo, or for axum, a handler takes the page, and the
//! viewer's current states, as arguments:
#![cfg_attr(feature = "salvo", doc = "```no_run")]
#![cfg_attr(not(feature = "salvo"), doc = "```ignore")]
//! # use faststate::prelude::*;
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Default, Serialize, Deserialize)]
//! # struct Counter { count: i64 }
//! # impl ReactiveState for Counter { const NAME: &'static str = "counter"; }
//! use faststate::salvo::{Current, Page};
//! use salvo::prelude::*;
//!
//! #[handler]
//! async fn index(page: Page, counter: Current<Counter>) -> Text<String> {
//!     Text::Html(format!(
//!         r#"<!doctype html>{}<body data-signals="{}" data-init="{}"><p data-text="$counter.count">{}"#,
//!         page.datastar_script(), page.signals(), page.follow_action(), counter.count,
//!     ))
//! }
//! # fn main() {}
//! ```
//!
//! - `data-signals` carries the states and the cursors of the moment, `data-init` follows from there.
//! - `$counter.count` is the state's field as a signal; `data-text`, `data-show`, `data-bind` and the
//!   [other attributes of Datastar](https://data-star.dev/reference/attributes) read it.
//! - A button is `data-on:click="{}"` with [`Event::action`]: `Increment { amount: 1 }.action()`; a field of
//!   the input comes from a signal by `.action().bind("amount", "step")`, and a record is named by `.on("p1")`.
//! - A rejection's messages are the signals `$_errors.counter.amount`; the rest of it is shown by the
//!   endpoint's [`ProblemView`](endpoint::ProblemView).
//! - A list is a [`View`]: HTML that follows a state, with elements appended and removed.
//!
//! Signals that begin with `_` are the browser's own: events do not send them.
//!
//! # Where states are saved
//!
//! In the process's memory, unless [`StateConfig::persist`] says: in the registry's store, before the event
//! is acknowledged. [`StateConfig::persist_in`] names another store, [`StateConfig::persist_every`] trades
//! the promise for speed, [`StateConfig::ttl`] lets an unused instance end. A [`Store`] of your own proves
//! itself by `conformance::store`; `examples/custom_store.rs` is one.
//!
//! While a store does not answer, events that need it are refused within two seconds, and pages show what
//! is remembered. `$_stale` is true then: `<p role="status" data-show="$_stale">This may be out of date.</p>`;
//! application code asks [`Snapshot::is_stale`].
//!
//! A form sends only what was touched with `.bind_if("name", "draft.name", "touched.name")`, so that two people
//! who edit one record at once overwrite nothing of each other's.
//!
//! # Who asks
//!
//! Without more, everybody is a session. The identity closure of the server tells users and roles from a
//! request's head, which carries the [`SessionId`]: look it up in a state, or wherever logins are kept. Whoever
//! signs in goes on with a new session ([`Page::renew_session`](endpoint::Page::renew_session)); whoever is
//! signed out has their streams [closed](endpoint::Endpoint::close_streams). The demo's `account.rs` is a login
//! made of two states.
//!
//! # What an event wants done besides
//!
//! Its [`Context`] takes elements for the caller or for every follower, work for after the commit
//! ([`Context::after`]) with a typed [`Handle`], and a reply that is written while the work goes on
//! ([`Context::stream`]). What must be looked up first (a price, a user's name) is [`Event::prepare`]'s.
//!
//! # What holds
//!
//! Fifteen laws, among them: no update is lost; an event is applied once however often it is sent; what a
//! browser shows equals the state once the stream is quiet, whatever happened in between; nobody gets
//! somebody else's state; memory is bounded. `ARCHITECTURE.md` in the repository lists them with
//! their tests.
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
//! | `conformance` | the suites for stores, broadcasters and adapters of your own, as `faststate::conformance` |
//!
//! Without features there is the engine alone, and the [`endpoint`] for an adapter of your own.
#![cfg_attr(not(feature = "salvo"), allow(rustdoc::broken_intra_doc_links))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
#[doc(inline)]
pub use faststate_axum as axum;
#[doc(inline)]
pub use faststate_core::*;
#[cfg(feature = "salvo")]
#[doc(inline)]
pub use faststate_salvo as salvo;
#[cfg(any(feature = "store-diesel", feature = "store-postgres", feature = "store-mysql"))]
#[doc(inline)]
pub use faststate_store_diesel as store_diesel;
#[cfg(feature = "store-redis")]
#[doc(inline)]
pub use faststate_store_redis as store_redis;

/// What applications import: `use faststate::prelude::*`.
pub mod prelude {
    pub use faststate_core::{
        Access, Action, Context, Elements, Event, Handle, ReactiveState, Registry, Rejection, StateConfig,
        StateRegistry, View, Viewer,
    };
}

/// The README's example compiles.
#[cfg(all(doctest, feature = "salvo"))]
#[doc = include_str!("../README.md")]
struct Readme;
