//! FastState.
pub use faststate_core::*;
/// The adapter for Salvo.
#[cfg(feature = "salvo")]
pub mod salvo {
    pub use faststate_salvo::*;
}
/// What an application imports.
pub mod prelude {
    pub use faststate_core::{
        Access, Action, Context, Elements, Event, Handle, ReactiveState, Rejection, StateConfig,
        StateRegistry, View, Viewer,
    };
}
