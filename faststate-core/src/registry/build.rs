//! The builders of a registry and of its states.

pub(super) mod registry;
