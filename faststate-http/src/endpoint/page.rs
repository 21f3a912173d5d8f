//! What a page shows and follows.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use faststate_core::{
    Action, Elements, Error, Handle, ReactiveState, SessionId, Snapshot, View, Viewer,
    internal::check_name,
    registry::{Part, Rendered, TopicName},
    wire::attribute,
};
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Endpoint, RequestIdentity, field_errors::FieldErrors, nest, route::STREAM};

/// What a query's value must not contain as it is; the topics' own encoding is encoded once more.
const IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'#').add(b'+').add(b'\'').add(b'"');

/// Collects what a page shows, so that the page follows exactly that.
///
/// ```text
/// <body data-signals="{{ page.signals() }}" data-init="{{ page.follow_action() }}">
/// ```
///
/// Its signals carry the cursors of the moment of rendering, so that nothing falls between rendering and
/// following. The signal `$_stale` is true while a store does not answer, and the page shows what this node
/// remembers: `<p role="status" data-show="$_stale">This may be out of date.</p>`. The signal `$_cookies_blocked` is
/// true where the browser does not send the session cookie back, so that nothing of the session is kept: see
/// [`cookies_blocked`](Self::cookies_blocked).
///
/// Ask for [`signals`](Self::signals) and [`follow_action`](Self::follow_action) once everything is collected. Cheap to
/// clone; clones are the same page.
#[derive(Clone)]
pub struct Page {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    visitor: RequestIdentity,
    same_site: bool,
    collected: Mutex<Collected>,
}

struct Collected {
    topics: Vec<TopicName>,
    signals: Value,
    /// The cookie of the session that the visitor goes on with.
    renewed: Option<HeaderValue>,
}

impl Page {
    pub(super) fn new(endpoint: Endpoint, visitor: RequestIdentity, same_site: bool) -> Self {
        let signals = json!({ "_errors": {}, "_problem": "", "_stale": false, "_cookies_blocked": false });
        let collected = Mutex::new(Collected { topics: Vec::new(), signals, renewed: None });
        Self { inner: Arc::new(Inner { endpoint, visitor, same_site, collected }) }
    }

    /// Shows and follows the signals of the viewer's instance of `S`.
    ///
    /// # Errors
    /// As [`Registry::visible`](faststate_core::Registry::visible).
    pub async fn follow<S: ReactiveState>(&self) -> Result<Snapshot<S>, Error> {
        self.signals_of(TopicName::signals(S::NAME)).await
    }

    /// Shows and follows the signals of a record or component.
    ///
    /// # Errors
    /// As [`follow`](Self::follow); [`Error::Unknown`] for a record that does not exist or is not this
    /// viewer's to see.
    pub async fn follow_id<S: ReactiveState>(&self, id: &str) -> Result<Snapshot<S>, Error> {
        self.signals_of(TopicName::signals(S::NAME).of(id)).await
    }

    /// Shows and follows a view: put [`Elements::html`] where the view belongs.
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
    /// The name is one like a state's; one that is not is left out, with an entry in the log. So is one that begins
    /// with `_`, which a page makes itself: `data-signals:_open="false"`.
    pub fn signal(&self, name: &str, value: impl Into<Value>) -> &Self {
        if check_name(name).is_ok() {
            nest::merge(&mut self.inner.collected.lock().signals, nest::object(&[name], value.into()));
        } else {
            tracing::error!(name, "a page's signal is named `[a-z][a-z0-9_]*` without `__`; left out");
        }
        self
    }

    /// Adds the signals for messages beside the fields of events of `S`: `$_errors.state.field`, with the id after the
    /// state for a record or component.
    ///
    /// A followed state has them already. Call this for a page that sends events to a state without following it:
    /// an expression that reads `$_errors.product.p1.name` throws if `$_errors.product` does not exist.
    pub fn errors<S: ReactiveState>(&self, id: Option<&str>) {
        let errors = FieldErrors::of(S::NAME, id);
        nest::merge(&mut self.inner.collected.lock().signals, errors.initial());
    }

    /// The initial signals, for `data-signals`: the same escaped by a template and raw.
    #[must_use]
    pub fn signals(&self) -> String {
        attribute(&self.inner.collected.lock().signals)
    }

    /// The action that follows everything the page shows, for `data-init`: the same escaped and raw.
    #[must_use]
    pub fn follow_action(&self) -> String {
        let topics = self.inner.collected.lock().topics.clone();
        let heartbeat = self.inner.endpoint.settings().heartbeat;
        if topics.is_empty() {
            return Action::check_answers(heartbeat);
        }
        let names: Vec<String> = topics.iter().map(ToString::to_string).collect();
        let names = names.join(",");
        let url = format!("{STREAM}?states={}", utf8_percent_encode(&names, IN_QUERY));
        Action::follow_within(&url, heartbeat)
    }

