//! The scope of a state.

/// The kind of owner of a state, which decides how many instances there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// One instance for each browser session.
    Session,
    /// One instance for each signed-in user.
    User,
    /// One instance for all viewers.
    Global,
    /// One instance for each id, shared by all viewers.
    Record,
    /// One instance for each id within a session, such as a part of a page.
    Component,
}

impl Scope {
    /// Returns the letter of the scope in the text of a key.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Session => 's',
            Self::User => 'u',
            Self::Global => 'g',
            Self::Record => 'r',
            Self::Component => 'c',
        }
    }

    /// Parses the letter of a scope in the text of a key.
    pub(super) fn from_letter(letter: &str) -> Option<Self> {
        let scopes = [Self::Session, Self::User, Self::Global, Self::Record, Self::Component];
        scopes.into_iter().find(|scope| letter.len() == 1 && letter.starts_with(scope.letter()))
    }

    /// Returns whether keys of this scope carry the id of a session or a user.
    pub(crate) const fn has_owner(self) -> bool {
        matches!(self, Self::Session | Self::User | Self::Component)
    }

    /// Returns whether keys of this scope carry an id from the path: records and components do.
    #[must_use]
    #[doc(hidden)]
    pub const fn has_id(self) -> bool {
        matches!(self, Self::Record | Self::Component)
    }

    /// Returns whether several viewers reach the same instance, so that the state needs an access policy.
    #[must_use]
    #[doc(hidden)]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Global | Self::Record)
    }
}
