//! The smallest complete application: `cargo run --example counter`, then http://127.0.0.1:5000 in two windows.
//! `counter_axum.rs` and `custom_adapter/main.rs` are the same page on axum and on bare hyper.

use faststate::{
    BoxError,
    prelude::*,
    salvo::{Current, FastState, Page},
};
use salvo::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    count: i64,
}

impl ReactiveState for Counter {
    const NAME: &'static str = "counter";
}

#[derive(Serialize, Deserialize)]
struct Increment {
    amount: i64,
}

impl Event for Increment {
    type State = Counter;
    const NAME: &'static str = "increment";

    fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        if !(1..=1000).contains(&self.amount) {
            return Err(Rejection::invalid("nothing was added").and("amount", "from 1 to 1000"));
        }
        counter.count = counter.count.saturating_add(self.amount);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Reset {}

impl Event for Reset {
    type State = Counter;
    const NAME: &'static str = "reset";

    fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        counter.count = 0;
        Ok(())
    }
}

#[handler]
async fn index(page: Page, counter: Current<Counter>) -> Text<String> {
    page.signal("amount", "1");
    let (datastar, signals, follow) = (page.datastar_script(), page.signals(), page.follow_action());
    let (count, add) = (counter.count, Increment { amount: 1 }.action().bind("amount", "amount"));
    let reset = Reset {}.action();
    Text::Html(format!(
        r#"<!doctype html><html lang="en"><title>Counter</title>
        <link rel="icon" href="data:,">{datastar}
        <body data-signals="{signals}" data-init="{follow}">
        <h1 data-text="$counter.count">{count}</h1><form data-on:submit="{add}">
        <label>Amount <input inputmode="numeric" data-bind="amount"></label>
        <button>Add</button>
        <button type="button" data-on:click="{reset}">Reset</button></form>
        <p role="alert" data-text="$_errors.counter.amount"></p>"#
    ))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let registry = StateRegistry::builder()
        .state::<Counter>(StateConfig::global().access(Access::public()), |state| {
            state.event::<Increment>().event::<Reset>()
        })
        .build()?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into());
    Ok(FastState::new(registry).serve(address, Router::new().get(index)).await?)
}

/// `cargo test --example counter --features testing`
#[cfg(all(test, feature = "testing"))]
#[tokio::test]
async fn two_windows_show_the_same() {
    use faststate::testing::{Browser, InProcess as _};

    let public = StateConfig::global().access(Access::public());
    let counter =
        |state: faststate::registry::StateBuilder<Counter>| state.event::<Increment>().event::<Reset>();
    let registry = StateRegistry::builder().state(public, counter).build().unwrap();
    let app = FastState::new(registry).app(Router::new().get(index));
    let (mut alice, mut bob) = (Browser::new(&app), Browser::new(&app));
    alice.visit("/").await;
    bob.visit("/").await;
    alice.click("Add").await.assert_changed();
    bob.fill("amount", 2).click("Add").await.assert_changed();
    alice.settle().await;
    alice.assert_text("h1", "3");

    alice.hide();
    bob.fill("amount", 1001).click("Add").await.assert_rejected("amount");
    bob.assert_text("[role=alert]", "from 1 to 1000");
    bob.click("Reset").await.assert_changed();
    bob.send(&Increment { amount: 5 }).await.assert_changed();
    alice.show().await;
    alice.settle().await;
    alice.assert_state(&Counter { count: 5 });
}
