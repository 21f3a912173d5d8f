//! What every adapter shares: `http::Request` in, `http::Response` out.
//!
//! ```text
//! request -> route -> guard -> session and identity -> event or stream -> registry -> answer
//! ```
//!
//! This module knows no web framework. An adapter passes requests to [`Endpoint::respond`], bodies on as
//! they are, gives pages their [`Page`] (by [`RequestPage`]), and on shutdown waits for [`Endpoint::drain`].

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
mod session;
mod stream_body;

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use tracing::Instrument as _;

#[cfg(any(feature = "metrics", feature = "inspector"))]
pub use self::operator_access::{AccessRequest, OperatorAccess};
pub use self::{
    bundle::{Bundle, BundleError, DATASTAR_CDN, DATASTAR_INTEGRITY, DATASTAR_SHA256},
    identity::{Identity, IntoIdentity},
    limits::Limits,
    page::Page,
    problem::{Notice, Problem, ProblemView},
    reply::ReplyBody,
    request_identity::RequestIdentity,
    request_page::RequestPage,
    session::{Secret, SecretError},
};
use self::{
    connections::Streams,
    event::Target,
    health::Figures,
    hosts::Hosts,
    identity::Identify,
    route::{Found, Routes},
    session::{Carried, Cookie, Listening, Second},
};
#[cfg(feature = "server")]
use faststate_core::{BoxError, Error, Registry, Revocation, Viewer, internal::NewSessions, registry::Part};

pub(crate) use self::{head_copy::HEAD_BYTES, limits::network};

/// Everything under `/faststate`, and the events that have paths of their own.
///
/// Cheap to clone; clones share the open streams. Its setters come first: clones made before keep the old
/// settings.
#[derive(Clone)]
pub struct Endpoint {
    registry: Arc<dyn Registry>,
    routes: Arc<Routes>,
    streams: Arc<Streams>,
    figures: Arc<Figures>,
    new_sessions: Option<Arc<NewSessions>>,
    /// Where `serve` listens.
    listening: Listening,
    settings: Arc<Settings>,
}

/// The other end of a connection, among the extensions of a request that goes to the application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

#[derive(Clone)]
struct Settings {
    cookie: Cookie,
    hosts: Option<Hosts>,
    identify: Option<Identify>,
    limits: Limits,
    trusted_proxy: Option<HeaderName>,
    bundle: Bundle,
    problem_view: Arc<dyn ProblemView>,
    heartbeat: Option<Duration>,
    recheck: Duration,
    /// Whether responses say in their extensions what they are about: for tests.
    annotates: bool,
    #[cfg(feature = "metrics")]
    metrics: Option<OperatorAccess>,
    #[cfg(feature = "inspector")]
    inspector: Option<inspector::Inspector>,
}

impl Endpoint {
    /// The endpoint of a registry, with a random secret, no identity, and the bundle from the CDN.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        let listening = Arc::new(OnceLock::new());
        let settings = Settings {
            cookie: Cookie::new(Arc::clone(&listening)),
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
        let streams = Arc::<Streams>::default();
        let revoker = Arc::downgrade(&streams);
        registry.register_revoker(revoker);
        Self {
            routes: Arc::new(Routes::new(registry.routes())),
            new_sessions: registry.new_sessions(),
            registry,
            streams,
            figures: Arc::default(),
            listening,
            settings: Arc::new(settings),
        }
    }

    /// What session cookies are signed with. Without it sessions end with the process.
    #[must_use]
    pub fn secret(self, secret: Secret) -> Self {
        self.with(|settings| settings.cookie.sign_with(secret))
    }

    /// Whether the site is served over TLS, by a proxy (off). Browsers then send the session cookie over TLS only,
    /// its name begins with `__Host-`, so that no other host of the domain can set it, and the pages of this site
    /// are those of `https`.
    #[must_use]
    pub fn secure_cookies(self, secure: bool) -> Self {
        self.with(|settings| settings.cookie.secure(secure))
    }

