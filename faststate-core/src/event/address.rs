//! The addresses of messages.

use std::{fmt, marker::PhantomData};

use crate::{Key, KeyError, ReactiveState, Scope, SessionId};

/// The instance of `S` that a message is sent to.
///
/// The method must fit the scope of the state: an event that sends to `Address::<Account>::user(..)` fails if `Account`
/// is not a user state.
pub struct Address<S> {
    key: Result<Key, KeyError>,
    state: PhantomData<fn() -> S>,
}

impl<S: ReactiveState> Address<S> {
    /// The one instance of a global state.
    #[must_use]
    pub fn global() -> Self {
        Self::new(Scope::Global, None, None)
    }

    /// The record with this id.
    #[must_use]
    pub fn record(id: &str) -> Self {
        Self::new(Scope::Record, None, Some(id))
    }

    /// The instance of this user.
    #[must_use]
    pub fn user(name: &str) -> Self {
        Self::new(Scope::User, Some(name), None)
    }

    /// The instance of this session.
    #[must_use]
    pub fn session(session: &SessionId) -> Self {
        Self::new(Scope::Session, Some(&session.to_string()), None)
    }

    /// The component with this id in this session.
    #[must_use]
    pub fn component(session: &SessionId, id: &str) -> Self {
        Self::new(Scope::Component, Some(&session.to_string()), Some(id))
    }

    /// Returns the key of the instance.
    ///
    /// # Errors
    /// The user's name or the id is empty or longer than 255 bytes.
    pub fn key(&self) -> Result<&Key, KeyError> {
        self.key.as_ref().map_err(|error| *error)
    }

    fn new(scope: Scope, owner: Option<&str>, id: Option<&str>) -> Self {
        Self { key: Key::new(S::NAME, scope, owner, id), state: PhantomData }
    }
}

impl<S> Clone for Address<S> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), state: PhantomData }
    }
}

impl<S> fmt::Debug for Address<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.key).finish()
    }
}
