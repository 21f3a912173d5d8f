//! The board of the alternatives, as a competent author would write it without FastState.

use serde::{Deserialize, Serialize};
use serde_json::json;

/// The number of values on a board.
pub const SLOTS: usize = 16;

/// The input that sets a number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct SetBoardNumber {
    pub(crate) slot: usize,
    pub(crate) value: u32,
}

/// The board of the alternatives.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlainBoard {
    slots: [u32; SLOTS],
}

impl PlainBoard {
    pub(crate) fn set(&mut self, set: SetBoardNumber) {
        if let Some(slot) = self.slots.get_mut(set.slot) {
            *slot = set.value;
        }
    }

    /// All numbers as signals.
    pub(crate) fn signals(&self) -> String {
        let slots = self.slots.iter().enumerate();
        let slots: serde_json::Map<_, _> =
            slots.map(|(at, value)| (format!("s{at}"), (*value).into())).collect();
        json!({ "board": slots }).to_string()
    }
}

/// One number as signals.
pub(crate) fn signals(slot: usize, value: u32) -> String {
    format!("{{\"board\":{{\"s{slot}\":{value}}}}}")
}

/// One number as an encoded event.
pub(crate) fn frame(slot: usize, value: u32) -> String {
    format!("event: datastar-patch-signals\ndata: signals {}\n\n", signals(slot, value))
}

/// All numbers as an encoded event.
pub(crate) fn snapshot(board: &PlainBoard) -> String {
    format!("event: datastar-patch-signals\ndata: signals {}\n\n", board.signals())
}
