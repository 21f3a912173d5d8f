//! Records from the store and changes from other nodes, on their way into memory.

pub(super) mod adopt;
pub(super) mod background;
pub(super) mod limit;
mod migration;
pub(super) mod pending;
pub(super) mod read;
pub(super) mod reload;
