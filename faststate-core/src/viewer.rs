//! The identity behind a request.

use std::fmt;

use crate::version::push_hex;

/// Identifies one browser session: 128 random bits, written as 32 lower-case hexadecimal digits.
///
/// A valid cookie with the id gives access to the session, so `Debug` shows only the first four digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Creates a random id with the thread's cryptographic generator.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Creates the id with these bytes.
    #[must_use]
    #[doc(hidden)]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes of the id.
    #[must_use]
    #[doc(hidden)]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(2 * self.0.len());
        push_hex(&mut text, u128::from_be_bytes(self.0), 32);
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// The identity behind a request: the session of its cookie, and the user and roles that the application's identity
/// closure returned.
///
/// Keys are derived from the viewer, never from what a browser claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Viewer {
    session: Option<SessionId>,
    /// Whether the session is new, so that no request has carried its cookie.
    unconfirmed: bool,
    user: Option<String>,
    roles: Vec<String>,
}

impl Viewer {
    /// Creates a viewer with a session, without a user and roles.
    #[must_use]
    pub fn session(session: SessionId) -> Self {
        Self { session: Some(session), ..Self::default() }
    }

    /// Creates the viewer that stands for the application itself, without a session, a user and roles.
    #[must_use]
    pub fn application() -> Self {
        Self::default()
    }

    /// Returns this viewer, signed in as `user`.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Returns this viewer with an additional role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Returns this viewer, marked as new: no request has carried its session's cookie.
    #[doc(hidden)]
    #[must_use]
    pub const fn unconfirmed(mut self) -> Self {
        self.unconfirmed = true;
        self
    }

    /// Returns whether no request has carried the session's cookie.
    #[doc(hidden)]
    #[must_use]
    pub const fn is_unconfirmed(&self) -> bool {
        self.unconfirmed
    }

    /// Returns the id of the session, if there is one.
    #[must_use]
    pub const fn session_id(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    /// Returns the user, if one is signed in.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the roles.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(String::as_str)
    }

    /// Returns whether the viewer has this role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}
