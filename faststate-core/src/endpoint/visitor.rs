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
    sets_cookies: bool,
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
        Ok(Self { viewer, session, cookie, renewed: carried == Carried::Invalid, sets_cookies: true })
    }

    /// This visitor, whose response sets a cookie only if `sets`.
    pub(super) fn setting_cookies(mut self, sets: bool) -> Self {
        self.sets_cookies = sets;
        self.cookie = self.cookie.filter(|_| sets);
        self
    }

    /// Whether the response may set a cookie: not that to another site's POST.
    pub(super) const fn sets_cookies(&self) -> bool {
        self.sets_cookies
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
    ///
    /// `None` for a cross-site request with an unsafe method: its new session ends with the response, because
    /// browsers leave the cookie out of such requests and a new one would replace it (law 8).
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
