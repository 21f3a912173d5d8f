//! The page of a request: its viewer, the topics that it follows, and its initial signals.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use faststate_core::{
    Action, Elements, Error, Handle, ReactiveState, SessionId, Snapshot, View, Viewer,
    internal::{Part, Rendered, TopicName, attribute, check_name},
};
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Endpoint, field_errors::FieldErrors, nest, request_identity::RequestIdentity, route::STREAM};

/// The characters that are escaped in a query's value. `%` is among them, because topics are percent-encoded already.
const QUERY_ESCAPES: &AsciiSet =
    &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'#').add(b'+').add(b'\'').add(b'"');

/// Collects the states and views that a page shows, so that the page follows exactly those.
///
/// ```text
/// <body data-signals="{{ page.signals() }}" data-init="{{ page.follow_action() }}">
/// ```
///
/// Its signals contain the cursors from the moment of rendering, so that no change is missed between rendering and
/// following. The signal `$_stale` is true while a store fails and the page shows the last known state:
/// `<p role="status" data-show="$_stale">This may be out of date.</p>`. The signal `$_cookies_blocked` is true if the
/// browser does not send the session cookie back, so that its session is lost after each request: see
/// [`cookies_blocked`](Self::cookies_blocked).
///
/// Call [`signals`](Self::signals) and [`follow_action`](Self::follow_action) once all parts are collected. A clone is
/// cheap and is the same page.
#[derive(Clone)]
pub struct Page {
    inner: Arc<PageInner>,
}

struct PageInner {
    endpoint: Endpoint,
    visitor: RequestIdentity,
    same_site: bool,
    content: Mutex<PageContent>,
}

struct PageContent {
    topics: Vec<TopicName>,
    signals: Value,
    /// The cookie of the renewed session.
    renewed: Option<HeaderValue>,
}

impl Page {
    pub(super) fn new(endpoint: Endpoint, visitor: RequestIdentity, same_site: bool) -> Self {
        let signals = json!({ "_errors": {}, "_problem": "", "_stale": false, "_cookies_blocked": false });
        let content = Mutex::new(PageContent { topics: Vec::new(), signals, renewed: None });
        Self { inner: Arc::new(PageInner { endpoint, visitor, same_site, content }) }
    }

    /// Shows and follows the signals of the viewer's instance of `S`.
    ///
    /// # Errors
    /// As [`Registry::read`](faststate_core::Registry::read), and [`Error::Unknown`] if access is refused.
    pub async fn follow<S: ReactiveState>(&self) -> Result<Snapshot<S>, Error> {
        self.signals_of(TopicName::signals(S::NAME)).await
    }

    /// Shows and follows the signals of a record or component.
    ///
    /// # Errors
    /// As [`follow`](Self::follow); [`Error::Unknown`] for a record that does not exist or that this viewer may not see.
    pub async fn follow_id<S: ReactiveState>(&self, id: &str) -> Result<Snapshot<S>, Error> {
        self.signals_of(TopicName::signals(S::NAME).of(id)).await
    }

    /// Shows and follows a view. Put its [`Elements::html`] into the page.
    ///
    /// # Errors
    /// As [`follow`](Self::follow).
    pub async fn view<V: View>(&self) -> Result<Elements, Error> {
        self.elements_of(TopicName::signals(V::State::NAME).view(V::NAME)).await
    }

    /// Shows and follows a view of a record or component.
    ///
    /// # Errors
    /// As [`follow_id`](Self::follow_id).
    pub async fn view_id<V: View>(&self, id: &str) -> Result<Elements, Error> {
        self.elements_of(TopicName::signals(V::State::NAME).of(id).view(V::NAME)).await
    }

    /// Adds a signal of the page itself, which the server does not keep: a step, a filter, an open tab.
    ///
    /// The name follows the rules for names of states. Any other name is logged and left out, including names that begin
    /// with `_`: declare those in the page, as in `data-signals:_open="false"`.
    pub fn signal(&self, name: &str, value: impl Into<Value>) -> &Self {
        if check_name(name).is_ok() {
            nest::merge(&mut self.inner.content.lock().signals, nest::object(&[name], value.into()));
        } else {
            tracing::error!(name, "a page's signal is left out: name it `[a-z][a-z0-9_]*` without `__`");
        }
        self
    }

    /// Adds the signals for messages beside the fields of events of `S`: `$_errors.state.field`, with the id after the
    /// state for a record or component.
    ///
    /// A followed state already has them. Call this for a page that sends events to a state without following it,
    /// because an expression that reads `$_errors.product.p1.name` throws if `$_errors.product` does not exist.
    pub fn errors<S: ReactiveState>(&self, id: Option<&str>) {
        let errors = FieldErrors::of(S::NAME, id);
        nest::merge(&mut self.inner.content.lock().signals, errors.initial());
    }

    /// Returns the initial signals, for `data-signals`. A template's escaping does not change them.
    #[must_use]
    pub fn signals(&self) -> String {
        attribute(&self.inner.content.lock().signals)
    }

    /// Returns the action that follows everything the page shows, for `data-init`. A template's escaping does not
    /// change it.
    #[must_use]
    pub fn follow_action(&self) -> String {
        let topics = self.inner.content.lock().topics.clone();
        let heartbeat = self.inner.endpoint.settings().heartbeat;
        if topics.is_empty() {
            return Action::check_answers(heartbeat);
        }
        let names: Vec<String> = topics.iter().map(ToString::to_string).collect();
        let names = names.join(",");
        let url = format!("{STREAM}?states={}", utf8_percent_encode(&names, QUERY_ESCAPES));
        Action::follow_within(&url, heartbeat)
    }

