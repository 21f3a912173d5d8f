//! The settings of an endpoint.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use faststate_core::Error;
#[cfg(feature = "inspector")]
use faststate_core::internal::EventObserver;
use http::{HeaderMap, HeaderName, Response, Uri, header, request::Parts};

#[cfg(any(feature = "metrics", feature = "inspector"))]
use super::operator_access::OperatorAccess;
use super::{
    bundle::Bundle,
    guard,
    hosts::{Hosts, host, is_loopback},
    identity::IdentitySource,
    limits::{self, Limits},
    problem::{Notice, Problem, ProblemView},
    reply::{self, ReplyBody},
    session::{ListenAddress, RequestSession, SessionCookie, UnixSeconds},
};

static FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The settings of an [`Endpoint`](super::Endpoint), and what they say about a request.
#[derive(Clone)]
pub(super) struct EndpointSettings {
    /// The address that the server listens on, once it does.
    pub(super) listening: ListenAddress,
    pub(super) cookie: SessionCookie,
    pub(super) hosts: Option<Hosts>,
    pub(super) identify: Option<IdentitySource>,
    pub(super) limits: Limits,
    pub(super) trusted_proxy: Option<HeaderName>,
    pub(super) bundle: Bundle,
    pub(super) problem_view: Arc<dyn ProblemView>,
    pub(super) heartbeat: Option<Duration>,
    pub(super) recheck: Duration,
    /// Whether the extensions of a response contain its outcome or problem, for tests.
    pub(super) annotates: bool,
    #[cfg(feature = "metrics")]
    pub(super) metrics: Option<OperatorAccess>,
    #[cfg(feature = "inspector")]
    pub(super) inspector: Option<MountedInspector>,
}

/// The inspector of an endpoint.
#[cfg(feature = "inspector")]
#[derive(Clone)]
pub(super) struct MountedInspector {
    pub(super) access: OperatorAccess,
    /// The inspector's own endpoint, over its own registry.
    pub(super) endpoint: super::Endpoint,
    /// Keeps the observer alive: the inspected registry holds it weakly.
    pub(super) _observer: Arc<dyn EventObserver>,
}

impl EndpointSettings {
    pub(super) fn new() -> Self {
        let listening = ListenAddress::default();
        Self {
            cookie: SessionCookie::new(Arc::clone(&listening)),
            listening,
            hosts: None,
            identify: None,
            limits: Limits::default(),
            trusted_proxy: None,
            bundle: Bundle::cdn(),
            problem_view: Arc::new(Notice),
            heartbeat: Some(Duration::from_secs(15)),
            recheck: Duration::from_secs(300),
            annotates: false,
            #[cfg(feature = "metrics")]
            metrics: None,
            #[cfg(feature = "inspector")]
            inspector: None,
        }
    }

    /// Returns the default limit of connections per address; 0 means no limit.
    #[cfg(feature = "server")]
    pub(super) fn connections_per_address(&self) -> usize {
        // Every connection comes from the trusted proxy, if there is one.
        if self.trusted_proxy.is_some() { 0 } else { self.limits.streams_per_address * 2 }
    }

    /// Refuses a request for a host that this server does not answer for.
    pub(super) fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
        // Browsers always send `Host`, so a request without it cannot be DNS rebinding.
        let Some(host) = host(headers, uri) else { return Ok(()) };
        let accepted = match (&self.hosts, self.listening.get()) {
            (Some(hosts), _) => hosts.contains(host),
            (None, Some(address)) if address.ip().is_loopback() => {
                self.trusted_proxy.is_some() || is_loopback(host)
            }
            (None, _) => true,
        };
        if accepted { Ok(()) } else { Err(Error::Host(host.to_owned())) }
    }

    /// Returns the scheme of this site's addresses, as browsers see them.
    pub(super) fn scheme(&self, headers: &HeaderMap) -> &'static str {
        let forwarded = self.trusted_proxy.as_ref().and_then(|_| headers.get(&FORWARDED_SCHEME));
        let is_https = self.cookie.is_secure() || forwarded.is_some_and(|scheme| scheme == "https");
        if is_https { "https" } else { "http" }
    }

    /// Reads the request's session cookie.
    pub(super) fn request_session(&self, parts: &Parts) -> RequestSession {
        self.cookie.read(&parts.headers, UnixSeconds::now())
    }

    /// Returns whether the guard admits the request.
    pub(super) fn admits(&self, parts: &Parts, session: RequestSession) -> bool {
        guard::admits(parts, self.has_authority(parts, session), self.scheme(&parts.headers))
    }

    /// Returns whether the request carries a cookie that may identify a user.
    pub(super) fn has_authority(&self, parts: &Parts, session: RequestSession) -> bool {
        // The identity closure may use a cookie of the application.
        let own = || self.identify.is_some() && parts.headers.contains_key(header::COOKIE);
        session != RequestSession::Missing || own()
    }

    /// Returns the address that the request counts for.
    pub(super) fn address(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<IpAddr> {
        limits::address(headers, peer, self.trusted_proxy.as_ref())
    }

    /// Returns the response to a refused request.
    pub(super) fn refuse(&self, parts: &Parts, problem: &Problem) -> Response<ReplyBody> {
        self.annotated(reply::problem(problem, self.patches(&parts.headers)), problem)
    }

    /// Returns the view that shows problems to this client, if the client understands patches.
    pub(super) fn patches(&self, headers: &HeaderMap) -> Option<&dyn ProblemView> {
        guard::is_datastar(headers).then_some(&*self.problem_view)
    }

    /// Adds `outcome` to the response's extensions if this is the endpoint of a test.
    pub(super) fn annotated<T: Clone + Send + Sync + 'static>(
        &self,
        mut response: Response<ReplyBody>,
        outcome: &T,
    ) -> Response<ReplyBody> {
        if self.annotates {
            response.extensions_mut().insert(outcome.clone());
        }
        response
    }
}
