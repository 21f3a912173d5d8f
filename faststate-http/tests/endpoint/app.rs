//! A small application, and a client that calls its endpoint without a socket.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use faststate_core::{
    Access, Context, Elements, Event, ReactiveState, Rejection, StateConfig, StateRegistry, Store, View,
    Viewer, registry::RegistryBuilder,
};
use faststate_http::endpoint::{Endpoint, Identity, ReplyBody};
use http::{Method, Request, Response, request::Parts};
use http_body_util::{BodyExt as _, Full};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) count: i64,
}

impl ReactiveState for Counter {
    const NAME: &'static str = "counter";
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Increment {
    pub(crate) amount: i64,
    #[serde(default)]
    pub(crate) user: String,
}

impl Event for Increment {
    type State = Counter;
    const NAME: &'static str = "increment";

    fn apply(&self, counter: &mut Counter, _: &mut Context<Counter>) -> Result<(), Rejection> {
        if self.amount > 100 {
            return Err(Rejection::invalid("at most <100>").field("amount"));
        }
        if self.amount == 13 {
            panic!("thirteen");
        }
        counter.count += self.amount;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Visit {}

impl Event for Visit {
    type State = Counter;
    const NAME: &'static str = "visit";
    const METHOD: Method = Method::GET;
    const PATH: Option<&'static str> = Some("/visit");

    fn apply(&self, counter: &mut Counter, context: &mut Context<Counter>) -> Result<(), Rejection> {
        counter.count += 1;
        context.reply(Elements::inner("#thanks", "<b>thanks</b>"));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Tick {}

impl Event for Tick {
    type State = Counter;
    const NAME: &'static str = "tick";

    fn apply(&self, _: &mut Counter, context: &mut Context<Counter>) -> Result<(), Rejection> {
        context.stream(|_, reply| async move {
            for tick in 1..=3 {
                let _ = reply.signals(&BTreeMap::from([("tick", tick)])).await;
            }
        });
        Ok(())
    }
}

pub(crate) struct Shown;

impl View for Shown {
    type State = Counter;
    const NAME: &'static str = "shown";

    fn render(&self, counter: &Counter) -> Elements {
        Elements::outer(format!("<p id=\"shown\">{}</p>", counter.count))
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) text: String,
    /// No event changes it, so only snapshots contain it.
    pub(crate) title: String,
}

impl ReactiveState for Note {
    const NAME: &'static str = "note";
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) text: String,
}

impl Event for Write {
    type State = Note;
    const NAME: &'static str = "write";

    fn apply(&self, note: &mut Note, _: &mut Context<Note>) -> Result<(), Rejection> {
        note.text.clone_from(&self.text);
        Ok(())
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Vault {
    pub(crate) gold: u64,
}

impl ReactiveState for Vault {
    const NAME: &'static str = "vault";
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Deposit {
    pub(crate) gold: u64,
}

impl Event for Deposit {
    type State = Vault;
    const NAME: &'static str = "deposit";

    fn apply(&self, vault: &mut Vault, _: &mut Context<Vault>) -> Result<(), Rejection> {
        vault.gold += self.gold;
        Ok(())
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) name: String,
}

impl ReactiveState for Profile {
    const NAME: &'static str = "profile";
}

/// Identifies users: a header names the user, and closing the doorman signs all users out.
#[derive(Clone, Default)]
pub(crate) struct Doorman {
    pub(crate) closed: Arc<AtomicBool>,
}

impl Doorman {
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn identify(&self, parts: &Parts) -> Identity {
        let user = parts.headers.get("x-user").and_then(|user| user.to_str().ok());
        match user {
            Some(user) if !self.closed.load(Ordering::SeqCst) => Identity::user(user).with_role("keeper"),
            _ => Identity::nobody(),
        }
    }
}

pub(crate) fn registry() -> Arc<StateRegistry> {
    registry_with(StateRegistry::builder(), |config| config)
}

/// Returns the application whose states are all persisted in `store`.
pub(crate) fn persisted(store: &Arc<impl Store>) -> Arc<StateRegistry> {
    registry_with(StateRegistry::builder().store(Arc::clone(store)), |config| config.persist())
}

/// Adds the application's states to the builder, with every state's configuration changed by `config`.
pub(crate) fn registry_with(
    builder: RegistryBuilder,
    config: impl Fn(StateConfig) -> StateConfig,
) -> Arc<StateRegistry> {
    builder
        .state::<Counter>(config(StateConfig::global().access(Access::public())), |state| {
            state.event::<Increment>().event::<Visit>().event::<Tick>().view(Shown)
        })
        .state::<Note>(config(StateConfig::session()), |state| state.event::<Write>())
        .state::<Vault>(config(StateConfig::record().access(Access::role("keeper"))), |state| {
            state
                .event::<Deposit>()
                .initial(|key| async move { (key.id().as_deref() != Some("none")).then(Vault::default) })
        })
        .state::<Profile>(config(StateConfig::user()), |state| state)
        .build()
        .unwrap()
}

pub(crate) fn endpoint(registry: &Arc<StateRegistry>, doorman: &Doorman) -> Endpoint {
    let doorman = doorman.clone();
    Endpoint::new(Arc::clone(registry) as _)
        .identity(move |parts| std::future::ready(doorman.identify(parts)))
}

/// Returns the application and a client without a cookie.
pub(crate) fn start() -> (Arc<StateRegistry>, Client) {
    let registry = registry();
    let client = Client::of(endpoint(&registry, &Doorman::default()));
    (registry, client)
}

pub(crate) async fn count(registry: &Arc<StateRegistry>) -> i64 {
    registry.global::<Counter>().unwrap().read().await.unwrap().count
}

/// A client that keeps one cookie and sends the same headers with each request.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) endpoint: Endpoint,
    pub(crate) cookie: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl Client {
    pub(crate) fn of(endpoint: Endpoint) -> Self {
        Self { endpoint, cookie: None, headers: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    /// Sends the headers of the bundle on a page of this site.
    pub(crate) fn datastar(self) -> Self {
        self.with("datastar-request", "true").with("sec-fetch-site", "same-origin")
    }

    pub(crate) async fn send(&mut self, method: Method, uri: &str, body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(uri).header("host", "app.example");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = self.endpoint.respond(request, Some("127.0.0.1:9".parse().unwrap())).await;
        if let Some(set) = response.headers().get("set-cookie") {
            self.cookie = Some(set.to_str().unwrap().split(';').next().unwrap().to_owned());
        }
        Answer { response, deadline: Instant::now() + Duration::from_secs(20) }
    }

    pub(crate) async fn post(&mut self, uri: &str, body: impl Into<Bytes>) -> Answer {
        let mut typed = self.clone().with("content-type", "application/json");
        let answer = typed.send(Method::POST, uri, body).await;
        self.cookie = typed.cookie;
        answer
    }

    pub(crate) async fn get(&mut self, uri: &str) -> Answer {
        self.send(Method::GET, uri, "").await
    }

    pub(crate) async fn increment(&mut self, amount: i64) -> Answer {
        self.post("/faststate/counter/increment", format!("{{\"amount\":{amount}}}")).await
    }
}

pub(crate) struct Answer {
    pub(crate) response: Response<ReplyBody>,
    deadline: Instant,
}

impl Answer {
    /// Extends the deadline beyond a stream's longest silence, for tests with paused time.
    pub(crate) fn patient(self) -> Self {
        Self { deadline: Instant::now() + Duration::from_secs(1_000), ..self }
    }

    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Returns the next piece of the body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Option<String> {
        let frame = tokio::time::timeout_at(self.deadline, self.response.body_mut().frame()).await;
        let frame = frame.expect("a piece within the deadline")?;
        Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    }

    /// Returns the pieces up to the one that contains `text`.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            all.push_str(&self.piece().await.unwrap_or_else(|| panic!("no `{text}` in {all}")));
        }
        all
    }

    /// Returns the whole body.
    pub(crate) async fn text(mut self) -> String {
        let mut all = String::new();
        while let Some(piece) = self.piece().await {
            all.push_str(&piece);
        }
        all
    }

    pub(crate) async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Returns the status and the body as a problem.
    pub(crate) async fn problem(self) -> (u16, Value) {
        assert_eq!(self.header("content-type"), "application/problem+json");
        (self.status(), self.json().await)
    }
}

/// Returns the signals of the last patch in `events`.
pub(crate) fn last_signals(events: &str) -> Value {
    let line = events.lines().rev().find_map(|line| line.strip_prefix("data: signals ")).unwrap();
    serde_json::from_str(line).unwrap()
}

/// Encodes a page's cursors for the URL, as the follow action sends them.
pub(crate) fn cursors(signals: &Value) -> String {
    let text = signals.to_string();
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

pub(crate) fn viewer_of(user: &str) -> impl Fn(&Viewer) -> bool + use<> {
    let user = user.to_owned();
    move |viewer| viewer.user() == Some(&user)
}
