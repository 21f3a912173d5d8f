//! Who a request comes from, and the cookie that its answer may have to set.

use std::{net::IpAddr, sync::Arc};

use faststate_core::{Error, EventId, SessionId, Viewer, internal::NewSession, store::RECEIPT_KEPT};
use http::{HeaderMap, HeaderValue, Response, header, request::Parts};
use tokio::time::timeout;

use super::{
    Endpoint, guard,
    identity::PATIENCE,
    session::{Carried, Second},
};

/// Who a request comes from: the session of its cookie, or a new one, and what the identity closure told.
#[derive(Clone, Debug)]
pub struct RequestIdentity {
    viewer: Viewer,
    session: SessionId,
    cookie: Option<HeaderValue>,
    /// The `Set-Cookie`s that remove others.
    removals: Vec<HeaderValue>,
    refused: bool,
    /// When its cookie was set, unless it is new or due.
    set: Option<Second>,
    sets_cookies: bool,
    /// Keeps a new session's place while its request is answered.
    _place: Option<Arc<NewSession>>,
}

impl RequestIdentity {
    pub(super) async fn of(
        endpoint: &Endpoint,
        parts: &Parts,
        carried: Carried,
        address: Option<IpAddr>,
    ) -> Result<Self, Error> {
        let settings = endpoint.settings();
        let cookies = &settings.cookie;
        let (session, cookie) = match carried {
            Carried::Session(session, _) => (session, None),
            Carried::Due(session) => (session, Some(cookies.set(session, Second::now()))),
            Carried::Nothing | Carried::Ambiguous | Carried::Invalid => {
                let (session, cookie) = cookies.mint();
                (session, Some(cookie))
            }
        };
        let is_new = matches!(carried, Carried::Nothing | Carried::Ambiguous | Carried::Invalid);
        let place = match &endpoint.new_sessions {
            Some(sessions) if is_new => {
                Some(sessions.begin(session, address, settings.limits.new_sessions())?)
            }
            Some(sessions) if sessions.are_there() => {
                Box::pin(sessions.returned(&session)).await;
                None
            }
            _ => None,
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
        let authority = endpoint.has_authority(parts, carried);
        let sets_cookies =
            cookie.is_none() || guard::may_set_cookie(parts, authority, endpoint.scheme(&parts.headers));
        Ok(Self {
            viewer: if is_new { viewer.unconfirmed() } else { viewer },
            session,
            cookie: cookie.filter(|_| sets_cookies),
            removals: if sets_cookies { cookies.removals(parts, carried) } else { Vec::new() },
            refused: carried.is_refused(),
            set: if let Carried::Session(_, set) = carried { Some(set) } else { None },
            sets_cookies,
            _place: place,
        })
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

    /// The `Set-Cookie` that carries the session, if it is new or its cookie is renewed.
    ///
    /// `None` for a cross-site request with an unsafe method: its new session ends with the response, because
    /// browsers leave the cookie out of such requests and a new one would replace it (law 8).
    #[must_use]
    pub const fn set_cookie(&self) -> Option<&HeaderValue> {
        self.cookie.as_ref()
    }

    /// Puts every cookie on the response that it must set or remove.
    pub fn mark(&self, headers: &mut HeaderMap) {
        for cookie in self.cookie.iter().chain(&self.removals) {
            headers.append(header::SET_COOKIE, cookie.clone());
        }
    }

    /// Whether the response may set a cookie: not that to another site's POST.
    pub(super) const fn sets_cookies(&self) -> bool {
        self.sets_cookies
    }

    /// The `Set-Cookie`s that remove cookies beside the session's.
    pub(super) fn removals(&self) -> &[HeaderValue] {
        &self.removals
    }

    /// The viewer that an event of this id comes from.
    ///
    /// A client without a cookie has no identity, so ids of such clients are not bound to a session, nor is the id
    /// that began a session: it may be repeated with the new cookie.
    pub(super) fn sender(&self, endpoint: &Endpoint, id: Option<&EventId>) -> Viewer {
        let viewer = self.viewer.clone();
        let (Some(id), Some(sessions)) = (id, &endpoint.new_sessions) else { return viewer };
        if viewer.is_unconfirmed() {
            sessions.begins_with(self.session, id.clone());
        } else if sessions.began_with(&self.session, id) && self.is_fresh() {
            return viewer.unconfirmed();
        }
        viewer
    }

    /// Whether the session is so young that the event which began it may still be repeated.
    fn is_fresh(&self) -> bool {
        self.set.is_some_and(|set| set.elapsed() <= RECEIPT_KEPT)
    }

    /// Whether a cookie that is not valid, or ambiguous, has been replaced.
    pub(super) const fn is_refused(&self) -> bool {
        self.refused
    }

    /// The answer, with the cookies that it must carry.
    pub(super) fn marked<B>(&self, mut response: Response<B>) -> Response<B> {
        self.mark(response.headers_mut());
        response
    }
}
