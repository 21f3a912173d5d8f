//! The other nodes: membership, messages, and fairness between them.

pub(super) mod arrivals;
pub(super) mod fairness;
pub(super) mod inbox;
mod membership;
pub(super) mod nodes;
mod outbox;
pub(super) mod peer_message;
mod pieces;
mod revocations;
mod send;
