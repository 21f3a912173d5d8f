//! The methods of [`Endpoint`] that answer requests: route, then call the handler of the event, stream or page.

use std::net::SocketAddr;

use faststate_core::{BoxError, Error, internal::Part};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request::Parts};
use http_body::Body;
use tracing::Instrument as _;

#[cfg(feature = "inspector")]
use super::inspector;
#[cfg(feature = "metrics")]
use super::metrics;
use super::{
    event::{self, EventTarget},
    guard, health, open_stream,
    page::Page,
    problem::Problem,
    reply::ReplyBody,
    request_identity::RequestIdentity,
    route::{self, RouteMatch},
    service::{Endpoint, PeerAddress},
};

impl Endpoint {
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
            return self.refuse(&parts, &Problem::host());
        }
        match self.routes().find(&parts.method, parts.uri.path()) {
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
                Box::pin(health::answer(self.cached_health(), &**self.registry(), self.streams())).await
            }
            RouteMatch::Bundle => {
                let bundle = self.settings().bundle.respond(&parts);
                bundle.unwrap_or_else(|| self.refuse(&parts, &Problem::unknown()))
            }
            #[cfg(feature = "metrics")]
            RouteMatch::Metrics => metrics::answer(self, &parts, peer).await,
            #[cfg(feature = "inspector")]
            RouteMatch::Inspector => inspector::answer(self, parts, body, peer).await,
            RouteMatch::NotFound => {
                if let Some((state, has_id, event)) = route::parse_default_path(parts.uri.path()) {
                    self.registry().engine().report_mistake(state, has_id, Part::Event(event));
                }
                self.refuse(&parts, &Problem::unknown())
            }
            RouteMatch::InvalidId => {
                let detail = "the id in the path is not percent-encoded UTF-8";
                self.refuse(
                    &parts,
                    &Problem::new(StatusCode::BAD_REQUEST, "bad_request", "Bad request", detail),
                )
            }
            RouteMatch::MethodNotAllowed(allowed) => {
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

    /// Identifies the viewer of a request, for application code outside pages.
    ///
    /// [Mark](RequestIdentity::mark) the response.
    ///
    /// # Errors
    /// The error of the identity closure, or [`Error::TimedOut`] if it takes over 2 s; [`Error::Host`] for a host that
    /// is not among [`hosts`](Self::hosts); [`Error::Busy`] if the address has too many new sessions.
    pub async fn visitor(&self, parts: &Parts) -> Result<RequestIdentity, Error> {
        self.check_host(&parts.headers, &parts.uri)?;
        let peer = parts.extensions.get::<PeerAddress>().map(|peer| peer.0);
        let address = self.address(&parts.headers, peer);
        RequestIdentity::of(self, parts, self.request_session(parts), address).await
    }

    /// Creates the page that answers this request. [Mark](Page::mark) the response.
    ///
    /// # Errors
    /// As [`visitor`](Self::visitor).
    pub async fn page(&self, parts: &Parts) -> Result<Page, Error> {
        let visitor = self.visitor(parts).await?;
        Ok(Page::new(self.clone(), visitor, self.admits(parts, self.request_session(parts))))
    }

    /// Returns the response to a request that no page may answer: an HTTP/1.1 request that does not name its host
    /// exactly once, or one for a host that is not among [`hosts`](Self::hosts).
    ///
    /// [`respond`](Self::respond) and the server of the feature `server` refuse such requests themselves. An adapter
    /// calls this before any other handler answers.
    #[must_use]
    pub fn refusal(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Option<Response<ReplyBody>> {
        if !guard::names_one_host(version, headers) {
            return Some(Problem::host().page());
        }
        let refused = self.check_host(headers, uri).err()?;
        Some(Problem::of(&refused).page())
    }
}
