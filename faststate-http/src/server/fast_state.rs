//! The server: its settings, and its start.

use std::{fmt, future::Future, io, marker::PhantomData, net, sync::Arc, time::Duration};

use faststate_core::Registry;
use http::{HeaderName, request::Parts};
use tokio::net::{TcpListener, ToSocketAddrs};

use super::{
    Framework,
    connection::HttpServer,
    connection_limits::ConnectionLimits,
    run::{ProcessSignals, StopFuture, StopSource, run},
};
use crate::endpoint::{Bundle, Endpoint, IntoIdentity, Limits, ProblemView, Secret};

/// FastState on a web framework.
///
/// Make the settings, then call [`serve`](Self::serve), or mount [`router`](Self::router) and [`pages`](Self::pages) in
/// an existing server. Rare settings (the cookie's name and lifetime, the intervals of heartbeats and access checks) are
/// methods of [`Endpoint`]: make them there and call [`from_endpoint`](Self::from_endpoint). A clone is cheap and shares
/// the open streams.
pub struct FastState<F> {
    endpoint: Endpoint,
    drain_window: Duration,
    max_connections: usize,
    connections_per_address: Option<usize>,
    idle_timeout: Duration,
    framework: PhantomData<fn() -> F>,
}

impl<F: Framework> FastState<F> {
    /// Creates FastState over a registry. For an `Arc<dyn Registry>`, use [`from_endpoint`](Self::from_endpoint).
    #[must_use]
    pub fn new(registry: Arc<impl Registry>) -> Self {
        Self::from_endpoint(Endpoint::new(registry))
    }

    /// Creates FastState over an existing endpoint.
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

    /// Sets the secret that signs session cookies. Without it, sessions end with the process.
    #[must_use]
    pub fn secret(self, secret: Secret) -> Self {
        self.with(|endpoint| endpoint.secret(secret))
    }

    /// Declares that a proxy serves the site over TLS (default: off): see [`Endpoint::secure_cookies`].
    #[must_use]
    pub fn secure_cookies(self, secure: bool) -> Self {
        self.with(|endpoint| endpoint.secure_cookies(secure))
    }

    /// Sets the closure that identifies user and roles from a request's head: see [`Endpoint::identity`].
    #[must_use]
    pub fn identity<I, A>(self, identify: I) -> Self
    where
        I: Fn(&Parts) -> A + Send + Sync + 'static,
        A: Future<Output: IntoIdentity> + Send + 'static,
    {
        self.with(|endpoint| endpoint.identity(identify))
    }

