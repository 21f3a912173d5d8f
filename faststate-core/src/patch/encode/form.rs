//! The two forms in which a value is encoded.

/// The differences between the wire form and the stored form.
///
/// Both forms refuse values that cannot be read back from JSON or that no browser can hold.
pub(in crate::patch) trait Form: Default {
    /// The encoding of `None` and `()`.
    const ABSENT: &'static str;
    /// Whether integers beyond 2^53 are strings, skipped fields are absent, and field names must be names of
    /// signals.
    const IS_WIRE: bool;

    /// Records that the other form of the value has different bytes.
    fn mark_different(&mut self) {}
}

/// The form that is sent to a browser.
#[derive(Default)]
pub(in crate::patch) struct WireForm;

/// The form that is saved in a store.
#[derive(Default)]
pub(in crate::patch) struct StoreForm {
    /// Whether the wire form of the value has different bytes.
    pub(in crate::patch) differs: bool,
}

impl Form for WireForm {
    const ABSENT: &'static str = "\"\"";
    const IS_WIRE: bool = true;
}

impl Form for StoreForm {
    const ABSENT: &'static str = "null";
    const IS_WIRE: bool = false;

    fn mark_different(&mut self) {
        self.differs = true;
    }
}
