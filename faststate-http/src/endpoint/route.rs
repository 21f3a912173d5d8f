//! The paths of the endpoint and their targets.

use std::borrow::Cow;

use faststate_core::internal::Route;
use http::Method;
use percent_encoding::percent_decode_str;

/// The path of streams.
pub(super) const STREAM: &str = "/faststate/sse";
/// The path of health probes.
pub(super) const HEALTH: &str = "/faststate/health";
/// The path of the bundle.
pub(super) const BUNDLE: &str = "/faststate/datastar.js";
/// The path of the Prometheus metrics.
#[cfg(feature = "metrics")]
pub(super) const METRICS: &str = "/faststate/metrics";
/// The path of the inspector; the paths of its stream and of its two events follow.
#[cfg(feature = "inspector")]
pub(super) const INSPECTOR: &str = "/faststate/inspector";
#[cfg(feature = "inspector")]
pub(super) const INSPECTOR_STREAM: &str = "/faststate/inspector/sse";
#[cfg(feature = "inspector")]
pub(super) const INSPECTOR_CLEAR: &str = "/faststate/inspector/clear";
#[cfg(feature = "inspector")]
pub(super) const INSPECTOR_MESSAGE: &str = "/faststate/inspector/message";

/// The result of routing a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RouteMatch<'a> {
    Event {
        state: &'static str,
        event: &'static str,
        id: Option<Cow<'a, str>>,
    },
    Stream,
    Health,
    Bundle,
    #[cfg(feature = "metrics")]
    Metrics,
    #[cfg(feature = "inspector")]
    Inspector,
    /// The path exists, but only for these methods.
    MethodNotAllowed(String),
    /// The id is not percent-encoded UTF-8.
    InvalidId,
    NotFound,
}

/// The target of a path and a method.
#[derive(Clone, Copy, Debug)]
enum RouteTarget {
    Event {
        state: &'static str,
        event: &'static str,
    },
    Stream,
    Health,
    Bundle,
    #[cfg(feature = "metrics")]
    Metrics,
    #[cfg(feature = "inspector")]
    Inspector,
}

/// The targets of one path by method.
type MethodTargets = Vec<(Method, RouteTarget)>;

/// Every path that the endpoint handles.
#[derive(Clone, Debug)]
pub(super) struct RouteTable(matchit::Router<MethodTargets>);

impl RouteTable {
    pub(super) fn new(events: Vec<Route>) -> Self {
        let events = events.into_iter().map(|route| {
            let target = RouteTarget::Event { state: route.state, event: route.event };
            (route.path, route.method, target)
        });
        let own = [
            (STREAM, RouteTarget::Stream),
            (HEALTH, RouteTarget::Health),
            (BUNDLE, RouteTarget::Bundle),
            #[cfg(feature = "metrics")]
            (METRICS, RouteTarget::Metrics),
            #[cfg(feature = "inspector")]
            (INSPECTOR, RouteTarget::Inspector),
            #[cfg(feature = "inspector")]
            (INSPECTOR_STREAM, RouteTarget::Inspector),
        ];
        let own = own.map(|(path, target)| (Cow::Borrowed(path), Method::GET, target));
        #[cfg(feature = "inspector")]
        let own = own.into_iter().chain(
            [INSPECTOR_CLEAR, INSPECTOR_MESSAGE]
                .map(|path| (path.into(), Method::POST, RouteTarget::Inspector)),
        );
        let mut paths: Vec<(Cow<'static, str>, MethodTargets)> = Vec::new();
        for (path, method, target) in own.into_iter().chain(events) {
            match paths.iter_mut().find(|(known, _)| *known == path) {
                Some((_, targets)) => targets.push((method, target)),
                None => paths.push((path, vec![(method, target)])),
            }
        }
        let mut router = matchit::Router::new();
        for (path, targets) in paths {
            if let Err(error) = router.insert(path.clone(), targets) {
                tracing::error!(%path, %error, "this path conflicts with another and is not reachable");
            }
        }
        Self(router)
    }

    /// Returns whether the endpoint handles this path, for any method.
    pub(super) fn contains(&self, path: &str) -> bool {
        path == "/faststate" || path.starts_with("/faststate/") || self.0.at(path).is_ok()
    }

    /// Finds the target of a request. `HEAD` counts as `GET` for health and the bundle.
    pub(super) fn find<'a>(&self, method: &Method, path: &'a str) -> RouteMatch<'a> {
        let Ok(matched) = self.0.at(path) else { return RouteMatch::NotFound };
        let target = matched.value.iter().find(|(offered, target)| {
            let head = method == Method::HEAD && matches!(target, RouteTarget::Health | RouteTarget::Bundle);
            offered == method || head
        });
        let Some((_, target)) = target else {
            let methods: Vec<&str> = matched.value.iter().map(|(method, _)| method.as_str()).collect();
            return RouteMatch::MethodNotAllowed(methods.join(", "));
        };
        match *target {
            RouteTarget::Stream => RouteMatch::Stream,
            RouteTarget::Health => RouteMatch::Health,
            RouteTarget::Bundle => RouteMatch::Bundle,
            #[cfg(feature = "metrics")]
            RouteTarget::Metrics => RouteMatch::Metrics,
            #[cfg(feature = "inspector")]
            RouteTarget::Inspector => RouteMatch::Inspector,
            RouteTarget::Event { state, event } => {
                let id = matched.params.get("id").map(|raw| percent_decode_str(raw).decode_utf8());
                match id.transpose() {
                    Ok(id) => RouteMatch::Event { state, event, id },
                    Err(_) => RouteMatch::InvalidId,
                }
            }
        }
    }
}

