//! The interface of handles to the instances of one state.

use async_trait::async_trait;

use super::{Error, Outcome, StateSnapshot, request::HandleRequest};
use crate::Key;

/// The instances of one state, without the type of the state, for [`Handle`](crate::Handle).
///
/// There are no access checks, because the application is trusted.
#[async_trait]
pub trait Instances: Send + Sync {
    /// Runs a mutation in the key's turn. Contract, errors and cancellation are those of [`Registry::dispatch`].
    ///
    /// [`Registry::dispatch`]: crate::Registry::dispatch
    async fn run(&self, key: &Key, job: HandleRequest) -> Result<Outcome, Error>;

    /// Returns the current state. Contract, errors and cancellation are those of [`Registry::read`].
    ///
    /// [`Registry::read`]: crate::Registry::read
    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error>;

    /// Deletes an instance. Its followers receive the initial state under a new epoch.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    async fn delete(&self, key: &Key) -> Result<(), Error>;
}
