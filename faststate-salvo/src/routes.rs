//! Salvo's requests and responses, translated.

use faststate_core::endpoint::{Endpoint, ReplyBody};
use http::{HeaderValue, header, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, async_trait,
    http::{Method, ResBody},
};

use crate::Page;

/// Answers everything under `/faststate`, and the events that have paths of their own.
#[derive(Clone, Debug)]
pub struct Routes {
    endpoint: Endpoint,
}

impl Routes {
    pub(crate) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

#[async_trait]
impl Handler for Routes {
    async fn handle(&self, request: &mut Request, _: &mut Depot, response: &mut Response, _: &mut FlowCtrl) {
        let peer = request.remote_addr().clone().into_std();
        let body = request.take_body();
        let request = http::Request::from_parts(parts(request), body);
        write(self.endpoint.respond(request, peer).await, response);
    }
}

/// Lets the handlers below it take [`Page`] and [`Current`](crate::Current) as arguments, and sets the
/// cookie of a new session on the page's answer.
#[derive(Clone, Debug)]
pub struct Pages {
    endpoint: Endpoint,
}

impl Pages {
    pub(crate) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

/// The page of one request, made when a handler first asks for it.
pub(crate) struct Making {
    pub(crate) endpoint: Endpoint,
    pub(crate) page: Option<Page>,
}

#[async_trait]
impl Handler for Pages {
    async fn handle(
        &self,
        request: &mut Request,
        depot: &mut Depot,
        response: &mut Response,
        control: &mut FlowCtrl,
    ) {
        depot.insert_typed(Making { endpoint: self.endpoint.clone(), page: None });
        control.call_next(request, depot, response).await;
        let Ok(Making { page: Some(page), .. }) = depot.get_typed() else { return };
        let headers = response.headers_mut();
        if let Some(cookie) = page.set_cookie() {
            headers.append(header::SET_COOKIE, cookie);
        }
        // It shows one viewer's state.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    }
}

/// A request's head.
pub(crate) fn parts(request: &Request) -> Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::clone(request.method());
    parts.uri = request.uri().clone();
    parts.version = request.version();
    parts.headers = request.headers().clone();
    parts.extensions = request.extensions().clone();
    parts
}

/// An answer's bytes pass on as they are.
pub(crate) fn write(answer: http::Response<ReplyBody>, response: &mut Response) {
    let (head, body) = answer.into_parts();
    response.status_code(head.status);
    response.headers_mut().extend(head.headers);
    let body = if body.is_end_stream() {
        ResBody::None
    } else {
        ResBody::Boxed(Box::pin(body.map_err(|never| match never {})))
    };
    response.replace_body(body);
}