    /// The session cookie's name. Unless set it is `faststate_` and eight digits that follow from the secret, so that
    /// two applications on one host do not replace each other's sessions (browsers share cookies between ports);
    /// without a secret, `faststate_` and the port. It is part of the signature.
    #[must_use]
    pub fn cookie_name(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(|settings| settings.cookie.rename(name.into()))
    }

    /// How long browsers keep the session cookie (a year). It is renewed once a quarter of that has passed.
    #[must_use]
    pub fn cookie_max_age(self, age: Duration) -> Self {
        self.with(|settings| settings.cookie.max_age(age))
    }

    /// Tells user and roles from a request's head; its extensions carry the [`SessionId`](faststate_core::SessionId).
    ///
    /// Asked for each request, and again at least every 5 minutes for each open stream (law 8), with the
    /// head that opened it. Without it nobody is signed in. An error, or an answer that takes over 2 s, fails
    /// the request, or ends the stream, which then reconnects.
    #[must_use]
    pub fn identity<I, F>(self, identify: I) -> Self
    where
        I: Fn(&Parts) -> F + Send + Sync + 'static,
        F: Future<Output: IntoIdentity> + Send + 'static,
    {
        self.with(|settings| settings.identify = Some(Identify::new(identify)))
    }

    /// The hosts that this server answers for, as `Host` names them: `app.example` with any port,
    /// `app.example:8443` with this one, `.app.example` for it and every name below.
    ///
    /// A name that another site controls may be made to lead here, and its pages are then of the same origin (DNS
    /// rebinding). Events, streams and pages under any other name are answered 421. Unless set, a server that
    /// [`serve`](crate::server::FastState::serve) has listen on loopback answers for loopback names alone, and any
    /// other server for every name; so does one behind a [trusted proxy](Self::trusted_proxy_header).
    #[must_use]
    pub fn hosts(self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|settings| settings.hosts = Some(Hosts::new(hosts)))
    }

    /// What this node takes on.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|settings| settings.limits = limits)
    }

    /// The header that a proxy of ours appends client addresses to (`x-forwarded-for`), for the limit of
    /// streams per address. Set it only where every request comes through that proxy (unset).
    #[must_use]
    pub fn trusted_proxy_header(self, name: HeaderName) -> Self {
        self.with(|settings| settings.trusted_proxy = Some(name))
    }

    /// Where browsers get Datastar from (the CDN).
    #[must_use]
    pub fn datastar(self, bundle: Bundle) -> Self {
        self.with(|settings| settings.bundle = bundle)
    }

    /// Shows problems on pages ([`Notice`]).
    #[must_use]
    pub fn problem_view(self, view: impl ProblemView) -> Self {
        self.with(|settings| settings.problem_view = Arc::new(view))
    }

    /// After how much silence a stream sends a comment (15 s); zero for never.
    #[must_use]
    pub fn heartbeat(self, silence: Duration) -> Self {
        self.with(|settings| settings.heartbeat = Some(silence).filter(|silence| !silence.is_zero()))
    }

    /// How often an open stream's access is checked again, at the least (5 minutes, and never longer).
    #[must_use]
    pub fn recheck(self, every: Duration) -> Self {
        let every = every.clamp(Duration::from_millis(10), Duration::from_secs(300));
        self.with(|settings| settings.recheck = every)
    }

    /// Who may read the metrics at `/faststate/metrics` (nobody: the path does not exist).
    ///
    /// They name states, events and stores, and tell how much goes on; nothing in them is a user's or was chosen
    /// by a browser.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(self, readers: OperatorAccess) -> Self {
        self.with(|settings| settings.metrics = Some(readers))
    }

    /// Shows events, versions, differences and recipients live at `/faststate/inspector` (to nobody: the path does
    /// not exist). For development: it shows every state as it is stored, and what it shows is kept in this
    /// process's memory, the latest 200 events.
    ///
    /// Call it inside a tokio runtime; without one there is no inspector, and the log says so.
    #[cfg(feature = "inspector")]
    #[must_use]
    pub fn inspector(self, readers: OperatorAccess) -> Self {
        match inspector::Inspector::of(&self, readers) {
            Ok(inspector) => self.with(|settings| settings.inspector = Some(inspector)),
            Err(error) => {
                tracing::error!(%error, "there is no inspector");
                self
            }
        }
    }

    /// Whether [`respond`](Self::respond) has an answer for this path, whatever the method.
    #[must_use]
    pub fn handles(&self, path: &str) -> bool {
        self.routes.knows(path)
    }

    /// The paths that it [answers](Self::answers) besides `/faststate` and what is below, for routers that want
    /// patterns: `{id}` stands for one segment.
    #[must_use]
    pub fn own_paths(&self) -> Vec<Cow<'static, str>> {
        let mut paths: Vec<_> = self.registry.routes().into_iter().map(|route| route.path).collect();
        paths.retain(|path| !path.starts_with("/faststate/"));
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Answers a request.
    ///
    /// # Contract
    /// An event that was accepted runs to its end even if this future is dropped. Dropping the answer's
    /// body leaves the topics that it follows.
    pub async fn respond<B>(&self, request: Request<B>, peer: Option<SocketAddr>) -> Response<ReplyBody>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        if !guard::names_one_host(parts.version, &parts.headers) {
            return self.refuse(&parts, &Problem::host());
        }
        match self.routes.find(&parts.method, parts.uri.path()) {
            Found::Event { state, event, id } => {
                let span = tracing::debug_span!("event", state, event, id = tracing::field::Empty);
                let target = Target { state, event, id: id.as_deref() };
                if span.is_disabled() {
                    return event::answer(self, target, &parts, body, peer).await;
                }
                Box::pin(event::answer(self, target, &parts, body, peer).instrument(span)).await
            }
            // What is rarer than events is in a box: this future is no larger for it.
            Found::Stream => {
                Box::pin(open_stream::open(self, parts, peer).instrument(tracing::debug_span!("stream")))
                    .await
            }
            Found::Health => Box::pin(health::answer(self)).await,
            Found::Bundle => {
                let bundle = self.settings.bundle.respond(&parts);
                bundle.unwrap_or_else(|| self.refuse(&parts, &Problem::unknown()))
            }
            #[cfg(feature = "metrics")]
            Found::Metrics => metrics::answer(self, &parts, peer).await,
            #[cfg(feature = "inspector")]
            Found::Inspector => inspector::answer(self, parts, body, peer).await,
            Found::Nothing => {
                if let Some((state, has_id, event)) = route::event_named_by(parts.uri.path()) {
                    self.registry.report_mistake(state, has_id, Part::Event(event));
                }
                self.refuse(&parts, &Problem::unknown())
            }
            Found::BadId => {
                let detail = "the id in the path is not percent-encoded UTF-8";
                self.refuse(
                    &parts,
                    &Problem::new(StatusCode::BAD_REQUEST, "bad_request", "Bad request", detail),
                )
            }
            Found::Method(allowed) => {
                let detail = format!("this path takes {allowed}");
                let problem =
                    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Method not allowed", detail);
                let mut response = self.refuse(&parts, &problem);
                if let Ok(allowed) = HeaderValue::try_from(allowed) {
                    response.headers_mut().insert(header::ALLOW, allowed);
                }
                response
            }
        }
    }

    /// Who a request comes from, for application code outside pages. [Mark](RequestIdentity::mark) the answer.
    ///
    /// # Errors
    /// The identity closure's, or [`Error::TimedOut`] when it takes over 2 s; [`Error::Host`] for a host that is not
    /// among [`hosts`](Self::hosts); [`Error::Busy`] for more new sessions than one address may begin at a time.
    pub async fn visitor(&self, parts: &Parts) -> Result<RequestIdentity, Error> {
        self.check_host(&parts.headers, &parts.uri)?;
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        RequestIdentity::of(self, parts, self.carried(parts), self.address(&parts.headers, peer)).await
    }

    /// The page that answers this request. [Mark](Page::mark) the answer.
    ///
    /// # Errors
    /// As [`visitor`](Self::visitor).
    pub async fn page(&self, parts: &Parts) -> Result<Page, Error> {
        let visitor = self.visitor(parts).await?;
        Ok(Page::new(self.clone(), visitor, self.admits(parts, self.carried(parts))))
    }

    /// The registry.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// How many streams are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.streams.len()
    }

    /// Ends at once the streams of every viewer that `ends` picks, on this node; says how many.
    ///
    /// Browsers come back at once, follow what they may, and are told what they may not. For sign-in, logout and
    /// revocation see [`revoke`](Self::revoke), which reaches every node.
    pub fn close_streams(&self, ends: impl Fn(&Viewer) -> bool) -> usize {
        self.streams.close(ends)
    }

    /// Ends the streams of a session or a user at once, on every node: for logout and revocation (law 8).
    ///
    /// Make the identity closure or the access policy refuse first, then revoke. Browsers reconnect, follow
    /// what they still may, and are told what they may not.
    ///
    /// # Errors
    /// As [`Registry::revoke`]: this node's streams are closed in any case.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.registry.revoke(revocation).await
    }

    /// Ends every stream at a random moment of `window`, and refuses new ones; returns when all have
    /// ended, or with the window (law 15). Stop accepting connections first.
    pub async fn drain(&self, window: Duration) {
        self.streams.drain(window).await;
    }

    fn refuse(&self, parts: &Parts, problem: &Problem) -> Response<ReplyBody> {
        self.annotated(reply::problem(problem, self.patches(&parts.headers)), problem)
    }

    /// How problems are shown to this client, if it understands patches.
    fn patches(&self, headers: &HeaderMap) -> Option<&dyn ProblemView> {
        guard::is_datastar(headers).then_some(&*self.settings.problem_view)
    }

    /// The request's session cookie.
    fn carried(&self, parts: &Parts) -> Carried {
        self.settings.cookie.read(&parts.headers, Second::now())
    }

    fn admits(&self, parts: &Parts, carried: Carried) -> bool {
        guard::admits(parts, self.has_authority(parts, carried), self.scheme(&parts.headers))
    }

    /// Whether the request carries a cookie that may stand for a person.
    fn has_authority(&self, parts: &Parts, carried: Carried) -> bool {
        // The application may tell a user by a cookie of its own.
        let own = || self.settings.identify.is_some() && parts.headers.contains_key(header::COOKIE);
        carried != Carried::Nothing || own()
    }

    fn address(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<IpAddr> {
        limits::address(headers, peer, self.settings.trusted_proxy.as_ref())
    }

    /// The endpoint of a test: an [`Identity`] among a request's extensions replaces the identity closure's, and the
    /// extensions of a response contain what the response is about.
    #[doc(hidden)]
    #[must_use]
    pub fn in_process(self) -> Self {
        let own = self.settings.identify.clone();
        let endpoint = self.identity(move |parts| {
            let own = own.as_ref().map(|own| own.ask(parts));
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
                inspector.annotate();
            }
        })
    }

    /// The response, with what it is about among its extensions if this is the endpoint of a test.
    fn annotated<T: Clone + Send + Sync + 'static>(
        &self,
        mut response: Response<ReplyBody>,
        what: &T,
    ) -> Response<ReplyBody> {
        if self.settings.annotates {
            response.extensions_mut().insert(what.clone());
        }
        response
    }

    /// The connections of one address, unless the server's setting says otherwise; 0 for no limit.
    #[cfg(feature = "server")]
    pub(crate) fn connections_per_address(&self) -> usize {
        // Where a proxy is trusted, every connection comes from it.
        if self.settings.trusted_proxy.is_some() { 0 } else { self.settings.limits.streams_per_address * 2 }
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.settings));
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("connections", &self.connections()).finish_non_exhaustive()
    }
}