    /// Sets the hosts that this server answers for (default on loopback: loopback names): see [`Endpoint::hosts`].
    #[must_use]
    pub fn hosts(self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|endpoint| endpoint.hosts(hosts))
    }

    /// Sets the limits of this node.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|endpoint| endpoint.limits(limits))
    }

    /// Sets the header to which a trusted proxy appends client addresses (default: none): see
    /// [`Endpoint::trusted_proxy_header`].
    #[must_use]
    pub fn trusted_proxy_header(self, name: HeaderName) -> Self {
        self.with(|endpoint| endpoint.trusted_proxy_header(name))
    }

    /// Sets the source from which browsers load Datastar (default: the CDN).
    #[must_use]
    pub fn datastar(self, bundle: Bundle) -> Self {
        self.with(|endpoint| endpoint.datastar(bundle))
    }

    /// Sets how pages show problems (default: [`Notice`](crate::endpoint::Notice)).
    #[must_use]
    pub fn problem_view(self, view: impl ProblemView) -> Self {
        self.with(|endpoint| endpoint.problem_view(view))
    }

    /// Serves metrics at `/faststate/metrics` to the given operators (default: off): see [`Endpoint::metrics`].
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(self, access: crate::endpoint::OperatorAccess) -> Self {
        self.with(|endpoint| endpoint.metrics(access))
    }

    /// Serves the inspector at `/faststate/inspector` to the given developers (default: off): see
    /// [`Endpoint::inspector`].
    #[cfg(feature = "inspector")]
    #[must_use]
    pub fn inspector(self, access: crate::endpoint::OperatorAccess) -> Self {
        self.with(|endpoint| endpoint.inspector(access))
    }

    /// Sets the time over which streams end on shutdown, each at a random moment (default: 5 s; maximum: 12 s).
    #[must_use]
    pub fn drain_window(mut self, window: Duration) -> Self {
        self.drain_window = window.min(Duration::from_secs(12));
        self
    }

    /// Limits the open connections of [`serve`](Self::serve) (default: 50,000; 0: no limit). Connections above the limit
    /// are answered 503.
    ///
    /// Every connection is an open file. An eighth of the files that the process may open (`ulimit -n`) is reserved for
    /// other uses.
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Limits the open connections of one address (0: no limit). Connections above the limit are answered 429.
    ///
    /// IPv6 addresses count by their /64 network, and one address gets at most half of
    /// [`max_connections`](Self::max_connections). The default is twice [`Limits::streams_per_address`], which is
    /// 2,000. There is no limit by default if that setting is 0, or if a
    /// [`trusted_proxy_header`](Self::trusted_proxy_header) is set, because all connections then come from the proxy.
    #[must_use]
    pub const fn connections_per_address(mut self, connections: usize) -> Self {
        self.connections_per_address = Some(connections);
        self
    }

    /// Sets the time that [`serve`](Self::serve) waits for a request on an open connection (default: 75 s).
    ///
    /// The time starts with the connection and after each response, and ends when the request's head is complete.
    /// Behind a proxy or a load balancer, set it longer than the proxy keeps idle connections. Otherwise the server may
    /// close a connection while the proxy sends a request on it.
    #[must_use]
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// Returns the endpoint, for example to close streams, to drain or to count connections.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns routes for everything under `/faststate` and for events with their own paths.
    ///
    /// Mount them at the root of an existing server. [`serve`](Self::serve) includes them.
    #[must_use]
    pub fn router(&self) -> F::Router {
        F::router(self.endpoint.clone())
    }

    /// Returns the middleware that lets handlers take pages as arguments. [`serve`](Self::serve) includes it.
    #[must_use]
    pub fn pages(&self) -> F::Pages {
        F::pages(self.endpoint.clone())
    }

    /// Serves `router` and FastState's own routes until SIGTERM or Ctrl-C, then drains and returns.
    ///
    /// Port 0 picks a free port; the log shows it as `listening on http://127.0.0.1:PORT`. The server speaks HTTP/1.1
    /// without TLS: for TLS, put a proxy in front of it.
    ///
    /// After the first signal, the server accepts no more connections, accepted events finish, and streams end over
    /// [`drain_window`](Self::drain_window). Connections that are still open are cut within 30 s. A second signal cuts
    /// them at once.
    ///
    /// # Errors
    /// Returns an error if the address cannot be bound.
    pub async fn serve(self, address: impl ToSocketAddrs, router: F::Router) -> io::Result<()> {
        self.run(TcpListener::bind(address).await?, router, ProcessSignals::new()?).await
    }

    /// Like [`serve`](Self::serve), on a socket that is already listening.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be used.
    pub async fn serve_on(self, listener: net::TcpListener, router: F::Router) -> io::Result<()> {
        self.run(from_std(listener)?, router, ProcessSignals::new()?).await
    }

    /// Like [`serve_on`](Self::serve_on), but stops when `stop` completes instead of on a signal.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be used.
    pub async fn serve_until(
        self,
        listener: net::TcpListener,
        router: F::Router,
        stop: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        self.run(from_std(listener)?, router, StopFuture::new(stop)).await
    }

    async fn run(self, listener: TcpListener, router: F::Router, stop: impl StopSource) -> io::Result<()> {
        let per_address =
            self.connections_per_address.unwrap_or_else(|| self.endpoint.connections_per_address());
        let limits = ConnectionLimits::new(self.max_connections, per_address);
        let application = F::application(router, self.pages());
        let server = HttpServer::new(self.endpoint.clone(), application, self.idle_timeout);
        run(listener, server, self.endpoint, limits, self.drain_window, stop).await
    }

    fn with(mut self, set: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        self.endpoint = set(self.endpoint);
        self
    }
}

fn from_std(listener: net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
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
