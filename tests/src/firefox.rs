//! Firefox, driven over WebDriver BiDi.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, ErrorKind},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, client, protocol::Role};

use crate::{
    devtools::lock,
    value::text_of,
    window::{Cookie, Key, WITNESS, Window, check_complaints, middle},
};

/// The deadline of one command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Ends the browser together with this program, and removes its profile.
const LAUNCH: &str =
    r#"profile=$1; shift; "$@" </dev/null >/dev/null & read -r _; kill $!; wait; rm -rf "$profile""#;

/// Firefox prints this text and the address once it accepts connections.
const LISTENING: &str = "WebDriver BiDi listening on ";

/// Settings that suppress dialogs and requests to Mozilla. Every window treats itself as focused,
/// so that tests do not disturb each other.
const PREFERENCES: &str = r#"
user_pref("focusmanager.testmode", true);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.page", 0);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
user_pref("app.update.disabledForTesting", true);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,#remote-settings-dummy/v1");
"#;

/// One running Firefox; it ends with the last of its sessions.
#[derive(Debug)]
struct Firefox {
    writer: Mutex<WebSocket<TcpStream>>,
    next: AtomicU64,
    inbox: Arc<Mutex<Inbox>>,
    /// The browser ends when this pipe does.
    pipe: Option<ChildStdin>,
    child: Child,
}

/// The commands that wait for an answer, and the complaints of each window's console.
#[derive(Debug, Default)]
struct Inbox {
    waiting: HashMap<u64, mpsc::Sender<Value>>,
    complaints: HashMap<String, Vec<String>>,
}

/// Windows with their own cookies, caches and connections.
#[derive(Debug)]
pub struct Session {
    context: Arc<UserContext>,
}

/// Closed with its last window.
#[derive(Debug)]
struct UserContext {
    firefox: Arc<Firefox>,
    id: String,
}

/// One window with one page.
#[derive(Debug)]
pub struct Tab {
    context: Arc<UserContext>,
    id: String,
    expected: Mutex<Vec<&'static str>>,
}

impl Session {
    /// Opens a new session in this program's Firefox.
    #[must_use]
    pub fn new() -> Self {
        static SHARED: LazyLock<Arc<Firefox>> = LazyLock::new(|| Arc::new(Firefox::launch()));
        let firefox = Arc::clone(&SHARED);
        let id = text_of(&firefox.call("browser.createUserContext", &json!({}))["userContext"]);
        Self { context: Arc::new(UserContext { firefox, id }) }
    }

    /// Opens an empty window.
    #[must_use]
    pub fn window(&self) -> Tab {
        let firefox = &self.context.firefox;
        let created = json!({ "type": "window", "userContext": self.context.id });
        let id = text_of(&firefox.call("browsingContext.create", &created)["context"]);
        let script = json!({ "functionDeclaration": format!("() => {{ {WITNESS} }}"), "contexts": [id] });
        firefox.call("script.addPreloadScript", &script);
        Tab { context: Arc::clone(&self.context), id, expected: Mutex::default() }
    }

    pub(crate) fn cookies(&self) -> Vec<Cookie> {
        let cookies = self.storage("storage.getCookies", json!({}));
        let cookie = |cookie: &Value| Cookie {
            domain: text_of(&cookie["domain"]),
            name: text_of(&cookie["name"]),
            value: text_of(&cookie["value"]["value"]),
            expires: cookie["expiry"].as_i64().unwrap_or_default(),
        };
        cookies["cookies"].as_array().into_iter().flatten().map(cookie).collect()
    }

    pub(crate) fn set_cookie(&self, cookie: &Cookie) {
        let Cookie { domain, name, value, expires } = cookie;
        let value = json!({ "type": "string", "value": value });
        let cookie = json!({
            "domain": domain, "path": "/", "name": name, "value": value, "expiry": expires, "httpOnly": true,
            "sameSite": "lax",
        });
        self.storage("storage.setCookie", json!({ "cookie": cookie }));
    }

    fn storage(&self, method: &str, mut params: Value) -> Value {
        params["partition"] = json!({ "type": "storageKey", "userContext": self.context.id });
        self.context.firefox.call(method, &params)
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Tab {
    fn call(&self, method: &str, mut params: Value) -> Value {
        params["context"] = json!(self.id);
        self.context.firefox.call(method, &params)
    }

    fn keys(&self, keys: &[char]) {
        // Only the frontmost window receives keys.
        self.call("browsingContext.activate", json!({}));
        let strokes = keys.iter().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
        });
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>() }]);
        self.call("input.performActions", json!({ "actions": actions }));
    }
}

impl Window for Tab {
    fn run(&self, script: &str) -> Result<Value, String> {
        // Only JSON values are returned unchanged.
        let expression = format!(
            "Promise.resolve((0, eval)({})).then(value => JSON.stringify(value ?? null))",
            json!(script)
        );
        let params = json!({
            "expression": expression, "target": { "context": self.id }, "awaitPromise": true, "userActivation": true,
        });
        let answer = self.context.firefox.try_call("script.evaluate", &params)?;
        match answer["result"]["value"].as_str() {
            Some(json) => serde_json::from_str(json).map_err(|error| error.to_string()),
            None => Err(answer["exceptionDetails"]["text"].as_str().unwrap_or("no JSON").to_owned()),
        }
    }

    fn load(&self, url: &str) {
        self.call("browsingContext.navigate", json!({ "url": url, "wait": "complete" }));
    }

