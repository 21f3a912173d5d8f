//! The counter, which all visitors share.

use std::collections::VecDeque;

use askama::Template;
use faststate::{BoxError, endpoint::Page, prelude::*, registry::RegistryBuilder};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use crate::{layout::Layout, text::is_visible};

const MAX_AMOUNT: i64 = 1000;
const MAX_NAME_CHARS: usize = 40;
/// Number of counts that the chart shows.
const HISTORY: usize = 60;
const ANONYMOUS: &str = "Anonymous";

/// The counter that all visitors share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    count: i64,
    last_updated_by: String,
    update_count: u64,
    /// The recent counts, the oldest first and the current one last.
    #[serde(default)]
    history: VecDeque<i64>,
    /// Added by the next version (`tests/next`): how often it has changed the counter.
    #[cfg(next)]
    #[serde(default)]
    by_next: u64,
}

/// The history is a [`View`]: a chart that is rendered once for all followers.
#[derive(Serialize)]
struct CounterSignals<'a> {
    count: i64,
    last_updated_by: &'a str,
    update_count: u64,
}

impl ReactiveState for Counter {
    const NAME: &'static str = "counter";
    #[cfg(next)]
    const SCHEMA: u32 = 2;

    fn signals(&self) -> impl Serialize {
        let Self { count, last_updated_by, update_count, .. } = self;
        CounterSignals { count: *count, last_updated_by, update_count: *update_count }
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    builder.state::<Counter>(StateConfig::global().access(Access::public()).persist(), |state| {
        state.event::<Increment>().event::<Decrement>().event::<Reset>().view(Chart)
    })
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
        if self.history.is_empty() {
            self.history.push_back(0);
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(self.count);
        #[cfg(next)]
        {
            self.by_next += 1;
        }
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

    fn apply(&self, counter: &mut Counter, context: &mut Context<Counter>) -> Result<(), Rejection> {
        let (amount, user) = check(self.amount, &self.user, context.viewer())?;
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

    fn apply(&self, counter: &mut Counter, context: &mut Context<Counter>) -> Result<(), Rejection> {
        let (amount, user) = check(self.amount, &self.user, context.viewer())?;
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

    fn apply(&self, counter: &mut Counter, context: &mut Context<Counter>) -> Result<(), Rejection> {
        let (_, user) = check(one(), &self.user, context.viewer())?;
        counter.count = 0;
        counter.updated_by(user);
        Ok(())
    }
}

/// Validates the input and reports each mistake beside its field. A user who is signed in needs no name and can use no
/// other.
fn check<'a>(amount: i64, user: &'a str, viewer: &'a Viewer) -> Result<(i64, &'a str), Rejection> {
    let user = viewer.user().unwrap_or(user.trim());
    let mut refused = Rejection::invalid("the counter was not changed");
    if !(1..=MAX_AMOUNT).contains(&amount) {
        refused = refused.and("amount", "from 1 to 1000");
    }
    if user.chars().count() > MAX_NAME_CHARS {
        refused = refused.and("user", "at most 40 characters");
    }
    if refused.fields().next().is_some() {
        return Err(refused);
    }
    Ok((amount, if is_visible(user) { user } else { ANONYMOUS }))
}

const fn one() -> i64 {
    1
}

/// The recent history as a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chart;

impl View for Chart {
    type State = Counter;
    const NAME: &'static str = "chart";

    fn render(&self, counter: &Counter) -> Elements {
        Elements::outer(ChartSvg::of(&counter.history).to_string())
    }
}

#[derive(Template)]
#[template(path = "chart.html")]
struct ChartSvg {
    line: String,
    lowest: i64,
    highest: i64,
    end: Option<(f64, f64)>,
}

impl ChartSvg {
    /// Draws the line in a box of 300 by 80, with a margin for the line's width and the last dot.
    fn of(history: &VecDeque<i64>) -> Self {
        let (lowest, highest) = history
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), count| (low.min(*count), high.max(*count)));
        // Only a position on the screen: the lost precision is invisible.
        #[expect(clippy::cast_precision_loss)]
        let up = |count: i64| match highest as f64 - lowest as f64 {
            0.0 => 40.0,
            span => 74.0 - 68.0 * (count as f64 - lowest as f64) / span,
        };
        #[expect(clippy::cast_precision_loss)]
        let along = |at: usize| 6.0 + 288.0 * at as f64 / (history.len().max(2) - 1) as f64;
        let points: Vec<_> = history.iter().enumerate().map(|(at, count)| (along(at), up(*count))).collect();
        let line = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        let range = if points.is_empty() { (0, 0) } else { (lowest, highest) };
        Self { line, lowest: range.0, highest: range.1, end: points.last().copied() }
    }
}

#[derive(Template)]
#[template(path = "counter.html")]
struct CounterPage<'a> {
    layout: Layout,
    counter: &'a Counter,
    chart: Elements,
    /// The host by which the visitor reached the server, for the commands on the page.
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

pub(crate) async fn show(page: &Page, host: &str) -> Result<String, BoxError> {
    let (counter, chart) = (page.follow::<Counter>().await?, page.view::<Chart>().await?);
    let layout = Layout::of(page, "/counter", "counter.rs").await?;
    Ok(CounterPage { layout, counter: &counter, chart, host }.render()?)
}

/// The host by which the visitor reached this server.
pub(crate) fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:5000")
}

#[cfg(test)]
mod tests;
