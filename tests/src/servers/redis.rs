//! `redis-server`.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{folder::Folder, free_address, signal};
use crate::{
    certificates::{CertificateFiles, Certificates},
    clock::WallClock,
    wait::until,
};

/// The name of a server's socket in its folder.
const SOCKET: &str = "redis.sock";
/// Stands for the server's port in its settings.
const PORT: &str = "{port}";
/// The settings of a server that persists every acknowledged write.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A `redis-server` for one test.
#[derive(Debug)]
pub struct RedisServer {
    address: SocketAddr,
    settings: Vec<String>,
    folder: Folder,
    clock: Option<WallClock>,
    child: Child,
}

/// A backup of a server's data.
#[derive(Debug)]
pub struct RedisSnapshot(Folder);

impl RedisServer {
    /// Starts a server that persists every acknowledged write: `appendfsync always`.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&DURABLE)
    }

    /// Starts a server on this clock that persists every acknowledged write.
    #[must_use]
    pub fn with_clock(clock: &WallClock) -> Self {
        Self::launch(&DURABLE, Some(clock))
    }

    /// Starts a server with these settings and without automatic snapshots.
    #[must_use]
    pub fn with(settings: &[&str]) -> Self {
        Self::launch(settings, None)
    }

    fn launch(settings: &[&str], clock: Option<&WallClock>) -> Self {
        // Another program may take the free port first.
        for _ in 0..10 {
            let address = free_address();
            let settings: Vec<_> = settings.iter().copied().map(str::to_owned).collect();
            let folder = Folder::new("redis");
            let child = run(address, &folder, &settings, clock);
            let mut server = Self { address, settings, folder, clock: clock.cloned(), child };
            if server.is_ready() {
                return server;
            }
        }
        panic!("redis-server ends as soon as it is started");
    }

    /// The settings of a server that accepts only encrypted connections, of clients, replicas and a cluster's servers.
    #[must_use]
    pub fn tls_settings(certificates: &Certificates, own: &CertificateFiles) -> Vec<String> {
        let text = |path: &Path| path.to_str().expect("a path of ours is UTF-8").to_owned();
        let (authority, certificate, key) =
            (text(&certificates.authority()), text(&own.certificate), text(&own.key));
        let settings = [
            ["--tls-port", PORT],
            ["--tls-ca-cert-file", &authority],
            ["--tls-cert-file", &certificate],
            ["--tls-key-file", &key],
            ["--tls-auth-clients", "no"],
            ["--tls-replication", "yes"],
            ["--tls-cluster", "yes"],
        ];
        settings.as_flattened().iter().copied().map(str::to_owned).collect()
    }

    /// Starts a server that accepts only encrypted connections and persists every acknowledged write.
    #[must_use]
    pub fn with_tls(certificates: &Certificates, own: &CertificateFiles, settings: &[&str]) -> Self {
        let tls = Self::tls_settings(certificates, own);
        let tls: Vec<_> = tls.iter().map(String::as_str).collect();
        Self::with(&[&DURABLE[..], &*tls, settings].concat())
    }

    /// The file of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    /// The URL to connect to over TLS, with the authority to trust.
    #[must_use]
    pub fn tls_url(&self, certificates: &Certificates) -> String {
        format!("rediss://{}?sslrootcert={}", self.address, certificates.authority().display())
    }

    /// The address on which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The id of its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it ends");
    }

    /// Restarts it after [`kill`](Self::kill), at the same address with the same data.
    pub fn restart(&mut self) {
        self.child = run(self.address, &self.folder, &self.settings, self.clock.as_ref());
        assert!(self.is_ready(), "redis-server ends as soon as it is started again");
    }

    /// Stops the process with SIGSTOP: connections stay open without responses.
    pub fn pause(&self) {
        signal(self.child.id(), "STOP");
    }

    /// Continues after [`pause`](Self::pause).
    pub fn resume(&self) {
        signal(self.child.id(), "CONT");
    }

    /// A backup of the present data. With `appendfsync always`, it equals the data on disk.
    #[must_use]
    pub fn snapshot(&self) -> RedisSnapshot {
        let copy = Folder::new("redis-snapshot");
        self.pause();
        self.folder.copy_to(&copy);
        self.resume();
        RedisSnapshot(copy)
    }

    /// Kills the server and restarts it with the backup.
    pub fn restore(&mut self, snapshot: &RedisSnapshot) {
        self.kill();
        snapshot.0.copy_to(&self.folder);
        self.restart();
    }

    /// Sends one command and returns the raw reply.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> String {
        ask(&self.socket(), words).expect("redis-server answers")
    }

    /// Waits until the server responds, even with a request for a password; fails if it exits.
    fn is_ready(&mut self) -> bool {
        let look = || {
            let ended = self.child.try_wait().expect("a child of ours").is_some();
            let answer = ask(&self.socket(), &["PING"]).unwrap_or_default();
            (ended, answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"))
        };
        let (ended, _) = until("redis-server to answer", look, |(ended, ready)| *ended || *ready);
        !ended
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(address: SocketAddr, folder: &Folder, settings: &[String], clock: Option<&WallClock>) -> Child {
    let port = address.port().to_string();
    // A server with TLS does not listen without it.
    let plain = if settings.iter().any(|setting| setting == "--tls-port") { "0" } else { &*port };
    let mut redis = Command::new("redis-server");
    if let Some(clock) = clock {
        clock.attach(&mut redis);
    }
    redis
        .args(["--bind", &address.ip().to_string(), "--port", plain])
        .args(["--save", "", "--loglevel", "warning", "--dir"])
        .arg(folder.path())
        .arg("--unixsocket")
        .arg(folder.join(SOCKET))
        .args(settings.iter().map(|setting| if setting == PORT { &*port } else { &**setting }))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server: {error}: apt-get install redis-server"))
}

/// Sends one command over the server's socket, which needs no TLS.
pub(super) fn ask(socket: &Path, words: &[&str]) -> std::io::Result<String> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.write_all(command.as_bytes())?;
    let mut answer = vec![0; 64 * 1024];
    let length = connection.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
