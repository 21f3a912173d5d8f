//! Who a request comes from, as the application tells.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use faststate_core::{Error, SessionId, Viewer};
use futures::future::BoxFuture;
use http::request::Parts;

/// How long the application may take to answer (law 13).
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The user and roles behind a request, as the application's identity closure tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The signed-in user's id; `None` for nobody. At most 255 bytes where a state has the scope user.
    pub user: Option<String>,
    /// The user's roles.
    pub roles: Vec<String>,
}

impl Identity {
    /// Nobody: not signed in.
    #[must_use]
    pub fn nobody() -> Self {
        Self::default()
    }

    /// A signed-in user without roles.
    #[must_use]
    pub fn user(user: impl Into<String>) -> Self {
        Self { user: Some(user.into()), roles: Vec::new() }
    }

    /// This identity with one role more.
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

/// What an identity closure may answer with: an [`Identity`], or a `Result` where looking it up can fail.
///
/// A failure fails the request, or ends the stream, which then reconnects: a store that is away signs
/// nobody out.
pub trait IntoIdentity {
    /// The identity, or why it is not known.
    ///
    /// # Errors
    /// What kept the application from telling.
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

/// The application's answer, once it is there.
pub(super) type Asking = BoxFuture<'static, Result<Identity, Error>>;

type Closure = dyn Fn(&Parts) -> Asking + Send + Sync;

/// The application's closure.
#[derive(Clone)]
pub(super) struct Identify(Arc<Closure>);

impl Identify {
    pub(super) fn new<I, F>(identify: I) -> Self
    where
        I: Fn(&Parts) -> F + Send + Sync + 'static,
        F: Future<Output: IntoIdentity> + Send + 'static,
    {
        Self(Arc::new(move |parts| {
            let answer = identify(parts);
            Box::pin(async move { answer.await.into_identity() })
        }))
    }

    pub(super) fn ask(&self, parts: &Parts) -> Asking {
        (self.0)(parts)
    }
}

impl fmt::Debug for Identify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identify")
    }
}
