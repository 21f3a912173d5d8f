//! A server whose responses the test defines.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    devtools::lock,
    http::{head_end, header},
    wait::until,
};

/// A server on a free port, with a page at `/` and the Datastar bundle at `/datastar.js`.
#[derive(Debug)]
pub struct Site {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// The response of a path.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status, header lines (each with its line end) and a body.
    Whole(u16, &'static str, String),
    /// An SSE stream that starts with this text, stays open, and sends the bytes that the test [pushes](Site::push).
    Stream(&'static str),
    /// An SSE stream that sends this text and ends.
    Brief(&'static str),
    /// A response of this content type that sends this text and is cut off before its end.
    Cut(&'static str, &'static str),
    /// The connection closes without a response.
    Nothing,
    /// The connection stays open without a response.
    Silence,
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query, still percent-encoded.
    pub query: String,
    /// The header lines.
    pub head: String,
    /// The body as text.
    pub body: String,
}

#[derive(Debug)]
struct Shared {
    page: String,
    bundle: Vec<u8>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    answers: HashMap<String, VecDeque<Answer>>,
    requests: Vec<Request>,
    streams: HashMap<u64, (String, TcpStream)>,
    next: u64,
}

impl Site {
    /// Starts a site whose page has this body.
    #[must_use]
    pub fn new(bundle: &[u8], body: &str) -> Self {
        let head = "<meta charset=\"utf-8\"><script type=\"module\" src=\"/datastar.js\"></script>";
        Self::whole(bundle, &format!("<!doctype html><html lang=\"en\"><head>{head}</head>{body}</html>"))
    }

    /// Starts a site with exactly this page.
    #[must_use]
    pub fn whole(bundle: &[u8], page: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Shared { page: page.to_owned(), bundle: bundle.to_vec(), inner: Mutex::default() };
        let shared = Arc::new(shared);
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Sets the responses of a path, in order; the last one is repeated.
    #[must_use]
    pub fn on(self, path: &str, answers: impl Into<VecDeque<Answer>>) -> Self {
        lock(&self.shared.inner).answers.insert(path.to_owned(), answers.into());
        self
    }

    /// The URL of the page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The URL of the page under a name that is not loopback.
    #[must_use]
    pub fn url_by_name(&self) -> String {
        format!("http://faststate.test:{}/", self.address.port())
    }

    /// The requests for a path so far.
    #[must_use]
    pub fn requests(&self, path: &str) -> Vec<Request> {
        lock(&self.shared.inner).requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// Waits until a path has received this number of requests, and returns them.
    #[must_use]
    pub fn requested(&self, path: &str, times: usize) -> Vec<Request> {
        until(&format!("{times} requests of {path}"), || self.requests(path), |seen| seen.len() >= times)
    }

    /// The number of open streams of a path.
    #[must_use]
    pub fn streams(&self, path: &str) -> usize {
        lock(&self.shared.inner).streams.values().filter(|(name, _)| name == path).count()
    }

    /// Waits until a path has exactly this number of open streams.
    pub fn streaming(&self, path: &str, count: usize) {
        until(&format!("{count} open streams of {path}"), || self.streams(path), |open| *open == count);
    }

    /// Writes these bytes to every open stream of a path, once there is one.
    pub fn push(&self, path: &str, bytes: &str) {
        until(&format!("an open stream of {path}"), || self.streams(path), |open| *open > 0);
        for (name, stream) in lock(&self.shared.inner).streams.values_mut() {
            if name == path {
                let _ = stream.write_all(bytes.as_bytes());
            }
        }
    }

    /// Sends signals to every open stream of a path.
    pub fn patch(&self, path: &str, signals: &str) {
        self.push(path, &format!("event: datastar-patch-signals\ndata: signals {signals}\n\n"));
    }

    /// Ends every open stream of a path, once there is one.
    pub fn end(&self, path: &str) {
        until(&format!("an open stream of {path}"), || self.streams(path), |open| *open > 0);
        for (name, stream) in lock(&self.shared.inner).streams.values() {
            if name == path {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Request {
    /// The value of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let Ok(Some(request)) = read(&mut stream) else { return };
        let answer = self.answer(&request);
        lock(&self.inner).requests.push(request.clone());
        let sse = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        match answer {
            Answer::Whole(status, headers, body) => {
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} -\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
                );
            }
            Answer::Brief(text) => {
                let _ = write!(stream, "{sse}{text}");
            }
            Answer::Cut(kind, text) => {
                let length = text.len() + 1;
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
                let _ = write!(stream, "{head}{text}");
            }
            Answer::Stream(start) => self.hold(&request.path, stream, &format!("{sse}{start}")),
            Answer::Nothing => {}
            Answer::Silence => drop(stream.read(&mut [0; 1])),
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        if let Some(answers) = lock(&self.inner).answers.get_mut(&request.path) {
            let only = answers.len() == 1;
            let next = if only { answers.front().cloned() } else { answers.pop_front() };
            return next.unwrap_or(Answer::Nothing);
        }
        let script = || String::from_utf8_lossy(&self.bundle).into_owned();
        match &*request.path {
            "/" => Answer::Whole(200, "Content-Type: text/html\r\n", self.page.clone()),
            "/datastar.js" => Answer::Whole(200, "Content-Type: text/javascript\r\n", script()),
            "/favicon.ico" => Answer::Whole(204, "", String::new()),
            _ => Answer::Whole(404, "", String::new()),
        }
    }

    /// Keeps a stream open until either side ends it.
    fn hold(&self, path: &str, mut stream: TcpStream, start: &str) {
        let Ok(writer) = stream.try_clone() else { return };
        if stream.write_all(start.as_bytes()).is_err() {
            return;
        }
        let id = {
            let mut inner = lock(&self.inner);
            inner.next += 1;
            let id = inner.next;
            inner.streams.insert(id, (path.to_owned(), writer));
            id
        };
        let _ = stream.read(&mut [0; 1]);
        lock(&self.inner).streams.remove(&id);
    }
}

/// Reads one request; `None` if the peer closes before the request is complete.
fn read(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let end = loop {
        if let Some(end) = head_end(&bytes) {
            break end;
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    };
    let whole = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let (first, head) = whole.split_once("\r\n").unwrap_or((&whole, ""));
    let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    Ok(Some(Request { method, path: path.to_owned(), query: query.to_owned(), head: head.to_owned(), body }))
}
