//! An in-process browser.

mod act;
mod client;
mod dom;
pub mod page;
mod script;
mod sent;
mod shown_page;
mod signal_tree;
pub mod sse;
mod stream;
mod value_diff;

use std::{fmt, future::Future, ops::Deref, panic::Location, time::Duration};

use bytes::Bytes;
use faststate_core::{Error, internal::TopicName};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use self::{
    act::{Act, Click},
    sent::Sent,
    shown_page::ShownPage,
};
use self::{
    client::BrowserClient,
    page::BrowserPage,
    script::Script,
    shown_page::json,
    stream::{PageStream, StreamWait},
};
use crate::App;

/// The deadline of a change that should arrive immediately, generous enough for a loaded machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// The pause between two polls of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A browser with one window, which merges streams and responses exactly as Datastar does.
///
/// It reads its stream only in [`settle`](Self::settle), [`read`](Self::read) and the methods that wait; otherwise it is a
/// lagging follower. It panics when a law is broken: a version that goes back, or bytes that no browser would merge.
pub struct Browser {
    client: BrowserClient,
    page: ShownPage,
    status: StatusCode,
    topics: Vec<TopicName>,
    stream: PageStream,
    hidden: bool,
}

impl Browser {
    /// Creates a browser without cookies at an empty page.
    #[must_use]
    pub fn new(app: &App) -> Self {
        Self::over(BrowserClient::new(app))
    }

    fn over(client: BrowserClient) -> Self {
        Self {
            client,
            page: ShownPage(BrowserPage::document("").unwrap_or_default()),
            status: StatusCode::OK,
            topics: Vec::new(),
            stream: PageStream::default(),
            hidden: false,
        }
    }

