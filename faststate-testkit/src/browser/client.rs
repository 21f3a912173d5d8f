//! The requests of a browser: its cookies, its headers and its identity.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use faststate_core::{
    Error, Key, Version,
    internal::{Rendered, TopicName},
};
use faststate_http::endpoint::{Endpoint, Identity, ReplyBody};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;

use crate::App;

/// The maximum number of redirects of one visit.
const MAX_REDIRECTS: usize = 10;

/// Sends requests to an application as one browser does.
#[derive(Clone)]
pub(super) struct BrowserClient {
    app: App,
    /// The cookies, which all windows of one browser share.
    cookies: Arc<Mutex<BTreeMap<String, String>>>,
    headers: HeaderMap,
    /// The user and the roles that replace the result of the identity closure.
    user: Option<String>,
    roles: Vec<String>,
}

impl BrowserClient {
    pub(super) fn new(app: &App) -> Self {
        Self {
            app: app.clone(),
            cookies: Arc::default(),
            headers: HeaderMap::new(),
            user: None,
            roles: Vec::new(),
        }
    }

    pub(super) fn set_user(&mut self, user: &str) {
        self.user = Some(user.to_owned());
    }

    pub(super) fn add_role(&mut self, role: &str) {
        self.roles.push(role.to_owned());
    }

    pub(super) fn add_header(&mut self, name: &'static str, value: HeaderValue) {
        self.headers.insert(HeaderName::from_static(name), value);
    }

    pub(super) fn set_cookie(&self, name: &str, value: &str) {
        self.cookies.lock().insert(name.to_owned(), value.to_owned());
    }

    /// Sends later requests to another node.
    pub(super) fn move_to(&mut self, node: &App) {
        self.app = node.clone();
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        self.app.endpoint()
    }

