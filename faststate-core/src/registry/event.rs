//! The stages of an event, in this order: [`admit`], [`apply`], [`save`], [`commit`], [`after`].
//!
//! [`save`] runs the loop: it calls the other stages, and tries again after a conflict or a failed save. [`retry`] limits
//! and paces its store calls. [`delete`] is the deletion of a record, which needs no event.

pub(super) mod admit;
mod after;
mod apply;
pub(super) mod commit;
pub(super) mod delete;
mod retry;
pub(super) mod save;