    /// Signs this browser in as `user`, instead of the identity that the application's closure returns.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.client.set_user(user);
        self
    }

    /// Adds a role to this browser.
    #[must_use]
    pub fn role(mut self, role: &str) -> Self {
        self.client.add_role(role);
        self
    }

    /// Adds a header to each request of this browser.
    ///
    /// # Panics
    /// Panics if the name or the value is not a valid header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap_or_else(|error| panic!("{error}: {value:?}"));
        self.client.add_header(name, value);
        self
    }

    /// Adds a cookie to this browser.
    #[must_use]
    pub fn cookie(self, name: &str, value: &str) -> Self {
        self.client.set_cookie(name, value);
        self
    }

    /// Opens a second window of this browser at an empty page, with the same cookies and therefore the same session.
    #[must_use]
    pub fn window(&self) -> Self {
        Self::over(self.client.clone())
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
        let request = self.client.request(Request::new(Bytes::new()), "none");
        let page = self.client.endpoint().page(&request.into_parts().0).await?;
        let mut body = String::new();
        for topic in topics.split(',') {
            let topic = topic.trim().parse().map_err(|_| Error::Unknown)?;
            body.extend(page.show_topic(topic).await?);
        }
        if let Some(cookie) = page.set_cookie() {
            self.client.keep_cookie(&cookie);
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
        let page = BrowserPage::document(html).unwrap_or_else(|failure| panic!("{failure}\n{html}"));
        let follow = page.attribute("data-init").map(|init| Script::new(init).followed());
        self.page = ShownPage(page);
        self.stream = PageStream::new(follow.and_then(Result::ok));
        self.topics = self.stream.topics();
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
        act.into()
            .click(self.page.0.signal_tree(), &self.topics)
            .unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Sends a prepared request again, with the same event id, and merges the response.
    ///
    /// # Panics
    /// Panics if the response cannot be merged.
    pub async fn repeat(&mut self, click: &Click) -> Sent {
        let response = self.client.send(click.request()).await;
        let sent = Sent::new(click, &response);
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let body = timeout(WAIT_TIMEOUT, response.into_body().collect()).await;
        let body = body.unwrap_or_else(|_| panic!("the response did not end within {WAIT_TIMEOUT:?}"));
        let Ok(body) = body;
        // Datastar applies patches only from a 200.
        if sent.status == StatusCode::OK {
            let merged = self.page.0.merge_response(&content_type, &body.to_bytes());
            merged.unwrap_or_else(|failure| panic!("{failure}"));
        }
        sent
    }

    /// Sends an event whose response is lost. Returns the request, to be [repeated](Self::repeat).
    ///
    /// # Panics
    /// Panics if the action cannot be parsed.
    pub async fn send_and_drop_reply(&mut self, act: impl Into<Act>) -> Click {
        let click = self.prepare(act);
        drop(self.client.send(click.request()).await);
        click
    }

    /// Clicks on an element with this text or label, or that matches a selector beginning with `#`, `.` or `[`. A button in a
    /// form submits the form.
    ///
    /// # Panics
    /// Panics with the available elements if no such element has a `data-on:click`.
    pub async fn click(&mut self, element: &str) -> Sent {
        let action = self.page.action_on("click", element).unwrap_or_else(|failure| panic!("{failure}"));
        self.send(action).await
    }

    /// Submits the form that matches a selector.
    ///
    /// # Panics
    /// Panics with the available elements if no such element has a `data-on:submit`.
    pub async fn submit(&mut self, form: &str) -> Sent {
        let action = self.page.action_on("submit", form).unwrap_or_else(|failure| panic!("{failure}"));
        self.send(action).await
    }

    /// Sets a signal, as typing into the bound field does.
    pub fn fill(&mut self, signal: &str, value: impl Into<Value>) -> &mut Self {
        self.page.0.set(signal, value.into());
        self
    }

    /// Moves to another node, as a load balancer may do. The stream is closed and resumed there.
    pub async fn move_to(&mut self, node: &App) {
        self.client.move_to(node);
        self.reconnect().await;
    }

    /// The status of the last page visit.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Hides the window. The stream is closed, and the page keeps its content.
    pub fn hide(&mut self) {
        self.hidden = true;
        self.close();
    }

    /// Shows the window again. The page resumes from its cursors.
    pub async fn show(&mut self) {
        self.hidden = false;
        self.connect().await;
    }

    /// Breaks the connection and resumes from the page's cursors. Unread bytes are lost.
    pub async fn reconnect(&mut self) {
        self.close();
        self.connect().await;
    }

    /// Breaks the connection after `bytes` more of the bytes that have arrived, even in the middle of a frame. The page has no
    /// stream until [`reconnect`](Self::reconnect), [`read`](Self::read) or [`settle`](Self::settle) opens one.
    ///
    /// # Panics
    /// Panics if the bytes before that cannot be merged.
    pub async fn disconnect_mid_frame(&mut self, mut bytes: usize) {
        while let Some(piece) = self.arrived().await {
            let kept = piece.len().min(bytes);
            self.feed(&piece[..kept]);
            bytes -= kept;
            if bytes == 0 {
                break;
            }
        }
        self.close();
    }

    /// Returns whether the page has an open stream.
    #[must_use]
    pub const fn is_following(&self) -> bool {
        self.stream.is_open()
    }

    /// Waits until every event that any node has accepted is complete, including its work after the commit, and merges the
    /// stream. A stream that has ended is opened again, as Datastar does.
    ///
    /// # Panics
    /// Panics after 20 s.
    #[track_caller]
    pub fn settle(&mut self) -> impl Future<Output = ()> + Send + '_ {
        let at = Location::caller();
        async move {
            let deadline = Instant::now() + WAIT_TIMEOUT;
            loop {
                for node in self.client.nodes() {
                    let settled = timeout_at(deadline, node.registry().settle()).await;
                    assert!(
                        settled.is_ok(),
                        "at {at}: work after a commit is still running: wait with `sees`"
                    );
                }
                let agreed = if self.hidden { Ok(()) } else { self.client.nodes_agree(&self.topics).await };
                self.read().await;
                let follows = self.hidden || self.stream.url().is_none() || self.stream.is_open();
                if agreed.is_ok() && follows {
                    return;
                }
                assert!(
                    Instant::now() < deadline,
                    "at {at}: not settled within {WAIT_TIMEOUT:?}: {}",
                    agreed.err().unwrap_or_else(|| "the stream cannot be opened".to_owned())
                );
                sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// Merges all bytes that have arrived. Returns the number of pieces.
    ///
    /// # Panics
    /// Panics if the bytes cannot be merged.
    pub async fn read(&mut self) -> usize {
        let mut pieces = 0;
        if !self.stream.is_open() {
            self.connect().await;
        }
        while let Some(piece) = self.arrived().await {
            self.feed(&piece);
            pieces += 1;
        }
        pieces
    }

    /// Asserts that no unread frame has arrived (law 14).
    ///
    /// # Panics
    /// Panics with the number of events.
    #[track_caller]
    pub fn assert_quiet(&mut self) -> impl Future<Output = ()> + Send + '_ {
        let at = Location::caller();
        async move {
            let before = self.page.0.events();
            self.read().await;
            let came = self.page.0.events() - before;
            assert!(came == 0, "at {at}: expected no events, but {came} arrived");
        }
    }

    /// Asserts that the page equals the server's state for every topic that it follows (law 4). Call
    /// [`settle`](Self::settle) first.
    ///
    /// # Panics
    /// Panics with the difference.
    #[track_caller]
    pub fn assert_current(&mut self) -> impl Future<Output = ()> + Send + '_ {
        let at = Location::caller();
        async move {
            for topic in &self.topics {
                let truth = self.client.truth(topic).await;
                let (truth, key) = truth
                    .unwrap_or_else(|error| panic!("at {at}: the server does not show {topic}: {error}"));
                let shown = self.page.check(topic, &key, &truth);
                shown.unwrap_or_else(|difference| panic!("at {at}: {difference}"));
            }
        }
    }

    /// Waits until a signal has this value, and merges the stream in the meantime.
    ///
    /// # Panics
    /// Panics with the difference after 20 s.
    #[track_caller]
    pub fn sees<'a>(
        &'a mut self,
        path: &'a str,
        expected: impl Serialize,
    ) -> impl Future<Output = ()> + Send + 'a {
        let (at, expected) = (Location::caller(), json(&expected));
        self.wait_until(at, move |page| {
            let expected = page.has_signal(path, &expected);
            expected.map_err(|difference| {
                format!("the signal `{path}` was not as expected within {WAIT_TIMEOUT:?}:{difference}")
            })
        })
    }

    /// Waits until the page shows this text, and merges the stream in the meantime.
    ///
    /// # Panics
    /// Panics with the visible text after 20 s.
    #[track_caller]
    pub fn reads<'a>(&'a mut self, text: &'a str) -> impl Future<Output = ()> + Send + 'a {
        self.wait_until(Location::caller(), move |page| {
            let seen = page.text();
            if seen.contains(text) {
                Ok(())
            } else {
                Err(format!("the page did not show {text:?} within {WAIT_TIMEOUT:?}, but:\n  {seen}"))
            }
        })
    }

    /// Merges the stream until the page passes the check.
    async fn wait_until(
        &mut self,
        at: &Location<'_>,
        check: impl Fn(&ShownPage) -> Result<(), String> + Send,
    ) {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while let Err(found) = check(&self.page) {
            let in_time = self.next(deadline).await;
            assert!(in_time, "at {at}: {found}");
        }
    }

    async fn open(&mut self, method: Method, path: &str, body: Bytes) {
        let response = self.client.visit(method, path, body).await;
        self.status = response.status();
        self.load(&String::from_utf8_lossy(response.body())).await;
    }

    /// Waits for the next piece and merges it. Reopens a stream that has ended. Returns false at the deadline.
    async fn next(&mut self, deadline: Instant) -> bool {
        if !self.stream.is_open() {
            sleep(POLL_INTERVAL).await;
            self.connect().await;
            return Instant::now() < deadline;
        }
        match self.stream.wait(deadline).await {
            StreamWait::Piece(piece) => self.feed(&piece),
            StreamWait::Ended => self.close(),
            StreamWait::TimedOut => return false,
        }
        true
    }

    /// Opens the page's stream, unless the window is hidden or the page follows nothing.
    async fn connect(&mut self) {
        if !self.hidden {
            self.stream.open(&self.client, &self.page.0.cursors()).await;
        }
    }

    fn close(&mut self) {
        self.stream.close();
        self.page.0.cut();
    }

    /// Returns the next piece that has arrived, if any.
    async fn arrived(&mut self) -> Option<Bytes> {
        let (was_open, piece) = (self.stream.is_open(), self.stream.arrived().await);
        if was_open && !self.stream.is_open() {
            self.close();
        }
        piece
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.page.0.feed(bytes).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

impl Deref for Browser {
    type Target = ShownPage;

    fn deref(&self) -> &ShownPage {
        &self.page
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser")
            .field("client", &self.client)
            .field("follow", &self.stream.url())
            .field("connected", &self.stream.is_open())
            .finish_non_exhaustive()
    }
}
