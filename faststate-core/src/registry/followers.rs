//! Followers of an instance: their subscriptions, and the events that report them.

pub(super) mod audience;
pub(super) mod counts;
pub(super) mod notify;
pub(super) mod subscribe;
