//! What the site is served through.
//!
//! Pages know no web framework: each is a function of a [`Page`](faststate::endpoint::Page) and of what the request
//! says besides, and gives HTML or an [`Answer`]. What leads requests to them is one file an adapter: `web/salvo.rs`,
//! `web/axum.rs`, and `web/hyper.rs` on an adapter written by hand.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "salvo")]
mod salvo;

use std::{io, net::SocketAddr, str::FromStr};

use bytes::Bytes;
use faststate::endpoint::Endpoint;
#[cfg(test)]
use faststate::testing::{App, InProcess as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::assets::Policy;

#[cfg(not(any(feature = "axum", feature = "hyper", feature = "salvo")))]
compile_error!("the demo is served through an adapter: build it with a feature `salvo`, `axum` or `hyper`");

/// The adapters that are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adapter {
    #[cfg(feature = "salvo")]
    Salvo,
    #[cfg(feature = "axum")]
    Axum,
    #[cfg(feature = "hyper")]
    Hyper,
}

impl Adapter {
    /// The first is what there is unless another one is asked for.
    pub(crate) const BUILT_IN: &'static [(&'static str, Self)] = &[
        #[cfg(feature = "salvo")]
        ("salvo", Self::Salvo),
        #[cfg(feature = "axum")]
        ("axum", Self::Axum),
        #[cfg(feature = "hyper")]
        ("hyper", Self::Hyper),
    ];

    /// Serves the site until the order to stop.
    pub(crate) async fn serve(self, site: Endpoint, policy: Policy, listen: SocketAddr) -> io::Result<()> {
        match self {
            #[cfg(feature = "salvo")]
            Self::Salvo => salvo::serve(site, policy, listen).await,
            #[cfg(feature = "axum")]
            Self::Axum => axum::serve(site, policy, listen).await,
            #[cfg(feature = "hyper")]
            Self::Hyper => hyper::serve(site, policy, listen).await,
        }
    }

    /// The site as a test's browsers reach it; the adapter written by hand has no way without a socket.
    #[cfg(test)]
    pub(crate) fn app(self, site: Endpoint, policy: Policy) -> Option<App> {
        match self {
            #[cfg(feature = "salvo")]
            Self::Salvo => Some(faststate::salvo::FastState::from_endpoint(site).app(salvo::pages(policy))),
            #[cfg(feature = "axum")]
            Self::Axum => Some(faststate::axum::FastState::from_endpoint(site).app(axum::pages(policy))),
            #[cfg(feature = "hyper")]
            Self::Hyper => None,
        }
    }
}

impl FromStr for Adapter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (Self::BUILT_IN.iter().find(|(name, _)| *name == text), text) {
            (Some((_, adapter)), _) => Ok(*adapter),
            (None, "salvo" | "axum" | "hyper") => {
                Err(format!("it is not built in: build the demo with `--features {text}`"))
            }
            (None, _) => Err("an adapter is salvo, axum or hyper".to_owned()),
        }
    }
}

/// What a request is answered with.
#[derive(Debug)]
pub(crate) struct Answer(Response<Bytes>);

impl Answer {
    /// A page that says why there is not what was asked for.
    pub(crate) fn refused(status: StatusCode, html: String) -> Self {
        let mut answer = Self::from(html);
        *answer.0.status_mut() = status;
        answer
    }

    /// Leads to another page, by GET.
    pub(crate) fn see_other(path: &str) -> Self {
        let mut answer = Self(Response::default());
        *answer.0.status_mut() = StatusCode::SEE_OTHER;
        // The paths are ours; what is none leads nowhere.
        answer.0.headers_mut().extend(HeaderValue::from_str(path).map(|path| (header::LOCATION, path)));
        answer
    }

    /// A file that browsers keep for good.
    pub(crate) fn file(kind: &'static str, content: &'static str) -> Self {
        let mut answer = Self(Response::new(Bytes::from_static(content.as_bytes())));
        answer.set(header::CONTENT_TYPE, kind);
        answer.set(header::CACHE_CONTROL, "public, max-age=31536000, immutable");
        answer
    }

    pub(crate) fn with_cookie(mut self, cookie: HeaderValue) -> Self {
        self.0.headers_mut().append(header::SET_COOKIE, cookie);
        self
    }

    fn set(&mut self, name: header::HeaderName, value: &'static str) {
        self.0.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

impl From<String> for Answer {
    fn from(html: String) -> Self {
        let mut answer = Self(Response::new(html.into()));
        answer.set(header::CONTENT_TYPE, "text/html; charset=utf-8");
        answer
    }
}

/// As the visitor reaches this server.
fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:5000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_is_not_built_in_names_the_feature_that_it_needs() {
        for name in ["salvo", "axum", "hyper"] {
            let built_in = Adapter::BUILT_IN.iter().any(|(known, _)| *known == name);
            match name.parse::<Adapter>() {
                Ok(_) => assert!(built_in, "{name}"),
                Err(complaint) => assert!(!built_in && complaint.contains(&format!("--features {name}"))),
            }
        }
        assert!(
            "rocket".parse::<Adapter>().is_err_and(|complaint| complaint.contains("salvo, axum or hyper"))
        );
    }
}
