//! Who a request comes from, and the cookie that its answer may have to set.

use http::{HeaderValue, Response, header, request::Parts};

use tokio::time::timeout;

use super::{Settings, identity::PATIENCE, session::Carried};
use crate::{Error, SessionId, Viewer};

/// Who a request comes from: the session of its cookie, or a new one, and what the identity closure told.
#[derive(Clone, Debug)]
pub struct Visitor {
    viewer: Viewer,
    session: SessionId,
    cookie: Option<HeaderValue>,
    renewed: bool,
}

impl Visitor {
    pub(super) async fn of(parts: &Parts, carried: Carried, settings: &Settings) -> Result<Self, Error> {
        let (session, cookie) = match carried {
            Carried::Session(session) => (session, None),
            Carried::Old(session) => (session, Some(settings.cookie.set(session))),
            Carried::Nothing | Carried::Invalid => {
                let (session, cookie) = settings.cookie.mint();
                (session, Some(cookie))
            }
        };
        let viewer = match &settings.identify {
            None => Viewer::session(session),
            Some(identify) => {
                let mut parts = parts.clone();
                parts.extensions.insert(session);
                let Ok(identity) = timeout(PATIENCE, identify.ask(&parts)).await else {
                    tracing::error!("the identity closure took over {PATIENCE:?}: the request fails");
                    return Err(Error::TimedOut);
                };
                identity?.viewer(session)
            }
        };
        Ok(Self { viewer, session, cookie, renewed: carried == Carried::Invalid })
    }

    /// Who looks.
    #[must_use]
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The session: the cookie's, or the new one.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The `Set-Cookie` that the answer must carry, if the session is new or signed with an old secret.
    #[must_use]
    pub const fn set_cookie(&self) -> Option<&HeaderValue> {
        self.cookie.as_ref()
    }

    /// Whether a cookie that is not valid has been replaced.
    pub(super) const fn is_renewed(&self) -> bool {
        self.renewed
    }

    /// The answer, with the cookie that it must carry.
    pub(super) fn marked<B>(&self, mut response: Response<B>) -> Response<B> {
        if let Some(cookie) = &self.cookie {
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
        response
    }
}
