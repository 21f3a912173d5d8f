//! The smallest whole application: `cargo run --example counter`, then http://127.0.0.1:5000 in two windows.

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
        let sum = counter.count.checked_add(self.amount);
        counter.count = sum.ok_or_else(|| Rejection::invalid("the count would overflow").field("amount"))?;
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
    let (datastar, signals, follow) = (page.datastar_script(), page.signals(), page.follow_action());
    let (count, add, reset) = (counter.count, Increment { amount: 1 }.action(), Reset {}.action());
    Text::Html(format!(
        r#"<!doctype html><title>Counter</title>{datastar}
        <body data-signals="{signals}" data-init="{follow}">
        <h1 data-text="$counter.count">{count}</h1>
        <button data-on:click="{add}">Add one</button> <button data-on:click="{reset}">Reset</button>"#
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