    fn click(&self, selector: &str) {
        let place = self.until(&middle(selector));
        let at = |name: &str| place[name].as_f64().unwrap_or_default().round();
        let moves = json!({ "type": "pointerMove", "x": at("x"), "y": at("y"), "origin": "viewport" });
        let press = ["pointerDown", "pointerUp"].map(|kind| json!({ "type": kind, "button": 0 }));
        let actions = json!([{ "type": "pointer", "id": "mouse", "actions": [moves, press[0], press[1]] }]);
        self.call("input.performActions", json!({ "actions": actions }));
    }

    fn type_keys(&self, text: &str) {
        self.keys(&text.chars().collect::<Vec<_>>());
    }

    fn press(&self, key: Key) {
        // The code points that WebDriver assigns.
        self.keys(&[match key {
            Key::Enter => '\u{e007}',
            Key::Backspace => '\u{e003}',
        }]);
    }

    fn expect_complaints(&self, containing: &[&'static str]) {
        lock(&self.expected).extend(containing);
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let firefox = &self.context.firefox;
        let _ = firefox.try_call("browsingContext.close", &json!({ "context": self.id }));
        let seen = lock(&firefox.inbox).complaints.remove(&self.id).unwrap_or_default();
        check_complaints(&seen, &lock(&self.expected));
    }
}

impl Drop for UserContext {
    fn drop(&mut self) {
        let _ = self.firefox.try_call("browser.removeUserContext", &json!({ "userContext": self.id }));
    }
}

impl Firefox {
    /// Starts Firefox with a new profile.
    fn launch() -> Self {
        let profile = profile();
        let mut child = Command::new("sh")
            .args(["-c", LAUNCH, "sh"])
            .arg(&profile)
            .arg(program())
            .args(["--headless", "--no-remote", "--remote-debugging-port", "0", "--profile"])
            .arg(&profile)
            .env("HOME", &profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let pipe = child.stdin.take();
        let mut lines = BufReader::new(child.stderr.take().expect("its messages are piped")).lines();
        let listening = lines.by_ref().map_while(Result::ok);
        let address = listening
            .filter_map(|line| line.strip_prefix(LISTENING).map(str::to_owned))
            .next()
            .expect("Firefox says where it listens");
        // Firefox exits if its output is not read.
        thread::spawn(move || lines.for_each(drop));

        let host = address.trim_start_matches("ws://").to_owned();
        let stream = TcpStream::connect(&host).expect("Firefox accepts a connection");
        let copy = stream.try_clone().expect("a socket can be read and written at once");
        let url = format!("ws://{host}/session");
        let (reader, _) = client(url, stream).expect("Firefox speaks WebSocket");
        let writer = Mutex::new(WebSocket::from_raw_socket(copy, Role::Client, None));
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let sorted = Arc::clone(&inbox);
        thread::spawn(move || sort(reader, &sorted));
        let firefox = Self { writer, next: AtomicU64::new(1), inbox, pipe, child };
        firefox.call("session.new", &json!({ "capabilities": {} }));
        firefox.call("session.subscribe", &json!({ "events": ["log.entryAdded"] }));
        firefox
    }

    fn call(&self, method: &str, params: &Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// Sends a command and waits for its result.
    fn try_call(&self, method: &str, params: &Value) -> Result<Value, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = mpsc::channel();
        lock(&self.inbox).waiting.insert(id, sender);
        let message = json!({ "id": id, "method": method, "params": params }).to_string();
        let sent = lock(&self.writer).send(Message::text(message));
        sent.map_err(|error| format!("{method}: Firefox is gone: {error}"))?;
        let mut answer =
            answer.recv_timeout(COMMAND_TIMEOUT).map_err(|error| format!("{method}: {error}"))?;
        match answer.get("error") {
            Some(_) => Err(format!("{method}: {answer}")),
            None => Ok(answer["result"].take()),
        }
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        self.pipe.take();
        let _ = self.child.wait();
    }
}

/// Delivers each result to its command and stores console messages, until Firefox exits.
fn sort(mut reader: WebSocket<TcpStream>, inbox: &Mutex<Inbox>) {
    while let Ok(message) = reader.read() {
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut inbox = lock(inbox);
        if let Some(waiting) = message["id"].as_u64().and_then(|id| inbox.waiting.remove(&id)) {
            let _ = waiting.send(message);
        } else if let Some((context, said)) = complaint(&message) {
            inbox.complaints.entry(context).or_default().push(said);
        }
    }
    lock(inbox).waiting.clear();
}

/// An error or a warning on a page's console, and the page.
fn complaint(event: &Value) -> Option<(String, String)> {
    let entry = &event["params"];
    if event["method"] != "log.entryAdded" || !matches!(entry["level"].as_str(), Some("error" | "warn")) {
        return None;
    }
    Some((entry["source"]["context"].as_str()?.to_owned(), entry["text"].as_str()?.to_owned()))
}

/// The browser's program: `FIREFOX`, or Debian's name for it.
fn program() -> String {
    let program = std::env::var("FIREFOX").unwrap_or_else(|_| "firefox-esr".to_owned());
    match Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("`{program}` is missing: apt-get install firefox-esr, or say where it is in FIREFOX")
        }
        _ => program,
    }
}

/// A folder with the settings of a new profile.
fn profile() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("faststate-firefox-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).expect("a folder for the browser's profile");
    fs::write(folder.join("user.js"), PREFERENCES).expect("a new folder takes a file");
    folder
}
