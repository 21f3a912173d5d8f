//! The counter on axum: `cargo run --example counter_axum --features axum`, then http://127.0.0.1:5000 in two windows.
//! It differs from `counter.rs` only in the adapter's lines.

use axum::{Router, response::Html, routing::get};
use faststate::{
    BoxError,
    axum::{Current, FastState, Page},
    prelude::*,
};
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

async fn index(page: Page, counter: Current<Counter>) -> Html<String> {
    page.signal("amount", "1");
    let (datastar, signals, follow) = (page.datastar_script(), page.signals(), page.follow_action());
    let (count, add) = (counter.count, Increment { amount: 1 }.action().bind("amount", "amount"));
    let reset = Reset {}.action();
    Html(format!(
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
    Ok(FastState::new(registry).serve(address, Router::new().route("/", get(index))).await?)
}
