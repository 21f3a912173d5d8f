//! The server's settings.

use std::{borrow::Cow, fmt, future::Future, marker::PhantomData, sync::Arc, time::Duration};

use faststate_core::Registry;
use http::{HeaderName, request::Parts};

use super::Framework;
use crate::endpoint::{Bundle, Endpoint, IntoIdentity, Limits, ProblemView, Secret};

/// FastState on a web framework: settings, then [`serve`](Self::serve), or [`router`](Self::router) and
/// [`pages`](Self::pages) for a server of one's own.
///
/// Cheap to clone; clones share the open streams.
pub struct FastState<F> {
    pub(super) endpoint: Endpoint,
    pub(super) drain_window: Duration,
    pub(super) max_connections: usize,
    pub(super) connections_per_address: Option<usize>,
    pub(super) idle_timeout: Duration,
    framework: PhantomData<fn() -> F>,
}

impl<F: Framework> FastState<F> {
    /// FastState over a registry, as its builder gives it. For an `Arc<dyn Registry>` see
    /// [`over`](Self::over).
    #[must_use]
    pub fn new(registry: Arc<impl Registry>) -> Self {
        Self::from_endpoint(Endpoint::new(registry))
    }

    /// FastState over an endpoint that has been set up already.
    #[must_use]
    pub const fn from_endpoint(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            drain_window: Duration::from_secs(5),
            max_connections: 50_000,
            connections_per_address: None,
            idle_timeout: Duration::from_secs(75),
            framework: PhantomData,
        }
    }

    /// The endpoint with all settings made so far.
    #[must_use]
    pub fn into_endpoint(self) -> Endpoint {
        self.endpoint
    }

    /// What session cookies are signed with. Without it sessions end with the process.
    #[must_use]
    pub fn secret(self, secret: Secret) -> Self {
        self.with(|endpoint| endpoint.secret(secret))
    }

    /// Whether the site is served over TLS, by a proxy (off): see [`Endpoint::secure_cookies`].
    #[must_use]
    pub fn secure_cookies(self, secure: bool) -> Self {
        self.with(|endpoint| endpoint.secure_cookies(secure))
    }

    /// The session cookie's name (`faststate_..`, from the secret): see [`Endpoint::cookie_name`].
    #[must_use]
    pub fn cookie_name(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(|endpoint| endpoint.cookie_name(name))
    }

    /// How long browsers keep the session cookie (a year).
    #[must_use]
    pub fn cookie_max_age(self, age: Duration) -> Self {
        self.with(|endpoint| endpoint.cookie_max_age(age))
    }

    /// Tells user and roles from a request's head: see [`Endpoint::identity`].
    #[must_use]
    pub fn identity<I, A>(self, identify: I) -> Self
    where
        I: Fn(&Parts) -> A + Send + Sync + 'static,
        A: Future<Output: IntoIdentity> + Send + 'static,
    {
        self.with(|endpoint| endpoint.identity(identify))
    }

    /// The hosts that this server answers for (on loopback the loopback names): see [`Endpoint::hosts`].
    #[must_use]
    pub fn hosts(self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|endpoint| endpoint.hosts(hosts))
    }

    /// What this node takes on.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|endpoint| endpoint.limits(limits))
    }

    /// The header that our own proxy appends client addresses to (unset): see
    /// [`Endpoint::trusted_proxy_header`].
    #[must_use]
    pub fn trusted_proxy_header(self, name: HeaderName) -> Self {
        self.with(|endpoint| endpoint.trusted_proxy_header(name))
    }

    /// Where browsers get Datastar from (the CDN).
    #[must_use]
    pub fn datastar(self, bundle: Bundle) -> Self {
        self.with(|endpoint| endpoint.datastar(bundle))
    }

    /// Shows problems on pages.
    #[must_use]
    pub fn problem_view(self, view: impl ProblemView) -> Self {
        self.with(|endpoint| endpoint.problem_view(view))
    }

    /// After how much silence a stream sends a comment (15 s); zero for never.
    #[must_use]
    pub fn heartbeat(self, silence: Duration) -> Self {
        self.with(|endpoint| endpoint.heartbeat(silence))
    }

    /// How often an open stream's access is checked again, at the least (5 minutes, and never longer).
    #[must_use]
    pub fn recheck(self, every: Duration) -> Self {
        self.with(|endpoint| endpoint.recheck(every))
    }

    /// Who may read the metrics at `/faststate/metrics` (nobody): see [`Endpoint::metrics`].
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(self, readers: crate::endpoint::OperatorAccess) -> Self {
        self.with(|endpoint| endpoint.metrics(readers))
    }

    /// Who may look at the inspector at `/faststate/inspector` (nobody): see [`Endpoint::inspector`].
    #[cfg(feature = "inspector")]
    #[must_use]
    pub fn inspector(self, readers: crate::endpoint::OperatorAccess) -> Self {
        self.with(|endpoint| endpoint.inspector(readers))
    }

    /// Over how long the streams end on shutdown, each at a random moment (5 s; at most 12 s).
    #[must_use]
    pub fn drain_window(mut self, window: Duration) -> Self {
        self.drain_window = window.min(Duration::from_secs(12));
        self
    }

    /// The connections that [`serve`](Self::serve) holds (50,000; 0 for no limit); more are answered 503.
    ///
    /// Each is an open file: of those that the process may open (`ulimit -n`), an eighth is left for the rest.
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// The connections that [`serve`](Self::serve) holds of one address (0 for no limit); more are answered 429.
    ///
    /// IPv6 addresses count by their /64 network, and one address gets at most half of
    /// [`max_connections`](Self::max_connections). Unless set, it is twice
    /// [`Limits::streams_per_address`], so 2,000, and there is no limit where that is 0 or where a
    /// [`trusted_proxy_header`](Self::trusted_proxy_header) says that all connections come from a proxy.
    #[must_use]
    pub const fn connections_per_address(mut self, connections: usize) -> Self {
        self.connections_per_address = Some(connections);
        self
    }

    /// The time that [`serve`](Self::serve) waits for a request on an open connection (75 s).
    ///
    /// It begins with the connection and after each response, and ends with the request's head. Behind a proxy or a
    /// load balancer, set it longer than the proxy keeps an idle connection: whichever side closes first may do so
    /// while a request is on its way.
    #[must_use]
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// The endpoint: to close streams, to drain, to count connections.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The routes: everything under `/faststate`, and the events that have paths of their own. They belong at
    /// the root of a server of one's own; [`serve`](Self::serve) has them.
    #[must_use]
    pub fn router(&self) -> F::Router {
        F::router(self.endpoint.clone())
    }

    /// Lets the handlers below it take pages as arguments; [`serve`](Self::serve) has all handlers below it.
    #[must_use]
    pub fn pages(&self) -> F::Pages {
        F::pages(self.endpoint.clone())
    }

    fn with(mut self, set: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        self.endpoint = set(self.endpoint);
        self
    }
}

impl<F> Clone for FastState<F> {
    fn clone(&self) -> Self {
        Self { endpoint: self.endpoint.clone(), ..*self }
    }
}

impl<F> fmt::Debug for FastState<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastState").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
