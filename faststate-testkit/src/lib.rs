//! Test tools for authors of FastState applications, stores, broadcasters and adapters: in-process browsers and clusters,
//! injected faults, and conformance suites.
//!
//! An application reaches this crate as `faststate::testing` and, for the [`suites`], as `faststate::conformance`.
//!
//! A [`Browser`] holds one page and needs no socket. It merges streams and responses exactly as Datastar does, sends the
//! actions of the page, and reconnects with the page's cursors. A failed assertion prints the difference between the
//! expected and the actual values.
//!
//! ```
//! # use faststate_core::{Access, Context, Event, ReactiveState, Rejection, StateConfig, StateRegistry};
//! # use serde::{Deserialize, Serialize};
//! use faststate_testkit::{App, Browser};
//! # #[derive(Clone, Default, Serialize, Deserialize)]
//! # struct Counter { count: i64 }
//! # impl ReactiveState for Counter { const NAME: &'static str = "counter"; }
//! # #[derive(Serialize, Deserialize)]
//! # struct Increment { amount: i64 }
//! # impl Event for Increment {
//! #     type State = Counter;
//! #     const NAME: &'static str = "increment";
//! #     fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
//! #         if self.amount > 100 {
//! #             return Err(Rejection::invalid("at most 100").field("amount"));
//! #         }
//! #         counter.count += self.amount;
//! #         Ok(())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let registry = StateRegistry::builder()
//! #     .state::<Counter>(StateConfig::global().access(Access::public()), |state| state.event::<Increment>())
//! #     .build().unwrap();
//! let app = App::new(registry);
//! let (mut alice, mut bob) = (Browser::new(&app).user("alice"), Browser::new(&app));
//! alice.follow("counter").await;
//!
//! let click = bob.send(&Increment { amount: 1 }).await.assert_changed();
//! bob.repeat(click.click()).await.assert_repeated();
//! alice.settle().await;
//! alice.assert_signal("counter.count", 1);
//!
//! alice.hide();
//! bob.send(&Increment { amount: 2 }).await.assert_changed();
//! alice.show().await;
//! alice.settle().await;
//! alice.assert_state(&Counter { count: 3 });
//!
//! alice.send(&Increment { amount: 101 }).await.assert_rejected("amount");
//! alice.assert_signal("_errors.counter.amount", "at most 100");
//! # }
//! ```
//!
//! - [`App::of`] takes the application's endpoint. With a framework, [`InProcess::app`] takes the router as well; other
//!   renderers of pages are passed to [`App::pages`]. Tests of pages use [`Browser::visit`], [`Browser::click`] with the
//!   label of a button, and [`assert_text`](ShownPage::assert_text).
//! - [`Browser::send_and_drop_reply`] sends an event whose response is lost. [`Browser::disconnect_mid_frame`] breaks a
//!   stream in the middle of a frame.
//! - A [`Cluster`] runs several nodes in one process, over one store that [fails on demand](faults) and broadcasters that
//!   lose and reorder changes.
//! - A [`CapturedLog`] holds what the code under test logs.
//! - All time is tokio's: with `#[tokio::test(start_paused = true)]` minutes pass immediately. An [`App`] also derives the
//!   dates of events from it; a test without an `App` calls [`follow_tokio_time`].
//!
//! The browser evaluates only the expressions that FastState writes: literals, signals and actions. Test other expressions
//! in a real browser.

mod app;
mod browser;
mod captured_log;
mod cluster;
mod failure;
pub mod faults;
pub mod messages;
mod served;
pub mod suites;

#[doc(inline)]
pub use faststate_core::internal::follow_tokio_time;

/// The page and the parser of a [`Browser`], for the tests of this repository. They have no semver guarantee.
#[doc(hidden)]
pub use self::browser::{page, sse};
pub(crate) use self::failure::ensure;
pub use self::{
    app::App,
    browser::{Act, Browser, Click, Sent, ShownPage},
    captured_log::CapturedLog,
    cluster::Cluster,
    failure::Failure,
    served::InProcess,
};
