//! What has been seen: a state like any other.

use std::collections::VecDeque;

use faststate_core::{Context, Elements, Event, ReactiveState, Rejection, View};
use http::Method;
use serde::{Deserialize, Serialize};

use super::row::Row;
use crate::endpoint::route::INSPECTOR_CLEAR;

/// How many events are kept.
pub(super) const KEPT: usize = 200;

/// The latest events, the oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Log {
    pub(super) rows: VecDeque<Row>,
    /// How many there have been: the next one's number.
    pub(super) seen: u64,
    missed: u64,
}

#[derive(Serialize)]
struct Signals {
    seen: u64,
    missed: u64,
    kept: usize,
}

impl ReactiveState for Log {
    const NAME: &'static str = "log";

    fn signals(&self) -> impl Serialize {
        Signals { seen: self.seen, missed: self.missed, kept: self.rows.len() }
    }
}

impl Log {
    pub(super) fn take(&mut self, rows: Vec<Row>, missed: u64) {
        for mut row in rows {
            row.number = self.seen;
            self.seen += 1;
            if self.rows.len() == KEPT {
                self.rows.pop_front();
            }
            self.rows.push_back(row);
        }
        self.missed = missed;
    }
}

/// Begins anew.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Clear {}

impl Event for Clear {
    type State = Log;
    const NAME: &'static str = "clear";
    const METHOD: Method = Method::POST;
    const PATH: Option<&'static str> = Some(INSPECTOR_CLEAR);

    fn apply(&self, log: &mut Log, _: &mut Context<Log>) -> Result<(), Rejection> {
        log.rows.clear();
        Ok(())
    }
}

/// The events, the newest on top.
#[derive(Debug)]
pub(super) struct Events;

impl View for Events {
    type State = Log;
    const NAME: &'static str = "events";

    fn render(&self, log: &Log) -> Elements {
        let rows: String = log.rows.iter().rev().map(ToString::to_string).collect();
        Elements::outer(format!("<ol id=\"events\" aria-label=\"Events, the newest first\">{rows}</ol>"))
    }

    fn update(&self, before: &Log, after: &Log) -> Vec<Elements> {
        let first = after.rows.front().map(|row| row.number);
        let gone = before.rows.iter().filter(|row| first.is_none_or(|first| row.number < first));
        let new = after.rows.iter().filter(|row| row.number >= before.seen);
        let (gone, new): (Vec<_>, Vec<_>) = (gone.collect(), new.collect());
        if gone.len() + new.len() > KEPT / 2 || after.rows.is_empty() {
            return vec![self.render(after)];
        }
        let gone = gone.into_iter().map(|row| Elements::remove(format!("#{}", row.id())));
        let new = new.into_iter().map(|row| Elements::prepend("#events", row.id(), row.to_string()));
        gone.chain(new).collect()
    }
}
