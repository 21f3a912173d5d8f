//! The adapters that serve the site.
//!
//! Pages are independent of the web framework: each is a function of a [`Page`](faststate::endpoint::Page) and of
//! values from the request, and returns HTML or a [`PageResponse`](crate::response::PageResponse). Each adapter routes
//! requests to them in one file: `web/salvo.rs`, `web/axum.rs`, and `web/hyper.rs` on a handwritten adapter.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "salvo")]
mod salvo;

use std::{io, net::SocketAddr, str::FromStr};

use faststate::endpoint::Endpoint;
#[cfg(test)]
use faststate::testing::{App, InProcess as _};

use crate::assets::ContentPolicy;

#[cfg(not(any(feature = "axum", feature = "hyper", feature = "salvo")))]
compile_error!("the demo needs an adapter: build it with the feature `salvo`, `axum` or `hyper`");

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
    /// The first is the default of `--adapter`.
    pub(crate) const BUILT_IN: &'static [(&'static str, Self)] = &[
        #[cfg(feature = "salvo")]
        ("salvo", Self::Salvo),
        #[cfg(feature = "axum")]
        ("axum", Self::Axum),
        #[cfg(feature = "hyper")]
        ("hyper", Self::Hyper),
    ];

    /// Serves the site until the process is asked to stop.
    pub(crate) async fn serve(
        self,
        site: Endpoint,
        policy: ContentPolicy,
        listen: SocketAddr,
    ) -> io::Result<()> {
        match self {
            #[cfg(feature = "salvo")]
            Self::Salvo => salvo::serve(site, policy, listen).await,
            #[cfg(feature = "axum")]
            Self::Axum => axum::serve(site, policy, listen).await,
            #[cfg(feature = "hyper")]
            Self::Hyper => hyper::serve(site, policy, listen).await,
        }
    }

    /// The site for the browsers of a test. The handwritten adapter needs a socket, so it has none.
    #[cfg(test)]
    pub(crate) fn app(self, site: Endpoint, policy: ContentPolicy) -> Option<App> {
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
                Err(format!("this adapter is not built in: build the demo with `--features {text}`"))
            }
            (None, _) => Err("an adapter is salvo, axum or hyper".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_adapter_error_names_the_needed_feature() {
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
