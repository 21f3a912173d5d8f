//! The framework-independent HTTP endpoint that the adapters share: `http::Request` in, `http::Response` out.
//!
//! ```text
//! request -> route -> guard -> session and identity -> event or stream -> registry -> response
//! ```
//!
//! An adapter passes requests to [`Endpoint::respond`] and sends response bodies unchanged. It gives handlers their
//! [`Page`] (through [`RequestPage`]). On shutdown it awaits [`Endpoint::drain`].

mod bundle;
mod connections;
mod error_page;
mod event;
mod field_errors;
mod guard;
mod head_copy;
mod health;
mod hosts;
mod identity;
#[cfg(feature = "inspector")]
mod inspector;
mod limits;
mod log_limit;
#[cfg(feature = "metrics")]
mod metrics;
mod nest;
mod open_stream;
#[cfg(any(feature = "metrics", feature = "inspector"))]
mod operator_access;
mod page;
mod problem;
mod reply;
mod request_identity;
mod request_page;
mod route;
mod secret;
mod session;
mod set_cookie;
mod settings;
mod stream_body;

use std::{borrow::Cow, fmt, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use faststate_core::{
    BoxError, Error, Registry, Revocation, Viewer,
    internal::{NewSessions, Part},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request::Parts,
};
use http_body::Body;
use tracing::Instrument as _;

#[cfg(any(feature = "metrics", feature = "inspector"))]
pub use self::operator_access::{AccessRequest, OperatorAccess};
pub use self::{
    bundle::{Bundle, BundleError},
    error_page::error_page,
    identity::{Identity, IntoIdentity},
    limits::Limits,
    page::Page,
    problem::{Notice, Problem, ProblemView},
    reply::ReplyBody,
    request_identity::RequestIdentity,
    request_page::RequestPage,
    secret::{Secret, SecretError},
};
use self::{
    connections::Connections,
    event::EventTarget,
    health::CachedHealth,
    hosts::Hosts,
    identity::IdentitySource,
    route::{RouteMatch, RouteTable},
    settings::EndpointSettings,
};
#[cfg(feature = "server")]
pub(crate) use self::{head_copy::MAX_HEAD_BYTES, limits::network};

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
    settings: Arc<EndpointSettings>,
}

/// The address of the other end of a connection, as an extension of requests to the application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

impl Endpoint {
    /// Creates an endpoint with a random secret, no identity closure, and the bundle from the CDN.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        let streams = Arc::<Connections>::default();
        let revoker = Arc::downgrade(&streams);
        registry.engine().register_revoker(revoker);
        Self {
            routes: Arc::new(RouteTable::new(registry.engine().routes())),
            new_sessions: registry.engine().new_sessions(),
            registry,
            streams,
            health: Arc::default(),
            settings: Arc::new(EndpointSettings::new()),
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

    /// Serves a page at `/faststate/inspector` that shows events, versions, differences and recipients live to the
    /// developers that `access` admits (default: the path does not exist).
    ///
    /// Use it for development: it shows every state as it is stored. The latest 200 events are kept in this process's
    /// memory.
    ///
    /// Call it inside a tokio runtime. Without one, the inspector is off and the log contains an error.
    #[cfg(feature = "inspector")]
    #[must_use]
    pub fn inspector(self, access: OperatorAccess) -> Self {
        match inspector::mount(&self, access) {
            Ok(inspector) => self.with(|settings| settings.inspector = Some(inspector)),
            Err(error) => {
                tracing::error!(%error, "the inspector is off");
                self
            }
        }
    }

    /// Answers a request.
    ///
    /// # Contract
    /// An accepted event completes even if this future is dropped. Dropping the response's body leaves the topics that
    /// it follows.
    pub async fn respond<B>(&self, request: Request<B>, peer: Option<SocketAddr>) -> Response<ReplyBody>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        if !guard::names_one_host(parts.version, &parts.headers) {
            return self.settings.refuse(&parts, &Problem::host());
        }
        match self.routes.find(&parts.method, parts.uri.path()) {
            RouteMatch::Event { state, event, id } => {
                let span = tracing::debug_span!("event", state, event, id = tracing::field::Empty);
                let target = EventTarget { state, event, id: id.as_deref() };
                if span.is_disabled() {
                    return event::answer(self, target, &parts, body, peer).await;
                }
                Box::pin(event::answer(self, target, &parts, body, peer).instrument(span)).await
            }
            // Requests other than events are rare. Boxing them keeps this future small for events.
            RouteMatch::Stream => {
                Box::pin(open_stream::open(self, parts, peer).instrument(tracing::debug_span!("stream")))
                    .await
            }
            RouteMatch::Health => {
                Box::pin(health::answer(&self.health, &*self.registry, &self.streams)).await
            }
            RouteMatch::Bundle => {
                let bundle = self.settings.bundle.respond(&parts);
                bundle.unwrap_or_else(|| self.settings.refuse(&parts, &Problem::unknown()))
            }
            #[cfg(feature = "metrics")]
            RouteMatch::Metrics => metrics::answer(self, &parts, peer).await,
            #[cfg(feature = "inspector")]
            RouteMatch::Inspector => inspector::answer(self, parts, body, peer).await,
            RouteMatch::NotFound => {
                if let Some((state, has_id, event)) = route::parse_default_path(parts.uri.path()) {
                    self.registry.engine().report_mistake(state, has_id, Part::Event(event));
                }
                self.settings.refuse(&parts, &Problem::unknown())
            }
            RouteMatch::InvalidId => {
                let detail = "the id in the path is not percent-encoded UTF-8";
                self.settings.refuse(
                    &parts,
                    &Problem::new(StatusCode::BAD_REQUEST, "bad_request", "Bad request", detail),
                )
            }
            RouteMatch::MethodNotAllowed(allowed) => {
                let detail = format!("this path takes {allowed}");
                let problem =
                    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Method not allowed", detail);
                let mut response = self.settings.refuse(&parts, &problem);
                if let Ok(allowed) = HeaderValue::try_from(allowed) {
                    response.headers_mut().insert(header::ALLOW, allowed);
                }
                response
            }
        }
    }