    /// Returns the `<script>` that loads Datastar, for the page's head. It is HTML, which a template must not escape
    /// (`{{ script|safe }}`).
    #[must_use]
    pub fn datastar_script(&self) -> String {
        self.inner.endpoint.settings().bundle.script()
    }

    /// Returns the attributes of a notice that is visible only if the browser does not send the session cookie back.
    ///
    /// Without the cookie, each request begins a new session, so controls seem to do nothing. The attributes are HTML,
    /// which a template must not escape:
    ///
    /// ```text
    /// <p role="alert" {{ page.cookies_blocked()|safe }}>Your browser blocks this site's cookies: allow them.</p>
    /// ```
    ///
    /// The stream sets the signal behind it, so the page must follow at least one topic.
    #[must_use]
    pub const fn cookies_blocked(&self) -> &'static str {
        "data-show=\"$_cookies_blocked\" style=\"display: none\""
    }

    /// Returns the viewer, as identified when the page was made.
    ///
    /// A handler gets its page before it reads the request's body, and a client can delay the body. Before such a handler
    /// acts on the viewer's rights, it must identify the viewer again with [`Endpoint::visitor`] (law 8).
    #[must_use]
    pub fn viewer(&self) -> &Viewer {
        self.inner.visitor.viewer()
    }

    /// Returns whether the request came from a page of this site, by the same rule as for events (law 8).
    ///
    /// Check it in the application's own handlers that change something, such as the handler of a form.
    #[must_use]
    pub fn same_site(&self) -> bool {
        self.inner.same_site
    }

    /// Gives the visitor a new session and returns its id. The response sets its cookie.
    ///
    /// Call it at sign-in, so that a session id which an attacker has seen or planted becomes useless. States of the old
    /// session stay with that session. Open windows follow the new session once their streams are
    /// [closed](Endpoint::close_streams).
    ///
    /// The response to another site's POST sets no cookie. A sign-in that ends with such a POST, as with SAML, must
    /// answer it with a 303 to a page of this site, which renews the session.
    #[must_use]
    pub fn renew_session(&self) -> SessionId {
        let (session, cookie) = self.inner.endpoint.settings().cookie.mint();
        self.inner.content.lock().renewed = Some(cookie);
        session
    }

    /// Returns the endpoint that made the page.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Returns the `Set-Cookie` header of the session, if the session is new or its cookie is renewed.
    #[must_use]
    pub fn set_cookie(&self) -> Option<HeaderValue> {
        let renewed = self.inner.content.lock().renewed.clone();
        let renewed = renewed.filter(|_| self.inner.visitor.sets_cookies());
        renewed.or_else(|| self.inner.visitor.set_cookie().cloned())
    }

    /// Adds the `Set-Cookie` headers that set and remove cookies to the response's headers.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let cookies = self.set_cookie().into_iter().chain(self.inner.visitor.removals().iter().cloned());
        cookies.for_each(|cookie| {
            headers.append(header::SET_COOKIE, cookie);
        });
    }

    async fn signals_of<S: ReactiveState>(&self, topic: TopicName) -> Result<Snapshot<S>, Error> {
        let registry = self.inner.endpoint.registry();
        // A handle does not check access, but `visible` does.
        let visible = self.visible(&topic).await?;
        let handle = Handle::<S>::of(Arc::clone(registry), self.viewer(), topic.id.as_deref())?;
        let snapshot = handle.read().await?;
        match visible {
            Rendered::Signals(json) | Rendered::View(_, json) => self.collect(topic, &json)?,
        }
        Ok(snapshot)
    }

    async fn elements_of(&self, topic: TopicName) -> Result<Elements, Error> {
        match self.visible(&topic).await? {
            Rendered::View(elements, json) => {
                self.collect(topic, &json)?;
                Ok(elements)
            }
            Rendered::Signals(_) => Err(Error::Unknown),
        }
    }

    async fn visible(&self, topic: &TopicName) -> Result<Rendered, Error> {
        let registry = self.inner.endpoint.registry();
        registry.engine().visible(topic, self.viewer()).await.inspect_err(|error| {
            if matches!(error, Error::Unknown) {
                let part = topic.view.as_deref().map_or(Part::Signals, Part::View);
                registry.engine().report_mistake(&topic.state, topic.id.is_some(), part);
            }
        })
    }

    /// Shows and follows any topic; returns the HTML of a view. For tests that follow topics by name.
    #[doc(hidden)]
    pub async fn show_topic(&self, topic: TopicName) -> Result<Option<String>, Error> {
        match self.inner.endpoint.registry().engine().visible(&topic, self.viewer()).await? {
            Rendered::View(elements, json) => {
                self.collect(topic, &json)?;
                Ok(Some(elements.html().to_owned()))
            }
            Rendered::Signals(json) => self.collect(topic, &json).map(|()| None),
        }
    }

    fn collect(&self, topic: TopicName, json: &Bytes) -> Result<(), Error> {
        let signals: Value = serde_json::from_slice(json)
            .map_err(|error| Error::internal("a topic's signals are not JSON", &error.into()))?;
        let registry = self.inner.endpoint.registry();
        let stale = registry.key(&topic.state, self.viewer(), topic.id.as_deref());
        let stale = stale.is_ok_and(|key| registry.engine().is_stale(&key));
        let mut content = self.inner.content.lock();
        nest::merge(&mut content.signals, signals);
        if stale {
            nest::merge(&mut content.signals, json!({ "_stale": true }));
        }
        // A page can then read `$_errors.counter.amount` before the first message.
        let errors = FieldErrors::of(&topic.state, topic.id.as_deref());
        nest::merge(&mut content.signals, errors.initial());
        if !content.topics.contains(&topic) {
            content.topics.push(topic);
        }
        Ok(())
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics = &self.inner.content.lock().topics;
        f.debug_struct("Page").field("viewer", self.viewer()).field("topics", topics).finish()
    }
}
