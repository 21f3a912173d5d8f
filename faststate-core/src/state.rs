//! The `ReactiveState` trait.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{BoxError, patch::Whole};

/// A state: a plain struct that the server stores and that the browsers showing it follow.
///
/// ```
/// # use faststate_core::ReactiveState;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Counter { count: i64 }
///
/// impl ReactiveState for Counter {
///     const NAME: &'static str = "counter";
/// }
/// ```
///
/// # Contract
/// - The state serialises as a struct or a map whose names match `[a-z][a-z0-9_]*` without `__`. Each field
///   becomes a signal, such as `$counter.count`. `build()` checks the names of the default value.
/// - Deserialising a serialised state returns an equal state, and equal states serialise equally. Prefer
///   `BTreeMap` to `HashMap`: the order of a `HashMap` can differ between equal values, which looks like a change.
/// - Every float is finite. JSON cannot represent other floats; a change that produces one is refused with
///   status 500 before it is saved.
///
/// # Limits
/// A state is copied once per event and serialised once per change. Keep it small: kilobytes, not megabytes.
/// A list that grows without a limit belongs in a database table and a [`View`](crate::View).
///
/// # For implementers
/// - Derive `Clone`, `Default`, `Serialize` and `Deserialize`, and set [`NAME`](Self::NAME).
/// - If you rename or retype a field, raise [`SCHEMA`](Self::SCHEMA) and convert the old form in
///   [`migrate`](Self::migrate). A new field with `#[serde(default)]` needs neither.
/// - Override [`signals`](Self::signals) to hide fields from browsers. Every follower sees the same signals.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a FastState state",
    label = "this type does not implement `ReactiveState`",
    note = "derive `Clone`, `Default`, `serde::Serialize` and `serde::Deserialize`, then: `impl ReactiveState for {Self} {{ const NAME: &'static str = \"..\"; }}`"
)]
pub trait ReactiveState: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name in URLs, signals and stored keys: `[a-z][a-z0-9_]*` without `__`, at most 64 bytes.
    const NAME: &'static str;

    /// The version of the stored form. Increase it when older data needs [`migrate`](Self::migrate).
    const SCHEMA: u32 = 1;

    /// Whether browsers also receive the signal `_pending`: the number of the instance's messages and jobs that are not
    /// finished (law 16).
    const SHOWS_PENDING: bool = false;

    /// Returns the part of the state that browsers receive; by default, the whole state.
    ///
    /// All followers of an instance receive the same signals, so omit everything that one of them must not see.
    /// If this method panics, the event that caused the call fails and changes nothing (law 7). Without
    /// followers, the method is not called after a change (law 14), and the first later call returns the error.
    fn signals(&self) -> impl Serialize {
        Whole::of(self)
    }

    /// Upgrades data that was stored under schema `from` before it is deserialised.
    ///
    /// An integer of more than 64 bits appears in `data` as a string that ends in `:` and the digits, because
    /// [`Value`] cannot represent it. Such a string may be moved; it becomes an integer again after this call.
    ///
    /// # Errors
    /// The data cannot be upgraded. The stored instance does not change, and the call that loaded it fails.
    fn migrate(_from: u32, _data: &mut Value) -> Result<(), BoxError> {
        Ok(())
    }
}
