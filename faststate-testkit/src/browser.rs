//! An in-process browser.

mod act;
mod assertions;
mod dom;
pub mod page;
mod script;
mod sent;
mod signal_tree;
pub mod sse;
mod stream;
mod value_diff;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use faststate_core::{Error, Version, internal::TopicName, registry::Applied};
use faststate_http::endpoint::{Identity, Problem, ReplyBody};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::timeout;

pub use self::{
    act::{Act, Click},
    sent::Sent,
};
use self::{dom::Element, page::BrowserPage, script::Script};
use crate::{App, Failure};

/// The deadline of a change that should arrive immediately, generous enough for a loaded machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// The maximum number of redirects of one visit.
const MAX_REDIRECTS: usize = 10;

/// A browser with one window, which merges streams and responses exactly as Datastar does.
///
/// It reads its stream only in [`settle`](Self::settle), [`read`](Self::read) and the methods that wait; otherwise it is a
/// lagging follower. It panics when a law is broken: a version that goes back, or bytes that no browser would merge.
pub struct Browser {
    app: App,
    /// The cookies, which all windows of one browser share.
    cookies: Arc<Mutex<BTreeMap<String, String>>>,
    headers: HeaderMap,
    /// The user and the roles that replace the result of the identity closure.
    user: Option<String>,
    roles: Vec<String>,
    page: BrowserPage,
    status: StatusCode,
    topics: Vec<TopicName>,
    /// The URL of the stream that the page follows.
    follow: Option<String>,
    stream: Option<ReplyBody>,
    hidden: bool,
}

impl Browser {
    /// Creates a browser without cookies at an empty page.
    #[must_use]
    pub fn new(app: &App) -> Self {
        Self {
            app: app.clone(),
            cookies: Arc::default(),
            headers: HeaderMap::new(),
            user: None,
            roles: Vec::new(),
            page: BrowserPage::document("").unwrap_or_default(),
            status: StatusCode::OK,
            topics: Vec::new(),
            follow: None,
            stream: None,
            hidden: false,
        }
    }

    /// Signs this browser in as `user`, instead of the identity that the application's closure returns.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Adds a role to this browser.
    #[must_use]
    pub fn role(mut self, role: &str) -> Self {
        self.roles.push(role.to_owned());
        self
    }

    /// Adds a header to each request of this browser.
    ///
    /// # Panics
    /// Panics if the name or the value is not a valid header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap_or_else(|error| panic!("{error}: {value:?}"));
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// Adds a cookie to this browser.
    #[must_use]
    pub fn cookie(self, name: &str, value: &str) -> Self {
        self.cookies.lock().insert(name.to_owned(), value.to_owned());
        self
    }

    /// Opens a second window of this browser at an empty page, with the same cookies and therefore the same session.
    #[must_use]
    pub fn window(&self) -> Self {
        Self {
            cookies: Arc::clone(&self.cookies),
            headers: self.headers.clone(),
            user: self.user.clone(),
            roles: self.roles.clone(),
            ..Self::new(&self.app)
        }
    }

    /// Opens a page of the application, including redirects, and follows the topics of the page.
    ///
    /// # Panics
    /// Panics if the application renders no [pages](App::pages), or if the page cannot be parsed.
    pub async fn visit(&mut self, path: &str) {
        self.open(Method::GET, path, Bytes::new()).await;
    }

