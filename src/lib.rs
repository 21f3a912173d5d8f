//! FastState.
pub use faststate_core::*;
/// What an application imports.
pub mod prelude {
    pub use faststate_core::{Access, Action, Context, Elements, Event, Handle, ReactiveState, Rejection, StateConfig, StateRegistry, View, Viewer};
}
