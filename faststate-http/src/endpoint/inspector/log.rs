//! The inspector's state: the latest events.

use std::collections::VecDeque;

use faststate_core::{Context, Elements, Event, ReactiveState, Rejection, View};
use http::Method;
use serde::{Deserialize, Serialize};

use super::row::EventRow;
use crate::endpoint::route::INSPECTOR_CLEAR;

/// The number of rows in the log.
pub(super) const MAX_ROWS: usize = 200;

/// The latest events, the oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct InspectorLog {
    pub(super) rows: VecDeque<EventRow>,
    /// The number of events so far, which is the number of the next row.
    pub(super) seen: u64,
    missed: u64,
}

#[derive(Serialize)]
struct LogSignals {
    seen: u64,
    missed: u64,
    kept: usize,
}

impl ReactiveState for InspectorLog {
    const NAME: &'static str = "log";

    fn signals(&self) -> impl Serialize {
        LogSignals { seen: self.seen, missed: self.missed, kept: self.rows.len() }
    }
}

impl InspectorLog {
    /// Appends rows and drops the oldest ones beyond the limit.
    pub(super) fn append(&mut self, rows: Vec<EventRow>, missed: u64) {
        for mut row in rows {
            row.number = self.seen;
            self.seen += 1;
            if self.rows.len() == MAX_ROWS {
                self.rows.pop_front();
            }
            self.rows.push_back(row);
        }
        self.missed = missed;
    }
}

/// Removes all rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ClearLog {}

impl Event for ClearLog {
    type State = InspectorLog;
    const NAME: &'static str = "clear";
    const METHOD: Method = Method::POST;
    const PATH: Option<&'static str> = Some(INSPECTOR_CLEAR);

    fn apply(&self, log: &mut InspectorLog, _: &mut Context<InspectorLog>) -> Result<(), Rejection> {
        log.rows.clear();
        Ok(())
    }
}

/// The rows, the newest first.
#[derive(Debug)]
pub(super) struct EventList;

impl View for EventList {
    type State = InspectorLog;
    const NAME: &'static str = "events";

    fn render(&self, log: &InspectorLog) -> Elements {
        let rows: String = log.rows.iter().rev().map(ToString::to_string).collect();
        Elements::outer(format!("<ol id=\"events\" aria-label=\"Events, the newest first\">{rows}</ol>"))
    }

    fn update(&self, before: &InspectorLog, after: &InspectorLog) -> Vec<Elements> {
        let first = after.rows.front().map(|row| row.number);
        let gone = before.rows.iter().filter(|row| first.is_none_or(|first| row.number < first));
        let new = after.rows.iter().filter(|row| row.number >= before.seen);
        let (gone, new): (Vec<_>, Vec<_>) = (gone.collect(), new.collect());
        if gone.len() + new.len() > MAX_ROWS / 2 || after.rows.is_empty() {
            return vec![self.render(after)];
        }
        let gone = gone.into_iter().map(|row| Elements::remove(format!("#{}", row.id())));
        let new = new.into_iter().map(|row| Elements::prepend("#events", row.id(), row.to_string()));
        gone.chain(new).collect()
    }
}
