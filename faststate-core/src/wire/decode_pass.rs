//! The state that one pass over an event's input shares between its deserializers.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
};

use serde_json::Value;

/// One pass over the input of an event.
///
/// Whether an empty value counts as absent depends on the type of its field, which is known only after serde has
/// requested the value. The pass therefore records such values, and the next pass omits them.
///
/// Values are identified by address: the input does not change between passes, and one pass records any number
/// of values without building their paths.
#[derive(Default)]
pub(super) struct DecodePass {
    /// The names of the event's fields, once they are known.
    fields: Cell<&'static [&'static str]>,
    /// Values to omit.
    absent: HashSet<*const Value>,
    /// Values that this pass found to be absent: `null`, or a blank number.
    blank: RefCell<Vec<*const Value>>,
}

impl DecodePass {
    /// Returns the next pass, which omits the values that this pass found to be absent. `None` if there are none.
    pub(super) fn next(self) -> Option<Self> {
        let Self { mut absent, blank, .. } = self;
        let blank = blank.into_inner();
        if blank.is_empty() {
            return None;
        }
        absent.extend(blank);
        Some(Self { absent, ..Self::default() })
    }

    pub(super) fn fields(&self) -> &'static [&'static str] {
        self.fields.get()
    }

    pub(super) fn set_fields(&self, fields: &'static [&'static str]) {
        self.fields.set(fields);
    }

    pub(super) fn record_blank(&self, value: &Value) {
        self.blank.borrow_mut().push(value);
    }

    pub(super) fn is_absent(&self, value: &Value) -> bool {
        self.absent.contains(&std::ptr::from_ref(value))
    }
}