    /// Identifies the viewer of a request, for application code outside pages.
    ///
    /// [Mark](RequestIdentity::mark) the response.
    ///
    /// # Errors
    /// The error of the identity closure, or [`Error::TimedOut`] if it takes over 2 s; [`Error::Host`] for a host that
    /// is not among [`hosts`](Self::hosts); [`Error::Busy`] if the address has too many new sessions.
    pub async fn visitor(&self, parts: &Parts) -> Result<RequestIdentity, Error> {
        self.settings.check_host(&parts.headers, &parts.uri)?;
        let peer = parts.extensions.get::<PeerAddress>().map(|peer| peer.0);
        let address = self.settings.address(&parts.headers, peer);
        RequestIdentity::of(self, parts, self.settings.request_session(parts), address).await
    }

    /// Creates the page that answers this request. [Mark](Page::mark) the response.
    ///
    /// # Errors
    /// As [`visitor`](Self::visitor).
    pub async fn page(&self, parts: &Parts) -> Result<Page, Error> {
        let visitor = self.visitor(parts).await?;
        Ok(Page::new(
            self.clone(),
            visitor,
            self.settings.admits(parts, self.settings.request_session(parts)),
        ))
    }

    /// Returns the response to a request that no page may answer: an HTTP/1.1 request that does not name its host
    /// exactly once, or one for a host that is not among [`hosts`](Self::hosts).
    ///
    /// [`respond`](Self::respond) and the server of the feature `server` refuse such requests themselves. An adapter
    /// calls this before any other handler answers.
    #[must_use]
    pub fn refusal(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Option<Response<ReplyBody>> {
        if !guard::names_one_host(version, headers) {
            return Some(error_page(&Problem::host()));
        }
        let refused = self.settings.check_host(headers, uri).err()?;
        Some(error_page(&Problem::of(&refused)))
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
        let _ = self.settings.listening.set(address);
        #[cfg(feature = "metrics")]
        if let Some(access) = &self.settings.metrics {
            access.announce(Some(address), route::METRICS);
        }
        #[cfg(feature = "inspector")]
        if let Some(inspector) = &self.settings.inspector {
            inspector.access.announce(Some(address), route::INSPECTOR);
        }
    }

    /// Returns the default limit of connections per address; 0 means no limit.
    #[cfg(feature = "server")]
    pub(crate) fn connections_per_address(&self) -> usize {
        self.settings.connections_per_address()
    }

    /// Identifies the viewer of a request for a page of operators, which starts no session.
    #[cfg(any(feature = "metrics", feature = "inspector"))]
    async fn viewer(&self, parts: &Parts) -> Result<Viewer, Error> {
        self.settings.check_host(&parts.headers, &parts.uri)?;
        request_identity::viewer_without_session(&self.settings, parts).await
    }

    fn settings(&self) -> &EndpointSettings {
        &self.settings
    }

    fn streams(&self) -> &Arc<Connections> {
        &self.streams
    }

    const fn new_sessions(&self) -> &Arc<NewSessions> {
        &self.new_sessions
    }

    fn with(mut self, set: impl FnOnce(&mut EndpointSettings)) -> Self {
        set(Arc::make_mut(&mut self.settings));
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("connections", &self.connections()).finish_non_exhaustive()
    }
}
