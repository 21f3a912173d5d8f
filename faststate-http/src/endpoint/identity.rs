//! The user and roles of a request, as the application identifies them.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use faststate_core::{Error, SessionId, Viewer};
use futures::future::BoxFuture;
use http::request::Parts;

/// The longest time that the identity closure may take (law 13).
pub(super) const IDENTITY_TIMEOUT: Duration = Duration::from_secs(2);

/// The user and roles of a request, as returned by the application's identity closure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    user: Option<String>,
    roles: Vec<String>,
}

impl Identity {
    /// Returns the identity of a viewer that is not signed in.
    #[must_use]
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Returns the identity of a signed-in user without roles. The id has at most 255 bytes if a state has the scope
    /// `User`.
    #[must_use]
    pub fn user(user: impl Into<String>) -> Self {
        Self { user: Some(user.into()), roles: Vec::new() }
    }

    /// Adds a role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    pub(super) fn viewer(self, session: SessionId) -> Viewer {
        let mut viewer = Viewer::session(session);
        if let Some(user) = self.user {
            viewer = viewer.with_user(user);
        }
        self.roles.into_iter().fold(viewer, Viewer::with_role)
    }
}

/// The return type of an identity closure: an [`Identity`], or a `Result` if the lookup can fail.
///
/// An error fails the request, or ends the stream, which then reconnects. A store outage therefore does not sign users
/// out.
pub trait IntoIdentity {
    /// Returns the identity.
    ///
    /// # Errors
    /// The error of the application's lookup.
    fn into_identity(self) -> Result<Identity, Error>;
}

impl IntoIdentity for Identity {
    fn into_identity(self) -> Result<Identity, Error> {
        Ok(self)
    }
}

impl IntoIdentity for Result<Identity, Error> {
    fn into_identity(self) -> Result<Identity, Error> {
        self
    }
}

/// The future of an identity closure.
pub(super) type IdentityFuture = BoxFuture<'static, Result<Identity, Error>>;

type IdentityFn = dyn Fn(&Parts) -> IdentityFuture + Send + Sync;

/// The application's identity closure.
#[derive(Clone)]
pub(super) struct IdentitySource(Arc<IdentityFn>);

impl IdentitySource {
    pub(super) fn new<I, F>(identify: I) -> Self
    where
        I: Fn(&Parts) -> F + Send + Sync + 'static,
        F: Future<Output: IntoIdentity> + Send + 'static,
    {
        Self(Arc::new(move |parts| {
            let identity = identify(parts);
            Box::pin(async move { identity.await.into_identity() })
        }))
    }

    pub(super) fn identify(&self, parts: &Parts) -> IdentityFuture {
        (self.0)(parts)
    }
}

impl fmt::Debug for IdentitySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentitySource")
    }
}
