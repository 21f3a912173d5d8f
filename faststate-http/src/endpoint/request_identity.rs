//! The viewer and session of a request, and the cookies that its response sets.

use std::{net::IpAddr, sync::Arc};

use faststate_core::{Error, EventId, SessionId, Viewer, internal::NewSession, store::RECEIPT_KEPT};
use http::{HeaderMap, HeaderValue, Response, header, request::Parts};
use tokio::time::timeout;

use super::{
    Endpoint, guard,
    identity::IDENTITY_TIMEOUT,
    session::{RequestSession, UnixSeconds},
    settings::EndpointSettings,
};

/// The identity of a request: its session (the cookie's, or a new one), and its user and roles.
#[derive(Clone, Debug)]
pub struct RequestIdentity {
    viewer: Viewer,
    session: SessionId,
    cookie: Option<HeaderValue>,
    /// The `Set-Cookie` headers that remove other cookies.
    removals: Vec<HeaderValue>,
    refused: bool,
    /// The time at which the cookie was set, unless it is new or due for renewal.
    set: Option<UnixSeconds>,
    sets_cookies: bool,
    /// Keeps a new session registered while its request is answered.
    _new_session: Option<Arc<NewSession>>,
}

impl RequestIdentity {
    pub(super) async fn of(
        endpoint: &Endpoint,
        parts: &Parts,
        sent: RequestSession,
        address: Option<IpAddr>,
    ) -> Result<Self, Error> {
        let settings = endpoint.settings();
        let cookies = &settings.cookie;
        let (session, cookie) = match sent {
            RequestSession::Valid(session, _) => (session, None),
            RequestSession::Due(session) => (session, Some(cookies.set(session, UnixSeconds::now()))),
            RequestSession::Missing | RequestSession::Ambiguous | RequestSession::Invalid => {
                let (session, cookie) = cookies.mint();
                (session, Some(cookie))
            }
        };
        let is_new = sent.session().is_none();
        let sessions = endpoint.new_sessions();
        let new_session = if is_new {
            Some(sessions.begin(session, address, settings.limits.new_sessions())?)
        } else {
            if sessions.has_any() {
                Box::pin(sessions.returned(&session)).await;
            }
            None
        };
        let viewer = identify(settings, parts, session).await?;
        let authority = settings.has_authority(parts, sent);
        let sets_cookies =
            cookie.is_none() || guard::may_set_cookie(parts, authority, settings.scheme(&parts.headers));
        Ok(Self {
            viewer: if is_new { viewer.unconfirmed() } else { viewer },
            session,
            cookie: cookie.filter(|_| sets_cookies),
            removals: if sets_cookies { cookies.removals(parts, sent) } else { Vec::new() },
            refused: sent.is_refused(),
            set: if let RequestSession::Valid(_, set) = sent { Some(set) } else { None },
            sets_cookies,
            _new_session: new_session,
        })
    }

    /// Returns the viewer.
    #[must_use]
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// Returns the session: the cookie's, or the new one.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Returns the `Set-Cookie` header of the session, if the session is new or its cookie is renewed.
    ///
    /// Returns `None` for a cross-site request with an unsafe method. Browsers omit the session cookie from such
    /// requests, and a new cookie would replace it (law 8), so the new session ends with the response.
    pub(super) const fn set_cookie(&self) -> Option<&HeaderValue> {
        self.cookie.as_ref()
    }

    /// Adds the `Set-Cookie` headers that set and remove cookies to the response's headers.
    pub fn mark(&self, headers: &mut HeaderMap) {
        for cookie in self.cookie.iter().chain(&self.removals) {
            headers.append(header::SET_COOKIE, cookie.clone());
        }
    }

    /// Returns whether the response may set a cookie. The response to another site's POST may not.
    pub(super) const fn sets_cookies(&self) -> bool {
        self.sets_cookies
    }

    /// Returns the `Set-Cookie` headers that remove other cookies.
    pub(super) fn removals(&self) -> &[HeaderValue] {
        &self.removals
    }

    /// Returns the viewer that sends the event with this id.
    ///
    /// A client without a cookie has no identity, so event ids of such clients are not bound to a session. The id of the
    /// event that began a session is not bound either, because the client may repeat it with the new cookie.
    pub(super) fn sender(&self, endpoint: &Endpoint, id: Option<&EventId>) -> Viewer {
        let viewer = self.viewer.clone();
        let Some(id) = id else { return viewer };
        let sessions = endpoint.new_sessions();
        if viewer.is_unconfirmed() {
            sessions.begins_with(self.session, id.clone());
        } else if sessions.began_with(&self.session, id) && self.is_fresh() {
            return viewer.unconfirmed();
        }
        viewer
    }

    /// Returns whether the session is young enough that the client may still repeat the event that began it.
    fn is_fresh(&self) -> bool {
        self.set.is_some_and(|set| set.elapsed() <= RECEIPT_KEPT)
    }

    /// Returns whether the request's cookie was invalid or ambiguous and is replaced.
    pub(super) const fn is_refused(&self) -> bool {
        self.refused
    }

    /// Marks a response and returns it.
    pub(super) fn marked<B>(&self, mut response: Response<B>) -> Response<B> {
        self.mark(response.headers_mut());
        response
    }
}

/// Returns the viewer of a request that uses no state of its session. A request without a session cookie starts no
/// session, so that probes and scrapes take no place from the sessions of browsers.
#[cfg(any(feature = "metrics", feature = "inspector"))]
pub(super) async fn viewer_without_session(
    settings: &EndpointSettings,
    parts: &Parts,
) -> Result<Viewer, Error> {
    match settings.request_session(parts).session() {
        Some(session) => identify(settings, parts, session).await,
        None => Ok(identify(settings, parts, SessionId::random()).await?.unconfirmed()),
    }
}

/// Returns the viewer with the user and the roles that the identity closure finds in the request.
async fn identify(settings: &EndpointSettings, parts: &Parts, session: SessionId) -> Result<Viewer, Error> {
    let Some(source) = &settings.identify else { return Ok(Viewer::session(session)) };
    let mut parts = parts.clone();
    parts.extensions.insert(session);
    let Ok(identity) = timeout(IDENTITY_TIMEOUT, source.identify(&parts)).await else {
        tracing::error!("the identity closure took over {IDENTITY_TIMEOUT:?}: the request fails");
        return Err(Error::TimedOut);
    };
    Ok(identity?.viewer(session))
}
