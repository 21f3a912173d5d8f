//! The test state: one field for each case of the wire encoding, with its events, views and helpers.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, Waker},
    time::Duration,
};

use faststate_core::{
    Access, Context, Elements, Event, EventId, Handle, Key, ReactiveState, Rejection, StateConfig,
    StateRegistry, View, Viewer,
    registry::{Call, RegistryBuilder},
    wire::Input,
};
use rand::{RngExt as _, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// Deadline for tests in real time, which allows for a busy machine.
pub(crate) const REAL_TIME_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Board {
    pub(crate) count: i64,
    pub(crate) title: String,
    pub(crate) note: Option<String>,
    pub(crate) author: Option<Author>,
    pub(crate) tags: BTreeMap<String, i64>,
    pub(crate) boxes: BTreeMap<String, BTreeMap<String, Option<String>>>,
    pub(crate) lines: Vec<Line>,
    pub(crate) big: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Author {
    name: String,
    nick: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    id: u64,
    text: String,
}

impl ReactiveState for Board {
    const NAME: &'static str = "board";
}

/// Adds to the count. Refuses a result below zero.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Add {
    pub(crate) amount: i64,
}

impl Event for Add {
    type State = Board;
    const NAME: &'static str = "add";

    fn apply(&self, board: &mut Board, _: &mut Context<Board>) -> Result<(), Rejection> {
        if board.count + self.amount < 0 {
            return Err(Rejection::invalid("there is not enough").field("amount"));
        }
        board.count += self.amount;
        Ok(())
    }
}

/// The lines, with its own `update`, which adds and removes single lines.
pub(crate) struct Lines;

impl View for Lines {
    type State = Board;
    const NAME: &'static str = "lines";

    fn render(&self, board: &Board) -> Elements {
        let mut html = "<ul id=\"lines\">".to_owned();
        board.lines.iter().for_each(|line| html.push_str(&item(line)));
        html.push_str("</ul>");
        Elements::outer(html)
    }

    fn update(&self, before: &Board, after: &Board) -> Vec<Elements> {
        let stay: Vec<_> = before.lines.iter().filter(|line| after.lines.contains(line)).collect();
        if !after.lines.iter().take(stay.len()).eq(stay.iter().copied()) {
            return vec![self.render(after)];
        }
        let removed = before.lines.iter().filter(|line| !stay.contains(line));
        let removed = removed.map(|line| Elements::remove(format!("#line-{}", line.id)));
        let added = after.lines.iter().skip(stay.len());
        let added = added.map(|line| Elements::append("#lines", format!("line-{}", line.id), item(line)));
        removed.chain(added).collect()
    }
}

fn item(line: &Line) -> String {
    format!("<li id=\"line-{}\">{}</li>", line.id, line.text)
}

/// The title, with the provided `update`.
pub(crate) struct Title;

impl View for Title {
    type State = Board;
    const NAME: &'static str = "title";

    fn render(&self, board: &Board) -> Elements {
        Elements::outer(format!("<h1 id=\"title\">{}</h1>", board.title))
    }
}

impl Board {
    /// Makes random changes.
    pub(crate) fn shake(&mut self, dice: &mut StdRng) {
        let word = |dice: &mut StdRng| ["a", "b", "c", "d"][dice.random_range(0..4)].to_owned();
        match dice.random_range(0..12) {
            0 => self.count += 1,
            1 => self.title = format!("line\r\nbreak \u{2028} é🦀 {}", dice.random::<u8>()),
            2 => self.note = dice.random::<bool>().then(|| word(dice)),
            3 => {
                let author = Author { name: word(dice), nick: dice.random::<bool>().then(|| word(dice)) };
                self.author = dice.random::<bool>().then_some(author);
            }
            4 | 5 => drop(self.tags.insert(word(dice), dice.random_range(0..10))),
            6 => drop(self.tags.remove(&word(dice))),
            7 => {
                let value = dice.random::<bool>().then(|| word(dice));
                self.boxes.entry(word(dice)).or_default().insert(word(dice), value);
            }
            8 => drop(self.boxes.remove(&word(dice))),
            9 => drop(self.boxes.values_mut().next().map(BTreeMap::pop_first)),
            10 => self.big = dice.random(),
            _ => {
                if self.lines.len() > 5 || (!self.lines.is_empty() && dice.random_range(0..4) == 0) {
                    self.lines.remove(dice.random_range(0..self.lines.len()));
                }
                let mut text = String::new();
                let _ = write!(text, "text {}", dice.random::<u16>());
                let id = self.count.unsigned_abs() + dice.random_range(0..u64::from(u32::MAX));
                self.lines.push(Line { id, text });
            }
        }
    }
}

/// A registry with one public board.
pub(crate) fn registry() -> Arc<StateRegistry> {
    with(|builder| builder, |config| config)
}

/// The same registry with a long deadline, for tests in real time.
pub(crate) fn registry_with_long_deadline() -> Arc<StateRegistry> {
    with(|builder| builder.deadline(REAL_TIME_DEADLINE), |config| config)
}

/// The same registry with a different builder or configuration.
pub(crate) fn with(
    builder: impl FnOnce(RegistryBuilder) -> RegistryBuilder,
    config: impl FnOnce(StateConfig) -> StateConfig,
) -> Arc<StateRegistry> {
    let config = config(StateConfig::global().access(Access::public()));
    builder(StateRegistry::builder())
        .state::<Board>(config, |state| state.event::<Add>().view(Lines).view(Title))
        .build()
        .unwrap()
}

pub(crate) fn board(registry: &Arc<StateRegistry>) -> Handle<Board> {
    registry.global().unwrap()
}

/// An `Add` event as sent over HTTP.
pub(crate) fn add(key: &Key, amount: i64, id: Option<&str>) -> Call {
    call(key, "add", &format!("amount={amount}"), id)
}

pub(crate) fn call(key: &Key, event: &str, query: &str, id: Option<&str>) -> Call {
    let input = Input::parse(Some(query), None, b"").unwrap();
    let mut call = Call::new(key.clone(), event.to_owned(), Viewer::application(), input);
    call.id = id.map(|id| id.parse::<EventId>().unwrap());
    call
}

/// Waits for a condition, with a deadline.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(REAL_TIME_DEADLINE, waited).await.unwrap_or_else(|_| panic!("timed out: {what}"));
}

/// Polls a future once, like a caller that hangs up or continues later.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut task::Context::from_waker(Waker::noop()))
}