/// Parses a path of the default form into the name of the state, whether there is an id, and the name of the event.
/// The names need not exist.
pub(super) fn parse_default_path(path: &str) -> Option<(&str, bool, &str)> {
    let mut segments = path.strip_prefix("/faststate/")?.split('/');
    let (state, second, third) = (segments.next()?, segments.next()?, segments.next());
    segments.next().is_none().then_some((state, third.is_some(), third.unwrap_or(second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> RouteTable {
        let route =
            |method, path: &'static str, state, event| Route { method, path: path.into(), state, event };
        RouteTable::new(vec![
            route(Method::POST, "/faststate/counter/increment", "counter", "increment"),
            route(Method::POST, "/faststate/product/{id}/rename", "product", "rename"),
            route(Method::PUT, "/products/{id}", "product", "replace"),
            route(Method::DELETE, "/products/{id}", "product", "discontinue"),
        ])
    }

    #[test]
    fn event_is_found_by_path_and_method() {
        let routes = routes();
        let found = routes.find(&Method::POST, "/faststate/counter/increment");
        assert_eq!(found, RouteMatch::Event { state: "counter", event: "increment", id: None });
        let found = routes.find(&Method::DELETE, "/products/p%201%252F");
        let id = Some("p 1%2F".into());
        assert_eq!(found, RouteMatch::Event { state: "product", event: "discontinue", id }, "decoded once");
        assert_eq!(routes.find(&Method::GET, STREAM), RouteMatch::Stream);
        assert_eq!(routes.find(&Method::HEAD, HEALTH), RouteMatch::Health);
    }

    #[test]
    fn unmatched_requests_have_distinct_results() {
        let routes = routes();
        assert_eq!(
            routes.find(&Method::GET, "/faststate/counter/increment"),
            RouteMatch::MethodNotAllowed("POST".to_owned())
        );
        assert_eq!(routes.find(&Method::HEAD, STREAM), RouteMatch::MethodNotAllowed("GET".to_owned()));
        assert_eq!(
            routes.find(&Method::GET, "/products/p1"),
            RouteMatch::MethodNotAllowed("PUT, DELETE".to_owned())
        );
        assert_eq!(routes.find(&Method::POST, "/faststate/counter/nothing"), RouteMatch::NotFound);
        assert_eq!(routes.find(&Method::POST, "/faststate/product/%ff/rename"), RouteMatch::InvalidId);
        assert!(
            routes.contains("/faststate/whatever")
                && routes.contains("/products/x")
                && !routes.contains("/products")
        );
    }
}