    /// Posts a form without Datastar, and opens the page in the response.
    ///
    /// # Panics
    /// Panics like [`visit`](Self::visit).
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.open(Method::POST, path, form.into()).await;
    }

    /// Opens a page that shows and follows these topics, separated by commas: `counter`, `product:p1`, `chat.messages`.
    ///
    /// # Panics
    /// Panics if the viewer may not follow one of them.
    pub async fn follow(&mut self, topics: &str) {
        let opened = self.try_follow(topics).await;
        opened.unwrap_or_else(|error| panic!("`{topics}` cannot be followed: {error}"));
    }

    /// Like [`follow`](Self::follow), but returns an error instead of a panic.
    ///
    /// # Errors
    /// Returns [`Error::Unknown`] or another error, as a page's handler would receive it.
    pub async fn try_follow(&mut self, topics: &str) -> Result<(), Error> {
        let request = self.request(Request::new(Bytes::new()), "none");
        let page = self.app.endpoint().page(&request.into_parts().0).await?;
        let mut body = String::new();
        for topic in topics.split(',') {
            let topic = topic.trim().parse().map_err(|_| Error::Unknown)?;
            body.extend(page.show_topic(topic).await?);
        }
        if let Some(cookie) = page.set_cookie() {
            self.keep_cookie(&cookie);
        }
        let (signals, follow) = (page.signals(), page.follow_action());
        self.load(&format!("<body data-signals=\"{signals}\" data-init=\"{follow}\">{body}</body>")).await;
        Ok(())
    }

    /// Opens a page from its HTML. Signals are read from `data-signals` and `data-bind`, the stream from `data-init`.
    ///
    /// # Panics
    /// Panics if the signals are not an object.
    pub async fn load(&mut self, html: &str) {
        self.close();
        self.page = BrowserPage::document(html).unwrap_or_else(|failure| panic!("{failure}\n{html}"));
        let follow = self.page.attribute("data-init").map(|init| Script::new(init).followed());
        self.follow = follow.and_then(Result::ok);
        self.topics = self.follow.as_deref().map(topics_of).unwrap_or_default();
        self.connect().await;
    }

    /// Sends an event or an action, and merges the response.
    ///
    /// # Panics
    /// Panics if the action cannot be parsed or the response cannot be merged.
    pub async fn send(&mut self, act: impl Into<Act>) -> Sent {
        let click = self.prepare(act);
        self.repeat(&click).await
    }

    /// Prepares the request of an act, including its event id, without sending it.
    ///
    /// # Panics
    /// Panics if the action cannot be parsed.
    pub fn prepare(&self, act: impl Into<Act>) -> Click {
        act.into().click(self.page.signal_tree(), &self.topics).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Sends a prepared request again, with the same event id, and merges the response.
    ///
    /// # Panics
    /// Panics if the response cannot be merged.
    pub async fn repeat(&mut self, click: &Click) -> Sent {
        let response = self.respond(click).await;
        let (status, extensions) = (response.status(), response.extensions());
        let (answer, problem) = (extensions.get::<Applied>().copied(), extensions.get::<Problem>().cloned());
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let version = header("faststate-version").and_then(|version| version.parse::<Version>().ok());
        let content_type = header("content-type").unwrap_or_default().to_owned();
        let body = timeout(WAIT_TIMEOUT, response.into_body().collect()).await;
        let body = body.unwrap_or_else(|_| panic!("the response did not end within {WAIT_TIMEOUT:?}"));
        let Ok(body) = body;
        // Datastar applies patches only from a 200.
        if status == StatusCode::OK {
            let merged = self.page.merge_response(&content_type, &body.to_bytes());
            merged.unwrap_or_else(|failure| panic!("{failure}"));
        }
        Sent { click: click.clone(), status, answer, problem, version }
    }

    /// Sends an event whose response is lost. Returns the request, to be [repeated](Self::repeat).
    ///
    /// # Panics
    /// Panics if the action cannot be parsed.
    pub async fn send_and_drop_reply(&mut self, act: impl Into<Act>) -> Click {
        let click = self.prepare(act);
        drop(self.respond(&click).await);
        click
    }

    /// Clicks on an element with this text or label, or that matches a selector beginning with `#`, `.` or `[`. A button in a
    /// form submits the form.
    ///
    /// # Panics
    /// Panics with the available elements if no such element has a `data-on:click`.
    pub async fn click(&mut self, element: &str) -> Sent {
        let action = self.action_on("click", element).unwrap_or_else(|failure| panic!("{failure}"));
        self.send(action).await
    }

    /// Submits the form that matches a selector.
    ///
    /// # Panics
    /// Panics with the available elements if no such element has a `data-on:submit`.
    pub async fn submit(&mut self, form: &str) -> Sent {
        let action = self.action_on("submit", form).unwrap_or_else(|failure| panic!("{failure}"));
        self.send(action).await
    }

    /// Sets a signal, as typing into the bound field does.
    pub fn fill(&mut self, signal: &str, value: impl Into<Value>) -> &mut Self {
        self.page.set(signal, value.into());
        self
    }

    /// Moves to another node, as a load balancer may do. The stream is closed and resumed there.
    pub async fn move_to(&mut self, node: &App) {
        self.app = node.clone();
        self.reconnect().await;
    }

    /// Returns the value of a signal on the page.
    #[must_use]
    pub fn signal(&self, path: &str) -> Option<&Value> {
        self.page.signal(path)
    }

    /// The status of the last page visit.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The visible text of the page. `data-text` and `data-show` are evaluated only if they name a single signal; another
    /// `data-text` is shown as its expression in braces.
    #[must_use]
    pub fn text(&self) -> String {
        self.page.text()
    }

    /// The current HTML of the page.
    #[must_use]
    pub fn html(&self) -> String {
        self.page.html()
    }

    /// The errors that Datastar would write to the console: patches without a target element, and `data-signals` that this
    /// kit cannot parse.
    #[must_use]
    pub fn console(&self) -> &[String] {
        self.page.console()
    }

    async fn open(&mut self, mut method: Method, path: &str, mut body: Bytes) {
        let mut path = path.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let mut request = Request::new(std::mem::take(&mut body));
            *request.uri_mut() = path.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
            let site = if method == Method::GET { "none" } else { "same-origin" };
            if method == Method::POST {
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(header::CONTENT_TYPE, form);
            }
            *request.method_mut() = std::mem::replace(&mut method, Method::GET);
            let request = self.request(request, site);
            let Some(response) = self.page_of(request).await else {
                panic!(
                    "this `App` renders no pages: set a renderer with `App::pages`, or use `follow` or `load`"
                );
            };
            self.keep_cookies(response.headers());
            self.status = response.status();
            let location = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            match location.filter(|_| self.status.is_redirection()) {
                Some(to) => path = to.to_owned(),
                None => return self.load(&String::from_utf8_lossy(response.body())).await,
            }
        }
        panic!("{path} redirects more than {MAX_REDIRECTS} times");
    }

    async fn page_of(&self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        if !self.app.endpoint().handles(request.uri().path()) {
            return self.app.page(request).await;
        }
        let (head, body) = self.respond_to(request.map(Full::new)).await.into_parts();
        let Ok(body) = body.collect().await;
        Some(Response::from_parts(head, body.to_bytes()))
    }

    async fn respond(&mut self, click: &Click) -> Response<ReplyBody> {
        let mut request = self.request(click.request(), "same-origin");
        datastar(&mut request);
        self.respond_to(request).await
    }

    async fn respond_to(&self, request: Request<Full<Bytes>>) -> Response<ReplyBody> {
        let peer = ([127, 0, 0, 1], 9).into();
        let response = self.app.endpoint().respond(request, Some(peer)).await;
        self.keep_cookies(response.headers());
        response
    }

    /// Adds the headers and the identity of this browser to a request.
    fn request<B>(&self, mut request: Request<B>, site: &'static str) -> Request<B> {
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

    fn keep_cookies(&self, headers: &HeaderMap) {
        headers.get_all(header::SET_COOKIE).iter().for_each(|cookie| self.keep_cookie(cookie));
    }

    fn keep_cookie(&self, cookie: &HeaderValue) {
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

    /// Returns the action of the form that a button submits.
    fn action_of_form(&self, button: &str) -> Option<String> {
        let is_it = |found: &&Element| match self.page.find(button) {
            Ok(selected) if is_selector(button) => selected.iter().any(|one| std::ptr::eq(*one, *found)),
            _ => self.page.text_of(found) == button || found.attribute("value") == Some(button),
        };
        let forms =
            self.page.elements().into_iter().filter_map(|form| Some((form, action_for(form, "submit")?)));
        let mut submitted =
            forms.filter(|(form, _)| form.find("button").iter().chain(&form.find("input")).any(is_it));
        submitted.next().map(|(_, action)| action.to_owned())
    }

    /// Returns the action of an element for a DOM event.
    fn action_on(&self, event: &str, element: &str) -> Result<String, Failure> {
        let selected = is_selector(element).then(|| self.page.find(element)).transpose()?;
        let mut candidates = Vec::new();
        for candidate in self.page.elements() {
            let Some(action) = action_for(candidate, event) else { continue };
            let text = self.page.text_of(candidate);
            let label = candidate.attribute("aria-label").unwrap_or(&text).to_owned();
            let is_it = match &selected {
                Some(found) => found.iter().any(|found| std::ptr::eq(*found, candidate)),
                None => text == element || label == element,
            };
            if is_it {
                return Ok(action.to_owned());
            }
            candidates.push(candidate.attribute("id").map_or(label, |id| format!("#{id}")));
        }
        if event == "click"
            && let Some(action) = self.action_of_form(element)
        {
            return Ok(action);
        }
        let candidates = if candidates.is_empty() { "no element".to_owned() } else { candidates.join(", ") };
        Err(Failure::new(
            format!("`{element}` has a `data-on:{event}`"),
            format!("this page has it on {candidates}"),
        ))
    }
}

/// Returns whether an attribute of a cookie removes the cookie.
fn removes_cookie(attribute: &str, value: &str) -> bool {
    let is = |name: &str| attribute.eq_ignore_ascii_case(name);
    (is("max-age") && value.parse::<i64>().is_ok_and(|seconds| seconds <= 0))
        || (is("expires") && value.contains("1970"))
}

fn is_selector(element: &str) -> bool {
    element.starts_with(['#', '.', '['])
}

/// Returns the action of an element for a DOM event.
fn action_for<'a>(element: &'a Element, event: &str) -> Option<&'a str> {
    let of_event = |name: &str| {
        let rest = name.strip_prefix("data-on:").and_then(|on| on.strip_prefix(event));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("__"))
    };
    element.attributes().find(|(name, _)| of_event(name)).map(|(_, action)| action)
}

fn datastar<B>(request: &mut Request<B>) {
    request.headers_mut().insert("datastar-request", HeaderValue::from_static("true"));
}

/// Parses the topics in a stream's URL.
fn topics_of(url: &str) -> Vec<TopicName> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let states = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "states");
    let states = states.map(|(_, states)| states.into_owned()).unwrap_or_default();
    states.split(',').filter_map(|topic| topic.parse().ok()).collect()
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser")
            .field("user", &self.user)
            .field("roles", &self.roles)
            .field("follow", &self.follow)
            .field("connected", &self.stream.is_some())
            .finish_non_exhaustive()
    }
}
