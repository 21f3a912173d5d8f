//! `redis-server`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{folder::Folder, free_address, signal};
use crate::wait::until;

/// A `redis-server` for one test.
#[derive(Debug)]
pub struct RedisServer {
    address: SocketAddr,
    settings: Vec<String>,
    folder: Folder,
    child: Child,
}

/// A backup of a server's data.
#[derive(Debug)]
pub struct RedisSnapshot(Folder);

impl RedisServer {
    /// Starts a server that persists every acknowledged write: `appendfsync always`.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a server with these settings and without automatic snapshots.
    #[must_use]
    pub fn with(settings: &[&str]) -> Self {
        // Another program may take the free port first.
        for _ in 0..10 {
            let address = free_address();
            let settings: Vec<_> = settings.iter().copied().map(str::to_owned).collect();
            let folder = Folder::new("redis");
            let child = run(address, &folder, &settings);
            let mut server = Self { address, settings, folder, child };
            if server.is_ready() {
                return server;
            }
        }
        panic!("redis-server ends as soon as it is started");
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
        self.child = run(self.address, &self.folder, &self.settings);
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
        ask(self.address, words).expect("redis-server answers")
    }

    /// Waits until the server responds, even with a request for a password; fails if it exits.
    fn is_ready(&mut self) -> bool {
        let look = || {
            let ended = self.child.try_wait().expect("a child of ours").is_some();
            let answer = ask(self.address, &["PING"]).unwrap_or_default();
            (ended, answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"))
        };
        let (ended, _) = until("redis-server to answer", look, |(ended, ready)| *ended || *ready);
        !ended
    }
}

/// Three `redis-server`s as one cluster, each with a third of the slots.
#[derive(Debug)]
pub struct RedisCluster(Vec<RedisServer>);

impl RedisCluster {
    /// Starts the cluster, and waits until every node knows the others.
    #[must_use]
    pub fn start() -> Self {
        let servers: Vec<_> = (0..3)
            .map(|_| {
                // Set explicitly, because the default (port + 10,000) may exceed the range of ports.
                let bus = free_address().port().to_string();
                let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus];
                (RedisServer::with(&settings), bus)
            })
            .collect();
        let (first, bus) = &servers[0];
        for ((server, _), slots) in servers.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            let slots: Vec<_> = slots.split(' ').collect();
            let _ = server.command(&[&["CLUSTER", "ADDSLOTSRANGE"], &*slots].concat());
            let (ip, port) = (first.address.ip().to_string(), first.address.port().to_string());
            let _ = server.command(&["CLUSTER", "MEET", &ip, &port, bus]);
        }
        let cluster = Self(servers.into_iter().map(|(server, _)| server).collect());
        let states =
            || cluster.0.iter().map(|server| server.command(&["CLUSTER", "INFO"])).collect::<Vec<_>>();
        let knows =
            |info: &String| info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3");
        until("the cluster to be one", states, |infos| infos.iter().all(knows));
        cluster
    }

    /// The URLs of all nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.0.iter().map(RedisServer::url).collect()
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.0
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(address: SocketAddr, folder: &Folder, settings: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(["--save", "", "--loglevel", "warning", "--dir"])
        .arg(folder.path())
        .args(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server: {error}: apt-get install redis-server"))
}

fn ask(address: SocketAddr, words: &[&str]) -> std::io::Result<String> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.write_all(command.as_bytes())?;
    let mut answer = vec![0; 64 * 1024];
    let length = connection.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
