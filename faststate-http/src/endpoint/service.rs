//! The [`Endpoint`]: its settings, and the state that all requests share.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

#[cfg(feature = "inspector")]
use faststate_core::internal::EventObserver;
use faststate_core::{Error, Registry, Revocation, Viewer, internal::NewSessions};
use http::{HeaderMap, HeaderName, Response, Uri, header, request::Parts};

#[cfg(any(feature = "metrics", feature = "inspector"))]
use super::operator_access::OperatorAccess;
use super::{
    bundle::Bundle,
    connections::Connections,
    guard,
    health::CachedHealth,
    hosts::{Hosts, host, is_loopback},
    identity::{Identity, IdentitySource, IntoIdentity},
    limits::{self, Limits},
    problem::{Notice, Problem, ProblemView},
    reply::{self, ReplyBody},
    route::RouteTable,
    secret::Secret,
    session::{ListenAddress, RequestSession, SessionCookie, UnixSeconds},
};

static FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Answers everything under `/faststate`, and events with their own paths.
///
/// A clone is cheap and shares the open streams. Make the settings before you clone: existing clones keep the old
/// settings.
#[derive(Clone)]
pub struct Endpoint {
    registry: Arc<dyn Registry>,
    routes: Arc<RouteTable>,
    streams: Arc<Connections>,
    health: Arc<CachedHealth>,
    new_sessions: Arc<NewSessions>,
    listening: ListenAddress,
    settings: Arc<EndpointSettings>,
}

/// The address of the other end of a connection, as an extension of requests to the application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

#[derive(Clone)]
pub(super) struct EndpointSettings {
    pub(super) cookie: SessionCookie,
    hosts: Option<Hosts>,
    pub(super) identify: Option<IdentitySource>,
    pub(super) limits: Limits,
    trusted_proxy: Option<HeaderName>,
    pub(super) bundle: Bundle,
    pub(super) problem_view: Arc<dyn ProblemView>,
    pub(super) heartbeat: Option<Duration>,
    pub(super) recheck: Duration,
    /// Whether the extensions of a response contain its outcome or problem, for tests.
    annotates: bool,
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
    pub(super) endpoint: Endpoint,
    /// Keeps the observer alive: the inspected registry holds it weakly.
    pub(super) _observer: Arc<dyn EventObserver>,
}

