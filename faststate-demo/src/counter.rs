//! The counter: one for everybody.

use askama::Template;
use faststate::{
    prelude::*,
    salvo::{Current, Page, PageError},
};
use salvo::prelude::*;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

const LARGEST_AMOUNT: i64 = 1000;
const LONGEST_NAME: usize = 40;
const ANONYMOUS: &str = "Anonymous";

/// The counter that everybody shares.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    count: i64,
    last_updated_by: String,
    update_count: u64,
}

impl ReactiveState for Counter {
    const NAME: &'static str = "counter";
}

impl Counter {
    fn add(&mut self, amount: i64, user: &str) -> Result<(), Rejection> {
        self.count = self
            .count
            .checked_add(amount)
            .ok_or_else(|| Rejection::invalid("the count would overflow").field("amount"))?;
        self.updated_by(user);
        Ok(())
    }

    fn updated_by(&mut self, user: &str) {
        user.clone_into(&mut self.last_updated_by);
        self.update_count = self.update_count.saturating_add(1);
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Increment {
    #[serde(default = "one")]
    amount: i64,
    #[serde(default)]
    user: String,
}

impl Event for Increment {
    type State = Counter;
    const NAME: &'static str = "increment";

    fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        let (amount, user) = check(self.amount, &self.user)?;
        counter.add(amount, user)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Decrement {
    #[serde(default = "one")]
    amount: i64,
    #[serde(default)]
    user: String,
}

impl Event for Decrement {
    type State = Counter;
    const NAME: &'static str = "decrement";

    fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        let (amount, user) = check(self.amount, &self.user)?;
        counter.add(-amount, user)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reset {
    #[serde(default)]
    user: String,
}

impl Event for Reset {
    type State = Counter;
    const NAME: &'static str = "reset";

    fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        let (_, user) = check(one(), &self.user)?;
        counter.count = 0;
        counter.updated_by(user);
        Ok(())
    }
}

/// The input by the rules of the domain, each mistake beside its own field.
fn check(amount: i64, user: &str) -> Result<(i64, &str), Rejection> {
    let user = user.trim();
    let mut refused = Rejection::invalid("the counter was not changed");
    if !(1..=LARGEST_AMOUNT).contains(&amount) {
        refused = refused.and("amount", "from 1 to 1000");
    }
    if user.chars().count() > LONGEST_NAME {
        refused = refused.and("user", "at most 40 characters");
    }
    if refused.fields().next().is_some() {
        return Err(refused);
    }
    Ok((amount, if user.is_empty() { ANONYMOUS } else { user }))
}

const fn one() -> i64 {
    1
}

#[derive(Template)]
#[template(path = "counter.html")]
struct CounterPage<'a> {
    layout: Layout,
    counter: &'a Counter,
    /// As this visitor reaches it, for the lines to copy.
    host: &'a str,
}

impl CounterPage<'_> {
    fn increment(&self) -> Action {
        Increment { amount: 1, user: String::new() }.action().bind("amount", "_amount").bind("user", "_user")
    }

    fn decrement(&self) -> Action {
        Decrement { amount: 1, user: String::new() }.action().bind("amount", "_amount").bind("user", "_user")
    }

    fn reset(&self) -> Action {
        Reset { user: String::new() }.action().bind("user", "_user")
    }
}

#[handler]
pub(crate) async fn show(
    page: Page,
    counter: Current<Counter>,
    request: &mut Request,
) -> Result<Text<String>, PageError> {
    let host = request.header("host").unwrap_or("127.0.0.1:5000");
    let page = CounterPage { layout: Layout::of(&page, "/counter"), counter: &counter, host };
    Ok(Text::Html(page.render()?))
}

#[cfg(test)]
mod tests {
    use faststate::{BoxError, Error};

    use super::*;

    fn counter() -> Result<Handle<Counter>, BoxError> {
        let registry = StateRegistry::builder()
            .state::<Counter>(StateConfig::global().access(Access::public()), |state| {
                state.event::<Increment>()
            })
            .build()?;
        Ok(Handle::of(registry, &Viewer::application(), None)?)
    }

    fn fields(refused: Result<impl Sized, Error>) -> Vec<String> {
        let Err(Error::Rejected(rejection)) = refused else { return Vec::new() };
        rejection.fields().map(|(name, _)| name.to_owned()).collect()
    }

    #[tokio::test]
    async fn each_mistake_is_beside_its_field() -> Result<(), BoxError> {
        let counter = counter()?;
        for amount in [0, -1, 1001] {
            let refused = counter.send(Increment { amount, user: "x".repeat(41) }).await;
            assert_eq!(fields(refused), ["amount", "user"]);
        }
        assert_eq!(counter.read().await?.update_count, 0);
        Ok(())
    }

    #[tokio::test]
    async fn the_count_does_not_overflow() -> Result<(), BoxError> {
        let counter = counter()?;
        counter
            .update(|counter| {
                counter.count = i64::MAX - 1;
                Ok(())
            })
            .await?;
        counter.send(Increment { amount: 1, user: " ".into() }).await?;
        assert_eq!(fields(counter.send(Increment { amount: 1, user: String::new() }).await), ["amount"]);
        let now = counter.read().await?;
        assert_eq!((now.count, &*now.last_updated_by, now.update_count), (i64::MAX, ANONYMOUS, 1));
        Ok(())
    }
}
