//! Which path leads where.

use std::borrow::Cow;

use faststate_core::registry::Route;
use http::Method;
use percent_encoding::percent_decode_str;

/// The stream.
pub(super) const STREAM: &str = "/faststate/sse";
/// The probes' page.
pub(super) const HEALTH: &str = "/faststate/health";
/// The checked bundle.
pub(super) const BUNDLE: &str = "/faststate/datastar.js";
/// Figures for Prometheus.
#[cfg(feature = "metrics")]
pub(super) const METRICS: &str = "/faststate/metrics";
/// What happens, live, for developers; its stream, and its one event.
#[cfg(feature = "inspector")]
pub(super) const INSPECTOR: &str = "/faststate/inspector";
#[cfg(feature = "inspector")]
pub(super) const INSPECTOR_STREAM: &str = "/faststate/inspector/sse";
#[cfg(feature = "inspector")]
pub(super) const INSPECTOR_CLEAR: &str = "/faststate/inspector/clear";

/// What a path and a method lead to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
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
    /// The path leads somewhere by these methods only.
    Method(String),
    /// An id that is not percent-encoded UTF-8.
    BadId,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
enum Goal {
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

/// What one path leads to, by method.
type Goals = Vec<(Method, Goal)>;

/// Every path that the endpoint answers.
#[derive(Clone, Debug)]
pub(super) struct Routes(matchit::Router<Goals>);

impl Routes {
    pub(super) fn new(events: Vec<Route>) -> Self {
        let events = events.into_iter().map(|route| {
            let goal = Goal::Event { state: route.state, event: route.event };
            (route.path, route.method, goal)
        });
        let own = [
            (STREAM, Goal::Stream),
            (HEALTH, Goal::Health),
            (BUNDLE, Goal::Bundle),
            #[cfg(feature = "metrics")]
            (METRICS, Goal::Metrics),
            #[cfg(feature = "inspector")]
            (INSPECTOR, Goal::Inspector),
            #[cfg(feature = "inspector")]
            (INSPECTOR_STREAM, Goal::Inspector),
        ];
        let own = own.map(|(path, goal)| (Cow::Borrowed(path), Method::GET, goal));
        #[cfg(feature = "inspector")]
        let own = own.into_iter().chain([(INSPECTOR_CLEAR.into(), Method::POST, Goal::Inspector)]);
        let mut paths: Vec<(Cow<'static, str>, Goals)> = Vec::new();
        for (path, method, goal) in own.into_iter().chain(events) {
            match paths.iter_mut().find(|(known, _)| *known == path) {
                Some((_, goals)) => goals.push((method, goal)),
                None => paths.push((path, vec![(method, goal)])),
            }
        }
        let mut router = matchit::Router::new();
        for (path, goals) in paths {
            if let Err(error) = router.insert(path.clone(), goals) {
                tracing::error!(%path, %error, "this path collides with another and cannot be reached");
            }
        }
        Self(router)
    }

    /// Whether the endpoint answers this path, whatever the method.
    pub(super) fn knows(&self, path: &str) -> bool {
        path == "/faststate" || path.starts_with("/faststate/") || self.0.at(path).is_ok()
    }

    pub(super) fn find<'a>(&self, method: &Method, path: &'a str) -> Found<'a> {
        let Ok(matched) = self.0.at(path) else { return Found::Nothing };
        let goal = matched.value.iter().find(|(offered, goal)| {
            let head = method == Method::HEAD && matches!(goal, Goal::Health | Goal::Bundle);
            offered == method || head
        });
        let Some((_, goal)) = goal else {
            let methods: Vec<&str> = matched.value.iter().map(|(method, _)| method.as_str()).collect();
            return Found::Method(methods.join(", "));
        };
        match *goal {
            Goal::Stream => Found::Stream,
            Goal::Health => Found::Health,
            Goal::Bundle => Found::Bundle,
            #[cfg(feature = "metrics")]
            Goal::Metrics => Found::Metrics,
            #[cfg(feature = "inspector")]
            Goal::Inspector => Found::Inspector,
            Goal::Event { state, event } => {
                let id = matched.params.get("id").map(|raw| percent_decode_str(raw).decode_utf8());
                match id.transpose() {
                    Ok(id) => Found::Event { state, event, id },
                    Err(_) => Found::BadId,
                }
            }
        }
    }
}

/// The state and event that a path of the default form names, and whether it has an id: the path may lead nowhere.
pub(super) fn event_named_by(path: &str) -> Option<(&str, bool, &str)> {
    let mut segments = path.strip_prefix("/faststate/")?.split('/');
    let (state, second, third) = (segments.next()?, segments.next()?, segments.next());
    segments.next().is_none().then_some((state, third.is_some(), third.unwrap_or(second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let route =
            |method, path: &'static str, state, event| Route { method, path: path.into(), state, event };
        Routes::new(vec![
            route(Method::POST, "/faststate/counter/increment", "counter", "increment"),
            route(Method::POST, "/faststate/product/{id}/rename", "product", "rename"),
            route(Method::PUT, "/products/{id}", "product", "replace"),
            route(Method::DELETE, "/products/{id}", "product", "discontinue"),
        ])
    }

    #[test]
    fn events_are_found_by_path_and_method() {
        let routes = routes();
        let found = routes.find(&Method::POST, "/faststate/counter/increment");
        assert_eq!(found, Found::Event { state: "counter", event: "increment", id: None });
        let found = routes.find(&Method::DELETE, "/products/p%201%252F");
        let id = Some("p 1%2F".into());
        assert_eq!(found, Found::Event { state: "product", event: "discontinue", id }, "decoded once");
        assert_eq!(routes.find(&Method::GET, STREAM), Found::Stream);
        assert_eq!(routes.find(&Method::HEAD, HEALTH), Found::Health);
    }

    #[test]
    fn what_is_not_there_is_told_apart() {
        let routes = routes();
        assert_eq!(
            routes.find(&Method::GET, "/faststate/counter/increment"),
            Found::Method("POST".to_owned())
        );
        assert_eq!(routes.find(&Method::HEAD, STREAM), Found::Method("GET".to_owned()));
        assert_eq!(routes.find(&Method::GET, "/products/p1"), Found::Method("PUT, DELETE".to_owned()));
        assert_eq!(routes.find(&Method::POST, "/faststate/counter/nothing"), Found::Nothing);
        assert_eq!(routes.find(&Method::POST, "/faststate/product/%ff/rename"), Found::BadId);
        assert!(
            routes.knows("/faststate/whatever") && routes.knows("/products/x") && !routes.knows("/products")
        );
    }
}
