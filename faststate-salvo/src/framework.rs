//! The framework that the server runs on.

use std::{net::SocketAddr, sync::Arc};

use faststate_core::BoxError;
use faststate_http::{
    endpoint::Endpoint,
    server::{Application, ClientConnection, Framework, RequestBody},
};
use http::{Request, Response, uri::Scheme};
use hyper::service::Service as _;
use salvo::{
    Router, Service,
    conn::ConnCtrl,
    http::{ReqBody, ResBody},
};

use crate::{Pages, routes::Routes};

/// [Salvo](https://salvo.rs), the framework of this crate's [`FastState`](crate::FastState).
#[derive(Clone, Copy, Debug)]
pub struct Salvo;

impl Framework for Salvo {
    type Router = Router;
    type Pages = Pages;
    type Application = Site;

    fn router(endpoint: Endpoint) -> Router {
        let filter = endpoint.clone();
        // The endpoint receives the raw path, because Salvo would decode ids first.
        Router::with_filter_fn(move |request, _| filter.handles(request.uri().path()))
            .path("{**faststate}")
            .goal(Routes::new(endpoint))
    }

    fn pages(endpoint: Endpoint) -> Pages {
        Pages::new(endpoint)
    }

    fn application(router: Router, pages: Pages) -> Site {
        Site(Arc::new(Service::new(router).hoop(pages)))
    }
}

/// A router whose handlers can all take pages as arguments.
#[derive(Debug)]
pub struct Site(Arc<Service>);

impl Application for Site {
    type Connection = SiteConnection;

    fn connect(&self, local: SocketAddr, peer: SocketAddr) -> SiteConnection {
        SiteConnection { service: Arc::clone(&self.0), local, peer, control: ConnCtrl::new() }
    }
}

/// One client's connection.
#[derive(Debug)]
pub struct SiteConnection {
    service: Arc<Service>,
    local: SocketAddr,
    peer: SocketAddr,
    control: ConnCtrl,
}

impl ClientConnection for SiteConnection {
    type Body = ResBody;

    async fn answer(&self, request: Request<RequestBody>) -> Result<Response<ResBody>, BoxError> {
        let (local, peer) = (self.local.into(), self.peer.into());
        let control = self.control.clone();
        let salvo = self.service.hyper_handler(local, peer, Scheme::HTTP, None, control, None);
        let request = request.map(|body| ReqBody::Boxed { inner: Box::pin(body), fuse_config: None });
        Ok(salvo.call(request).await?)
    }

    fn is_given_up(&self) -> bool {
        self.control.is_aborted()
    }
}
