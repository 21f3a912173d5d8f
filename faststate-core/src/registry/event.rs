//! An event's way from its call to its commit, in this order: [`admit`], [`save`], [`commit`].

pub(super) mod admit;
pub(super) mod commit;
pub(super) mod delete;
pub(super) mod mutation;
mod pending;
pub(super) mod retry;
pub(super) mod run;
pub(super) mod save;
