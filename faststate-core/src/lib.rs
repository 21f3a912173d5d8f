//! The traits and the engine of FastState, on which `faststate-http`, `faststate-testkit` and the store crates depend.
//!
//! It contains no HTTP server, no web framework and no database. Applications use the facade crate `faststate`.
//! Authors of stores implement [`Store`], authors of broadcasters [`Broadcaster`] or [`broadcast::Transport`]; each of
//! these traits has a section "For implementers".
//!
//! A state is a plain struct on the server, an event is a type that changes it, and a page is HTML that shows states and
//! sends events:
//!
//! ```
//! use faststate_core::{
//!     Access, Context, Error, Event, Handle, ReactiveState, Rejection, StateConfig, StateRegistry,
//! };
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
//!         counter.count = counter
//!             .count
//!             .checked_add(self.amount)
//!             .ok_or_else(|| Rejection::invalid("the count would overflow").field("amount"))?;
//!         Ok(())
//!     }
//! }
//!
//! // A page. `faststate-http` adds the signals, the cursors and the stream that keep it up to date.
//! async fn counter_html(counter: &Handle<Counter>) -> Result<String, Error> {
//!     let count = counter.read().await?.count;
//!     let add = Increment { amount: 1 }.action();
//!     Ok(format!(r#"<b data-text="$counter.count">{count}</b> <button data-on:click="{add}">Add one</button>"#))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), faststate_core::BoxError> {
//! let registry = StateRegistry::builder()
//!     .state::<Counter>(StateConfig::global().access(Access::public()), |counter| {
//!         counter.event::<Increment>()
//!     })
//!     .build()?;
//! let counter = registry.global::<Counter>()?;
//! counter.send(Increment { amount: 2 }).await?;
//! assert!(counter_html(&counter).await?.contains(">2</b>"));
//! # Ok(())
//! # }
//! ```
//!
//! # When not to use it
//!
//! FastState keeps small states that several viewers see at once. It does not fit states of megabytes, queries over many
//! records, transactions over several states, offline use, or pages without live parts.
//!
//! # The items that an application uses first
//!
//! | item | purpose |
//! | --- | --- |
//! | [`ReactiveState`] | a state: its name, and what browsers see of it |
//! | [`Event`], [`Context`], [`PrepareContext`] | an event: its input, checks and effects |
//! | [`Rejection`] | an event's refusal, with messages beside fields |
//! | [`View`], [`Elements`] | HTML that follows a state |
//! | [`Action`] | an event as the value of a `data-on:*` attribute |
//! | [`StateConfig`], [`Access`], [`Viewer`] | a state's scope, store and limits, and its access policy |
//! | [`StateRegistry`], [`Handle`] | the engine, and typed access to one instance |
//! | [`MemoryStore`], [`LocalBroadcaster`] | the store and the broadcaster of one process |
//!
//! # Design
//!
//! Four properties are worth their cost here: an acknowledged event is not lost, an event counts once however often it
//! is sent, a page that was away gets exactly what it missed, and any node can serve any request. The following
//! decisions produce them.
//!
//! **A conditional save instead of a transaction.** A [`Store`] promises one thing: of all saves that expect the same
//! version, one succeeds ([`store::Precondition`]). Every backend can do this, with a `WHERE version =`, a script or a
//! mutex, and it is all that several nodes need. There are no distributed locks, no leader and no sticky sessions. The
//! store decides; the [`Broadcaster`] only makes changes visible sooner, so a lost message causes a delay, not an error.
//!
//! **Receipts beside the record.** Browsers and proxies repeat requests, and a node can die between a save and its
//! answer. Each event therefore has an id, and proof of its application is saved in the same atomic step as the record.
//! After an unknown outcome, the engine loads the record with the receipt and learns what happened.
//!
//! **`apply` is pure and synchronous.** [`Event::apply`] changes a copy. So it can run again on a newer state after a
//! conflict, and a rejection, a panic or a failed save leaves the state byte for byte as it was. Everything else that an
//! event does goes into its [`Context`] and happens after the commit or not at all.
//!
//! **Versions that are never reused.** A [`Version`] has a random epoch, a sequence number and a random nonce. Two
//! histories that diverged, because a store was restored from a backup or a record expired, never share a version. So
//! a cursor either names exactly the content that the page shows, or the page gets a snapshot.
//!
//! **Cursors as signals.** The cursor of a topic arrives in the same merge as the data that it describes, so the two
//! cannot disagree. Datastar does not send signals whose names begin with `_`, except in the follow action.
//!
//! **No queue per follower.** A follower is a cursor and a waker. Frames are encoded once and stay in one
//! bounded log per topic; a follower that has fallen behind the log gets a snapshot. So a slow client costs as much
//! memory as a fast one.
//!
//! **Last known state instead of an outage.** If a store does not answer, reads return the state that this node has in
//! memory, marked as stale ([`Snapshot::is_stale`], the signal `$_stale`). Events fail within 2 s. After the outage,
//! everything in memory is reloaded.
//!
//! **Lifetimes by the store's clock.** It is the one clock that all nodes share. An instance that expires starts over in
//! a new epoch, so a browser that still shows the old one notices.
//!
//! **Events are erased, states are not.** [`Registry`] is object-safe and [`Handle`]s are typed. Inside the engine, the
//! path of an event contains no downcast of the state.
//!
//! **A small trait for applications, a hidden one for the endpoint.** [`Registry`] has the calls of an application, so
//! wrapping a registry, as [`registry::MaintenanceGate`] does, takes a few lines. The calls of the endpoint change with
//! it, so no version guarantees them.
//!
//! **No macros.** [`ReactiveState`] and [`Event`] are a few lines each, written by hand. Their errors are rustc's own.
//!
//! **`http` types at the border.** Every Rust web framework can make an `http::Request` and send an `http::Response`, so
//! an adapter is a translation, and one conformance suite checks all adapters.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod elements;
mod key;
mod literal;
mod rejection;
mod revocation;
mod version;
mod viewer;

mod action;
mod event;
mod job;
mod state;
mod view;

pub mod broadcast;
mod health;
#[doc(hidden)]
pub mod internal;
mod metrics;
mod patch;
pub mod registry;
pub mod store;
mod topics;
pub mod wire;

pub use action::Action;
pub use broadcast::{Broadcaster, LocalBroadcaster};
pub use elements::{Elements, PatchMode};
pub use event::{
    Address, Cause, Context, Event, EventId, EventIdError, Handle, PrepareContext, Reply, ReplyClosed,
    SentMessage, Snapshot,
};
pub use health::{Health, MessageHealth, StoreHealth};
pub use job::{Job, JobContext, Retry};
pub use key::{Key, KeyError, Scope};
pub use registry::{Access, Error, Registry, StateConfig, StateRegistry};
pub use rejection::{Rejection, RejectionKind};
pub use revocation::Revocation;
pub use state::ReactiveState;
pub use store::{MemoryStore, Store};
pub use version::{Version, VersionError};
pub use view::View;
pub use viewer::{SessionId, Viewer};

/// A boxed error of any type, used for the sources of errors.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
