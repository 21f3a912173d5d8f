//! Chromium's DevTools protocol over two pipes: no driver, no port, and the browser ends with
//! the process that holds the pipes.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// The deadline of one command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Passes file descriptors 3 and 4 to the browser, and cleans up after its exit.
const LAUNCH: &str =
    r#"profile=$1; shift; "$@" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null; rm -rf "$profile""#;

const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    // A name that is not loopback, so that its pages are not a secure context.
    "--host-resolver-rules=MAP *.test 127.0.0.1",
    "--remote-debugging-pipe",
];

/// One running Chromium.
#[derive(Debug)]
pub(crate) struct Devtools {
    input: Mutex<Option<ChildStdin>>,
    next: AtomicU64,
    inbox: Arc<Mutex<Inbox>>,
    child: Mutex<Child>,
}

/// The commands that wait for a result, and the listeners of each session's events.
#[derive(Debug, Default)]
struct Inbox {
    waiting: HashMap<u64, mpsc::Sender<Value>>,
    listeners: HashMap<String, mpsc::Sender<Value>>,
}

impl Devtools {
    /// Starts a browser with a new profile.
    pub(crate) fn launch() -> Self {
        let program = program();
        let profile = fresh_folder();
        let mut child = Command::new("sh")
            .args(["-c", LAUNCH, "sh"])
            .arg(&profile)
            .arg(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let input = child.stdin.take().expect("the shell's input is piped");
        let output = child.stdout.take().expect("the shell's output is piped");
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let sorted = Arc::clone(&inbox);
        thread::spawn(move || sort(output, &sorted));
        Self { input: Mutex::new(Some(input)), next: AtomicU64::new(1), inbox, child: Mutex::new(child) }
    }

    /// Sends a command, to a page's session or to the browser, and waits for its result.
    pub(crate) fn call(&self, session: Option<&str>, method: &str, params: &Value) -> Result<Value, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = mpsc::channel();
        lock(&self.inbox).waiting.insert(id, sender);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut line = message.to_string().into_bytes();
        line.push(0);
        if let Some(input) = lock(&self.input).as_mut() {
            input.write_all(&line).map_err(|error| format!("{method}: the browser is gone: {error}"))?;
        }
        let mut answer =
            answer.recv_timeout(COMMAND_TIMEOUT).map_err(|error| format!("{method}: {error}"))?;
        match answer.get("error") {
            Some(error) => Err(format!("{method}: {error}")),
            None => Ok(answer["result"].take()),
        }
    }

    /// Subscribes to the events of a page's session.
    pub(crate) fn listen(&self, session: &str) -> mpsc::Receiver<Value> {
        let (sender, events) = mpsc::channel();
        lock(&self.inbox).listeners.insert(session.to_owned(), sender);
        events
    }

    /// Ends the subscription to this session.
    pub(crate) fn forget(&self, session: &str) {
        lock(&self.inbox).listeners.remove(session);
    }
}

impl Drop for Devtools {
    fn drop(&mut self) {
        // The browser exits when its pipe closes, and the shell after the browser.
        lock(&self.input).take();
        let _ = lock(&self.child).wait();
    }
}

/// Delivers each message to its command or listener; drops all of them when the browser exits.
fn sort(output: ChildStdout, inbox: &Mutex<Inbox>) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while matches!(reader.read_until(0, &mut line), Ok(length) if length > 0) {
        let message: Value = serde_json::from_slice(&line[..line.len() - 1]).unwrap_or_default();
        line.clear();
        let mut inbox = lock(inbox);
        if let Some(id) = message["id"].as_u64() {
            let waiting = inbox.waiting.remove(&id);
            waiting.map(|waiting| waiting.send(message));
        } else if let Some(session) = message["sessionId"].as_str() {
            let listener = inbox.listeners.get(session).cloned();
            listener.map(|listener| listener.send(message));
        }
    }
    lock(inbox).waiting.clear();
}

/// The browser's program: `CHROMIUM`, or Debian's name for it.
fn program() -> String {
    let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    match Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("`{program}` is missing: apt-get install chromium, or say where it is in CHROMIUM")
        }
        _ => program,
    }
}

fn fresh_folder() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("faststate-browser-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).expect("a folder for the browser's profile");
    folder
}

/// A test that panicked while it held a lock must not fail the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
