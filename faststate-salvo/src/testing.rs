//! A Salvo application as a test's browsers reach it.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use faststate_core::testing::App;
use http_body_util::BodyExt as _;
use salvo::{Request, Router, Service, conn::ConnCtrl, http::uri::Scheme};

use crate::{FastState, Pages};

impl FastState {
    /// The application as a test's [browsers](faststate_core::testing::Browser) reach it, without a socket: what they
    /// visit goes through Salvo, events and streams to the endpoint.
    #[must_use]
    pub fn app(self, pages: Router) -> App {
        let app = App::of(self.endpoint);
        let service = Arc::new(Service::new(pages).hoop(Pages::new(app.endpoint().clone())));
        app.pages(move |request| {
            let service = Arc::clone(&service);
            async move { render(&service, request).await }
        })
    }
}

async fn render(service: &Service, request: http::Request<Bytes>) -> http::Response<Bytes> {
    let nowhere = || SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let handler = service.hyper_handler(nowhere(), nowhere(), Scheme::HTTP, None, ConnCtrl::new(), None);
    let mut answer = handler.handle(Request::from_hyper(request, Scheme::HTTP)).await;
    let body = answer.take_body().collect().await.map(http_body_util::Collected::to_bytes);
    let mut response = http::Response::new(body.unwrap_or_default());
    *response.status_mut() = answer.status_code.unwrap_or_default();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    response
}
