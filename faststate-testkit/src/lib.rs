//! An application, driven without a socket, as browsers see it: for its tests.
//!
//! A [`Browser`] keeps a page: it merges streams and answers exactly as Datastar does, sends what the page's actions
//! say, and comes back by its cursors. Assertions print how what was expected differs from what was seen.
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
//! - The endpoint is the application's own ([`App::of`]). On a framework `FastState::app` takes the router, too, and
//!   whatever else renders pages gives them to [`App::pages`]: then there is [`Browser::visit`], [`Browser::click`] by what a button says, and
//!   [`Browser::assert_text`].
//! - [`Browser::send_and_drop_reply`] sends an event whose answer never arrives, [`Browser::disconnect_mid_frame`] breaks a stream in the middle of
//!   a frame.
//! - A [`Cluster`] is several nodes in one process, over one store that [fails on demand](faults), with broadcasters
//!   that lose and reorder.
//! - Time is tokio's: with `#[tokio::test(start_paused = true)]` minutes pass at once. An [`App`] moves the dates of
//!   events, too; a test without one calls [`follow_tokio_time`].
//!
//! Expressions are read as far as FastState writes them: literals, signals, actions. What a browser makes of
//! any other is a browser's test.

mod app;
mod browser;
mod cluster;
mod failure;
pub mod faults;
mod served;
pub mod suites;

#[doc(inline)]
pub use faststate_core::internal::follow_tokio_time;

pub(crate) use self::failure::ensure;
pub use self::{
    app::App,
    browser::{Act, Browser, Click, Sent, page, sse},
    cluster::Cluster,
    failure::Failure,
    served::InProcess,
};
