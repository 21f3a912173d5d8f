//! The implementation of [`Framework`] for axum.

use std::{borrow::Cow, net::SocketAddr};

use axum::{Router, body::Body, extract::ConnectInfo};
use faststate_core::BoxError;
use faststate_http::{
    endpoint::Endpoint,
    server::{Application, ClientConnection, Framework, RequestBody},
};
use http::{Request, Response};
use tower_service::Service as _;

use crate::{Pages, routes::Routes};

/// [axum](https://docs.rs/axum), the framework of this crate's [`FastState`](crate::FastState).
#[derive(Clone, Copy, Debug)]
pub struct Axum;

impl Framework for Axum {
    type Router = Router;
    type Pages = Pages;
    type Application = Site;

    fn router(endpoint: Endpoint) -> Router {
        let routes = Routes::new(endpoint.clone());
        let known = ["/faststate", "/faststate/", "/faststate/{*rest}"];
        let paths = known.map(Cow::Borrowed).into_iter().chain(endpoint.own_paths());
        paths.fold(Router::new(), |router, path| router.route_service(&path, routes.clone()))
    }

    fn pages(endpoint: Endpoint) -> Pages {
        Pages::new(endpoint)
    }

    fn application(router: Router, pages: Pages) -> Site {
        // Sets the router's state once, so that axum need not set it for each request.
        Site(router.layer(pages).with_state(()))
    }
}

/// A router whose handlers can all take pages as arguments.
#[derive(Debug)]
pub struct Site(Router);

impl Application for Site {
    type Connection = SiteConnection;

    fn connect(&self, _: SocketAddr, peer: SocketAddr) -> SiteConnection {
        SiteConnection { router: self.0.clone(), peer }
    }
}

/// One client's connection to the application.
#[derive(Debug)]
pub struct SiteConnection {
    router: Router,
    peer: SocketAddr,
}

impl ClientConnection for SiteConnection {
    type Body = Body;

    async fn answer(&self, mut request: Request<RequestBody>) -> Result<Response<Body>, BoxError> {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        Ok(self.router.clone().call(request.map(Body::new)).await?)
    }
}
