//! What is kept and followed.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::BoxError;

/// A state: a plain struct that the server keeps and every browser that looks at it follows.
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
/// - It serialises as a struct or a map whose names match `[a-z][a-z0-9_]*` without `__`; they become
///   the signals `$counter.count`. `build()` checks the default value's.
/// - What serialises deserialises to the same again. Equal values serialise equally: prefer `BTreeMap`
///   to `HashMap`, whose order may differ between equal values and look like a change.
/// - No floats that are not finite: JSON has none, and the change is refused (500) before it is saved.
///
/// # Limits
/// Copied once per event and serialised once per change, so keep it small: kilobytes, not megabytes. A
/// list that grows without end is a database table and a [`View`](crate::View).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a FastState state",
    label = "this type does not implement `ReactiveState`",
    note = "derive `Clone`, `Default`, `serde::Serialize` and `serde::Deserialize`, then: `impl ReactiveState for {Self} {{ const NAME: &'static str = \"..\"; }}`"
)]
pub trait ReactiveState: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name in URLs, signals and stored keys: `[a-z][a-z0-9_]*` without `__`, at most 64 bytes.
    const NAME: &'static str;

    /// The version of the stored form; raise it when an older form needs [`migrate`](Self::migrate).
    const SCHEMA: u32 = 1;

    /// What browsers see; by default all of it.
    ///
    /// Everybody who may follow an instance sees the same signals: leave out what they must not know. A
    /// panic in here fails the event that led to it and changes nothing (law 7); where nobody follows, nobody
    /// asks (law 14), and it fails whoever asks first.
    fn signals(&self) -> impl Serialize {
        self
    }

    /// Turns data stored under schema `from` into the present form, before it is deserialised.
    ///
    /// An integer of more than 64 bits is a string in `data`, as a [`Value`] has no longer numbers: it ends in `:` and the
    /// digits. Such a string may be moved, and is the integer again afterwards.
    ///
    /// # Errors
    /// Data that cannot be upgraded: the instance stays as it is stored, and what asked for it fails.
    fn migrate(_from: u32, _data: &mut Value) -> Result<(), BoxError> {
        Ok(())
    }
}