impl Endpoint {
    /// Creates an endpoint with a random secret, no identity closure, and the bundle from the CDN.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        let listening = Arc::new(OnceLock::new());
        let settings = EndpointSettings {
            cookie: SessionCookie::new(Arc::clone(&listening)),
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
        };
        let streams = Arc::<Connections>::default();
        let revoker = Arc::downgrade(&streams);
        registry.engine().register_revoker(revoker);
        Self {
            routes: Arc::new(RouteTable::new(registry.engine().routes())),
            new_sessions: registry.engine().new_sessions(),
            registry,
            streams,
            health: Arc::default(),
            listening,
            settings: Arc::new(settings),
        }
    }

    /// Sets the secret that signs session cookies. Without it, sessions end with the process.
    #[must_use]
    pub fn secret(self, secret: Secret) -> Self {
        self.with(|settings| settings.cookie.sign_with(secret))
    }

    /// Declares that a proxy serves the site over TLS (default: off).
    ///
    /// Browsers then send the session cookie over TLS only. Its name begins with `__Host-`, so that no other host of
    /// the domain can set it. The guard expects this site's pages under `https`.
    #[must_use]
    pub fn secure_cookies(self, secure: bool) -> Self {
        self.with(|settings| settings.cookie.secure(secure))
    }

    /// Sets the session cookie's name.
    ///
    /// The default is `faststate_` and eight digits derived from the secret, so that two applications on one host do not
    /// replace each other's sessions (browsers share cookies between ports). Without a secret, the default is
    /// `faststate_` and the port. The name is part of the signature.
    #[must_use]
    pub fn cookie_name(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(|settings| settings.cookie.rename(name.into()))
    }

    /// Sets how long browsers keep the session cookie (default: one year). It is renewed after a quarter of that time.
    #[must_use]
    pub fn cookie_max_age(self, age: Duration) -> Self {
        self.with(|settings| settings.cookie.max_age(age))
    }

    /// Sets the closure that identifies user and roles from a request's head. The head's extensions contain the
    /// [`SessionId`](faststate_core::SessionId).
    ///
    /// The endpoint calls it for each request. For each open stream, it calls it again at least every 5 minutes with
    /// the head that opened the stream (law 8). Without a closure, no viewer is signed in. If the closure fails or takes
    /// over 2 s, the request fails, or the stream ends and the browser reconnects.
    #[must_use]
    pub fn identity<I, F>(self, identify: I) -> Self
    where
        I: Fn(&Parts) -> F + Send + Sync + 'static,
        F: Future<Output: IntoIdentity> + Send + 'static,
    {
        self.with(|settings| settings.identify = Some(IdentitySource::new(identify)))
    }

    /// Sets the hosts that this server answers for, as `Host` spells them: `app.example` matches every port,
    /// `app.example:8443` only that port, and `.app.example` the name itself and every name below it.
    ///
    /// Another site can make a name that it controls resolve to this server (DNS rebinding); browsers then treat the
    /// pages of that site as same-origin. Events, streams and pages under any other name are answered 421. By default, a
    /// server that [`serve`](crate::server::FastState::serve) binds to a loopback address answers only for loopback
    /// names. Any other server answers for every name, and so does one behind a
    /// [trusted proxy](Self::trusted_proxy_header).
    #[must_use]
    pub fn hosts(self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|settings| settings.hosts = Some(Hosts::new(hosts)))
    }

    /// Sets the limits of this node.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|settings| settings.limits = limits)
    }

    /// Sets the header to which a trusted proxy appends client addresses, such as `x-forwarded-for` (default: none).
    ///
    /// The limits per address use it. Set it only if every request comes through that proxy.
    #[must_use]
    pub fn trusted_proxy_header(self, name: HeaderName) -> Self {
        self.with(|settings| settings.trusted_proxy = Some(name))
    }

    /// Sets the source from which browsers load Datastar (default: the CDN).
    #[must_use]
    pub fn datastar(self, bundle: Bundle) -> Self {
        self.with(|settings| settings.bundle = bundle)
    }

    /// Sets how pages show problems (default: [`Notice`]).
    #[must_use]
    pub fn problem_view(self, view: impl ProblemView) -> Self {
        self.with(|settings| settings.problem_view = Arc::new(view))
    }

    /// Sets the silence after which a stream sends a comment (default: 15 s; zero: never).
    #[must_use]
    #[doc(hidden)]
    pub fn heartbeat(self, silence: Duration) -> Self {
        self.with(|settings| settings.heartbeat = Some(silence).filter(|silence| !silence.is_zero()))
    }

    /// Sets the longest time between two access checks of an open stream (default and maximum: 5 minutes).
    #[must_use]
    #[doc(hidden)]
    pub fn recheck(self, every: Duration) -> Self {
        let every = every.clamp(Duration::from_millis(10), Duration::from_secs(300));
        self.with(|settings| settings.recheck = every)
    }

    /// Serves metrics at `/faststate/metrics` to the operators that `access` admits (default: the path does not exist).
    ///
    /// The metrics contain the names of states, events and stores, and the load. They contain no user data and no text
    /// that a browser chose.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(self, access: OperatorAccess) -> Self {
        self.with(|settings| settings.metrics = Some(access))
    }

    /// Returns whether [`respond`](Self::respond) handles this path, for any method.
    #[must_use]
    pub fn handles(&self, path: &str) -> bool {
        self.routes.contains(path)
    }

    /// Returns the paths outside `/faststate` that the endpoint [handles](Self::handles), for routers that need
    /// patterns. `{id}` stands for one segment.
    #[must_use]
    #[doc(hidden)]
    pub fn own_paths(&self) -> Vec<Cow<'static, str>> {
        let mut paths: Vec<_> = self.registry.engine().routes().into_iter().map(|route| route.path).collect();
        paths.retain(|path| !path.starts_with("/faststate/"));
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Returns the registry.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// Returns the number of open streams.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.streams.len()
    }

    /// Ends the streams of every viewer that `ends` selects, at once and on this node; returns their number.
    ///
    /// Browsers reconnect at once, follow the topics that they may still see, and show a notice for the others. For
    /// sign-in, logout and revocation use [`revoke`](Self::revoke), which reaches every node.
    pub fn close_streams(&self, ends: impl Fn(&Viewer) -> bool) -> usize {
        self.streams.close(ends)
    }

    /// Ends the streams of a session or a user at once, on every node: for logout and revocation (law 8).
    ///
    /// First make the identity closure or the access policy refuse, then call this. Browsers reconnect, follow the
    /// topics that they may still see, and show a notice for the others.
    ///
    /// # Errors
    /// As [`Registry::revoke`]. This node's streams are closed even then.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.registry.revoke(revocation).await
    }

    /// Ends every stream at a random moment of `window` and refuses new ones (law 15).
    ///
    /// Returns when all streams have ended, or after the window. Stop accepting connections before.
    pub async fn drain(&self, window: Duration) {
        self.streams.drain(window).await;
    }

    /// Configures the endpoint of an in-process test: an [`Identity`] in a request's extensions replaces the result of
    /// the identity closure, and a response's extensions contain its outcome or problem.
    #[doc(hidden)]
    #[must_use]
    pub fn in_process(self) -> Self {
        let own = self.settings.identify.clone();
        let endpoint = self.identity(move |parts| {
            let own = own.as_ref().map(|own| own.identify(parts));
            let given = parts.extensions.get::<Identity>().cloned();
            async move {
                match (given, own) {
                    (Some(given), _) => Ok(given),
                    (None, Some(own)) => own.await,
                    (None, None) => Ok(Identity::nobody()),
                }
            }
        });
        endpoint.with(|settings| {
            settings.annotates = true;
            #[cfg(feature = "inspector")]
            if let Some(inspector) = &mut settings.inspector {
                inspector.endpoint = inspector.endpoint.clone().with(|settings| settings.annotates = true);
            }
        })
    }

    /// Records the address that the server listens on. Call it before serving.
    #[cfg(feature = "server")]
    pub(crate) fn listens_on(&self, address: SocketAddr) {
        let _ = self.listening.set(address);
        #[cfg(feature = "metrics")]
        if let Some(access) = &self.settings.metrics {
            access.announce(Some(address), super::route::METRICS);
        }
        #[cfg(feature = "inspector")]
        if let Some(inspector) = &self.settings.inspector {
            inspector.access.announce(Some(address), super::route::INSPECTOR);
        }
    }

    /// Returns the default limit of connections per address; 0 means no limit.
    #[cfg(feature = "server")]
    pub(crate) fn connections_per_address(&self) -> usize {
        // Every connection comes from the trusted proxy, if there is one.
        if self.settings.trusted_proxy.is_some() { 0 } else { self.settings.limits.streams_per_address * 2 }
    }

    /// Refuses a request for a host that this server does not answer for.
    pub(super) fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
        // Browsers always send `Host`, so a request without it cannot be DNS rebinding.
        let Some(host) = host(headers, uri) else { return Ok(()) };
        let accepted = match (&self.settings.hosts, self.listening.get()) {
            (Some(hosts), _) => hosts.contains(host),
            (None, Some(address)) if address.ip().is_loopback() => {
                self.settings.trusted_proxy.is_some() || is_loopback(host)
            }
            (None, _) => true,
        };
        if accepted { Ok(()) } else { Err(Error::Host(host.to_owned())) }
    }

    /// Returns the scheme of this site's addresses, as browsers see them.
    pub(super) fn scheme(&self, headers: &HeaderMap) -> &'static str {
        let forwarded = self.settings.trusted_proxy.as_ref().and_then(|_| headers.get(&FORWARDED_SCHEME));
        let is_https = self.settings.cookie.is_secure() || forwarded.is_some_and(|scheme| scheme == "https");
        if is_https { "https" } else { "http" }
    }

    /// Reads the request's session cookie.
    pub(super) fn request_session(&self, parts: &Parts) -> RequestSession {
        self.settings.cookie.read(&parts.headers, UnixSeconds::now())
    }

    /// Returns whether the guard admits the request.
    pub(super) fn admits(&self, parts: &Parts, session: RequestSession) -> bool {
        guard::admits(parts, self.has_authority(parts, session), self.scheme(&parts.headers))
    }

    /// Returns whether the request carries a cookie that may identify a user.
    pub(super) fn has_authority(&self, parts: &Parts, session: RequestSession) -> bool {
        // The identity closure may use a cookie of the application.
        let own = || self.settings.identify.is_some() && parts.headers.contains_key(header::COOKIE);
        session != RequestSession::Missing || own()
    }

    /// Returns the address that the request counts for.
    pub(super) fn address(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<IpAddr> {
        limits::address(headers, peer, self.settings.trusted_proxy.as_ref())
    }

    /// Returns the response to a refused request.
    pub(super) fn refuse(&self, parts: &Parts, problem: &Problem) -> Response<ReplyBody> {
        self.annotated(reply::problem(problem, self.patches(&parts.headers)), problem)
    }

    /// Returns the view that shows problems to this client, if the client understands patches.
    pub(super) fn patches(&self, headers: &HeaderMap) -> Option<&dyn ProblemView> {
        guard::is_datastar(headers).then_some(&*self.settings.problem_view)
    }

    /// Adds `outcome` to the response's extensions if this is the endpoint of a test.
    pub(super) fn annotated<T: Clone + Send + Sync + 'static>(
        &self,
        mut response: Response<ReplyBody>,
        outcome: &T,
    ) -> Response<ReplyBody> {
        if self.settings.annotates {
            response.extensions_mut().insert(outcome.clone());
        }
        response
    }

    pub(super) fn routes(&self) -> &RouteTable {
        &self.routes
    }

    pub(super) fn settings(&self) -> &EndpointSettings {
        &self.settings
    }

    pub(super) fn streams(&self) -> &Arc<Connections> {
        &self.streams
    }

    pub(super) fn cached_health(&self) -> &CachedHealth {
        &self.health
    }

    pub(super) const fn new_sessions(&self) -> &Arc<NewSessions> {
        &self.new_sessions
    }

    pub(super) fn with(mut self, set: impl FnOnce(&mut EndpointSettings)) -> Self {
        set(Arc::make_mut(&mut self.settings));
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("connections", &self.connections()).finish_non_exhaustive()
    }
}
