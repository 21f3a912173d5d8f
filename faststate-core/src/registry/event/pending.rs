//! An event between its application to a copy and its commit.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    event::{Aftermath, Effects},
    registry::{Applied, Outcome, event::commit::Commit, instance::revision::Current},
    store::{Precondition, Record},
};

/// What became of one try on a copy.
pub(in crate::registry) struct AppliedCopy<S> {
    /// What is to be saved, if anything is.
    pub(in crate::registry) next: Option<Arc<Current<S>>>,
    pub(in crate::registry) answer: Applied,
    pub(in crate::registry) effects: Effects,
    pub(in crate::registry) aftermath: Aftermath<S>,
}

/// A change that is ready to be saved.
pub(in crate::registry) struct PendingCommit<S> {
    pub(in crate::registry) expect: Precondition,
    pub(in crate::registry) next: Arc<Current<S>>,
    /// None where only the receipt is new.
    pub(in crate::registry) step: Option<Commit<S>>,
    pub(in crate::registry) record: Record,
    pub(in crate::registry) accepted: Committed<S>,
}

/// An event that is accepted once it is saved: its answer, and what it wants done then.
pub(in crate::registry) struct Committed<S> {
    pub(in crate::registry) answer: Outcome,
    pub(in crate::registry) effects: Effects,
    pub(in crate::registry) aftermath: Aftermath<S>,
    pub(in crate::registry) permits: Vec<OwnedSemaphorePermit>,
}
