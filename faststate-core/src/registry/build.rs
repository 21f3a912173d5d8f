//! The builders of a registry and of its states.

mod checks;
pub(super) mod registry;
pub(super) mod state;