    /// The `<script>` that loads Datastar, for the page's head: HTML, which a template must not escape
    /// (`{{ script|safe }}`).
    #[must_use]
    pub fn datastar_script(&self) -> String {
        self.inner.endpoint.settings().bundle.script()
    }

    /// The attributes of a notice that shows only while the browser does not send the session cookie back. Without
    /// the cookie each request begins a session of its own, so controls seem to do nothing. HTML, which a template must
    /// not escape:
    ///
    /// ```text
    /// <p role="alert" {{ page.cookies_blocked()|safe }}>Your browser blocks this site's cookies: allow them.</p>
    /// ```
    ///
    /// The page learns it from its stream, so the page must follow something.
    #[must_use]
    pub const fn cookies_blocked(&self) -> &'static str {
        "data-show=\"$_cookies_blocked\" style=\"display: none\""
    }

    /// The viewer of the page, as identified when the page was made.
    ///
    /// A handler that reads a body gets its page first, and the client may hold the body back. Before such a handler acts
    /// on the viewer's rights, it identifies the viewer again, with [`Endpoint::visitor`] (law 8).
    #[must_use]
    pub fn viewer(&self) -> &Viewer {
        self.inner.visitor.viewer()
    }

    /// Whether the request came from a page of this site, by the rule that events are held to: ask in a
    /// handler of your own that changes something, a form's for instance (law 8).
    #[must_use]
    pub fn same_site(&self) -> bool {
        self.inner.same_site
    }

    /// Has the visitor go on with a new session, whose cookie the answer carries, and gives its id.
    ///
    /// For whoever has just proved who they are: an id that somebody else has seen, or planted, is then
    /// worth nothing. States of the old session stay with it. Windows that are open follow the new session
    /// once their streams are [closed](Endpoint::close_streams).
    ///
    /// The response to another site's POST sets no cookie. A sign-in that ends with one, as with SAML, answers it
    /// with a 303 to a page of this site, which renews the session.
    #[must_use]
    pub fn renew_session(&self) -> SessionId {
        let (session, cookie) = self.inner.endpoint.settings().cookie.mint();
        self.inner.collected.lock().renewed = Some(cookie);
        session
    }

    /// The endpoint that the page belongs to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// The `Set-Cookie` that carries the session, if it is new or its cookie is renewed.
    #[must_use]
    pub fn set_cookie(&self) -> Option<HeaderValue> {
        let renewed = self.inner.collected.lock().renewed.clone();
        let renewed = renewed.filter(|_| self.inner.visitor.sets_cookies());
        renewed.or_else(|| self.inner.visitor.set_cookie().cloned())
    }

    /// Puts every cookie on the response that it must set or remove.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let cookies = self.set_cookie().into_iter().chain(self.inner.visitor.removals().iter().cloned());
        cookies.for_each(|cookie| {
            headers.append(header::SET_COOKIE, cookie);
        });
    }

    async fn signals_of<S: ReactiveState>(&self, topic: TopicName) -> Result<Snapshot<S>, Error> {
        let registry = self.inner.endpoint.registry();
        // This also checks access, which a handle does not.
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
        registry.visible(topic, self.viewer()).await.inspect_err(|error| {
            if matches!(error, Error::Unknown) {
                let part = topic.view.as_deref().map_or(Part::Signals, Part::View);
                registry.report_mistake(&topic.state, topic.id.is_some(), part);
            }
        })
    }

    /// Shows and follows any topic: its elements, if it is a view.
    #[doc(hidden)]
    pub async fn show_topic(&self, topic: TopicName) -> Result<Option<String>, Error> {
        match self.inner.endpoint.registry().visible(&topic, self.viewer()).await? {
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
        let stale = stale.is_ok_and(|key| registry.is_stale(&key));
        let mut collected = self.inner.collected.lock();
        nest::merge(&mut collected.signals, signals);
        if stale {
            nest::merge(&mut collected.signals, json!({ "_stale": true }));
        }
        // A page can then read `$_errors.counter.amount` before there is a message.
        let errors = FieldErrors::of(&topic.state, topic.id.as_deref());
        nest::merge(&mut collected.signals, errors.initial());
        if !collected.topics.contains(&topic) {
            collected.topics.push(topic);
        }
        Ok(())
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics = &self.inner.collected.lock().topics;
        f.debug_struct("Page").field("viewer", self.viewer()).field("topics", topics).finish()
    }
}