    /// Adds the headers and the identity of this browser to a request from a page of `site`.
    pub(super) fn request<B>(&self, mut request: Request<B>, site: &'static str) -> Request<B> {
        let cookies: Vec<_> =
            self.cookies.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("app.test"));
        headers.insert("sec-fetch-site", HeaderValue::from_static(site));
        if let Some(cookies) = Some(cookies.join("; ")).filter(|cookies| !cookies.is_empty())
            && let Ok(cookies) = HeaderValue::try_from(cookies)
        {
            headers.insert(header::COOKIE, cookies);
        }
        headers.extend(self.headers.clone());
        if self.user.is_some() || !self.roles.is_empty() {
            let user = self.user.as_deref().map_or_else(Identity::nobody, Identity::user);
            request.extensions_mut().insert(self.roles.iter().fold(user, Identity::with_role));
        }
        request
    }

    /// Sends a request of Datastar, and keeps the cookies of the response.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Response<ReplyBody> {
        let mut request = self.request(request, "same-origin");
        request.headers_mut().insert("datastar-request", HeaderValue::from_static("true"));
        self.respond(request).await
    }

    /// Requests a page and follows redirects.
    ///
    /// # Panics
    /// Panics if the application renders no pages, or redirects too often.
    pub(super) async fn visit(&self, mut method: Method, path: &str, mut body: Bytes) -> Response<Bytes> {
        let mut path = path.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let (step, sent) = (std::mem::replace(&mut method, Method::GET), std::mem::take(&mut body));
            let Some(response) = self.page(step, &path, sent).await else {
                panic!(
                    "this `App` renders no pages: set a renderer with `App::pages`, or use `follow` or `load`"
                );
            };
            let location = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            match location.filter(|_| response.status().is_redirection()) {
                Some(to) => path = to.to_owned(),
                None => return response,
            }
        }
        panic!("{path} redirects more than {MAX_REDIRECTS} times");
    }

    /// Requests a page as a link or a form does, and keeps the cookies of the response. Returns `None` if the application
    /// renders no pages.
    async fn page(&self, method: Method, path: &str, body: Bytes) -> Option<Response<Bytes>> {
        let site = if method == Method::GET { "none" } else { "same-origin" };
        let mut request = Request::new(body);
        *request.uri_mut() = path.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        if method == Method::POST {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(header::CONTENT_TYPE, form);
        }
        *request.method_mut() = method;
        let request = self.request(request, site);
        if !self.endpoint().handles(request.uri().path()) {
            let response = self.app.page(request).await?;
            self.keep_cookies(response.headers());
            return Some(response);
        }
        let (head, body) = self.respond(request.map(Full::new)).await.into_parts();
        let Ok(body) = body.collect().await;
        Some(Response::from_parts(head, body.to_bytes()))
    }

    async fn respond(&self, request: Request<Full<Bytes>>) -> Response<ReplyBody> {
        let peer = ([127, 0, 0, 1], 9).into();
        let response = self.endpoint().respond(request, Some(peer)).await;
        self.keep_cookies(response.headers());
        response
    }

    fn keep_cookies(&self, headers: &HeaderMap) {
        headers.get_all(header::SET_COOKIE).iter().for_each(|cookie| self.keep_cookie(cookie));
    }

    pub(super) fn keep_cookie(&self, cookie: &HeaderValue) {
        let mut parts =
            cookie.to_str().unwrap_or_default().split(';').filter_map(|part| part.split_once('='));
        let Some((name, value)) = parts.next() else { return };
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        if parts.any(|(attribute, value)| removes_cookie(attribute.trim(), value.trim())) {
            self.cookies.lock().remove(&name);
        } else {
            self.cookies.lock().insert(name, value);
        }
    }

    /// All nodes of the application.
    pub(super) fn nodes(&self) -> Vec<Endpoint> {
        if self.app.nodes.is_empty() { vec![self.endpoint().clone()] } else { self.app.nodes.clone() }
    }

    /// Checks that this browser's node has the same versions as all other nodes. An instance that was never saved has a
    /// different epoch on each node.
    pub(super) async fn nodes_agree(&self, topics: &[TopicName]) -> Result<(), String> {
        let nodes = self.nodes();
        if nodes.len() < 2 {
            return Ok(());
        }
        for topic in topics {
            let Some(here) = self.version(self.endpoint(), topic).await else { continue };
            for node in &nodes {
                let there = self.version(node, topic).await;
                let differs = |there: &Version| *there != here && (there.seq, here.seq) != (0, 0);
                if there.as_ref().is_some_and(differs) {
                    return Err(format!("this node has {topic} at {here}, another node differs"));
                }
            }
        }
        Ok(())
    }

    /// Returns what the server shows this browser of a topic, and the topic's key.
    pub(super) async fn truth(&self, topic: &TopicName) -> Result<(Rendered, Key), Error> {
        let (head, ()) = self.request(Request::new(()), "same-origin").into_parts();
        let visitor = self.endpoint().visitor(&head).await?;
        let registry = self.endpoint().registry();
        let rendered = registry.engine().visible(topic, visitor.viewer()).await?;
        Ok((rendered, registry.key(&topic.state, visitor.viewer(), topic.id.as_deref())?))
    }

    async fn version(&self, node: &Endpoint, topic: &TopicName) -> Option<Version> {
        let request = self.request(Request::new(()), "same-origin");
        let visitor = node.visitor(&request.into_parts().0).await.ok()?;
        let key = node.registry().key(&topic.state, visitor.viewer(), topic.id.as_deref()).ok()?;
        let snapshot = node.registry().read(&key).await.ok()?;
        (!snapshot.stale).then_some(snapshot.version)
    }
}

/// Returns whether an attribute of a cookie removes the cookie.
fn removes_cookie(attribute: &str, value: &str) -> bool {
    let is = |name: &str| attribute.eq_ignore_ascii_case(name);
    (is("max-age") && value.parse::<i64>().is_ok_and(|seconds| seconds <= 0))
        || (is("expires") && value.contains("1970"))
}

impl fmt::Debug for BrowserClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserClient")
            .field("user", &self.user)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}
