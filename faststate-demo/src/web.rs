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

use faststate::endpoint::Endpoint;
#[cfg(test)]
use faststate::testing::{App, InProcess as _};

use crate::assets::ContentPolicy;

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

    /// The site as a test's browsers reach it; the adapter written by hand has no way without a socket.
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
                Err(format!("it is not built in: build the demo with `--features {text}`"))
            }
            (None, _) => Err("an adapter is salvo, axum or hyper".to_owned()),
        }
    }
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
