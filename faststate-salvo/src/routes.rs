//! Conversion of Salvo's requests and responses.

use faststate_http::endpoint::{Endpoint, ReplyBody, RequestPage};
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, async_trait,
    http::{Method, ResBody},
};

/// Handles all requests under `/faststate`, and events with custom paths.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
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

/// Lets the handlers below it take [`Page`](crate::Page) and [`Current`](crate::Current) as arguments, and sets the
/// cookie of a new session on the page's response.
#[derive(Clone, Debug)]
pub struct Pages {
    endpoint: Endpoint,
}

impl Pages {
    pub(crate) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
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
        if let Some(refusal) = self.endpoint.refusal(request.version(), request.uri(), request.headers()) {
            write(refusal, response);
            control.skip_rest();
            return;
        }
        let request_page = RequestPage::new(self.endpoint.clone());
        depot.insert_typed(request_page.clone());
        control.call_next(request, depot, response).await;
        request_page.mark(response.headers_mut());
    }
}

/// The head of a request.
pub(crate) fn parts(request: &Request) -> Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::clone(request.method());
    parts.uri = request.uri().clone();
    parts.version = request.version();
    parts.headers = request.headers().clone();
    parts.extensions = request.extensions().clone();
    parts
}

/// Copies a response of the endpoint into Salvo's response; its body is streamed unchanged.
pub(crate) fn write(reply: http::Response<ReplyBody>, response: &mut Response) {
    let (head, body) = reply.into_parts();
    response.status_code(head.status);
    response.headers_mut().extend(head.headers);
    let body = if body.is_end_stream() {
        ResBody::None
    } else {
        ResBody::Boxed(Box::pin(body.map_err(|never| match never {})))
    };
    response.replace_body(body);
}
