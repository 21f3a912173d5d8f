//! A `redis-server` with replicas and sentinels.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    folder::Folder,
    free_address,
    redis::{RedisServer, ask},
};
use crate::{
    certificates::Certificates,
    wait::{until, until_within},
};

/// Number of servers, and number of sentinels.
const COUNT: usize = 3;
/// The longest that the servers may take to settle after a failover.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The name of the service.
const SERVICE: &str = "mymaster";

/// A primary, two replicas, and three sentinels that replace the primary when it does not answer for 500 ms.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
    authority: Option<String>,
}

#[derive(Debug)]
struct Sentinel {
    address: SocketAddr,
    folder: Folder,
    child: Child,
}

impl RedisSentinels {
    /// Starts the servers, and waits until every sentinel knows all of them.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[], None)
    }

    /// Starts servers and sentinels that accept only encrypted connections.
    #[must_use]
    pub fn with_tls(certificates: &Certificates) -> Self {
        let own = certificates.issue(&["127.0.0.1", "localhost"]);
        let settings = RedisServer::tls_settings(certificates, &own);
        Self::with(&settings, Some(certificates.authority().display().to_string()))
    }

    fn with(tls: &[String], authority: Option<String>) -> Self {
        let settings = ["--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"];
        let tls_settings: Vec<_> = tls.iter().map(String::as_str).collect();
        let settings = [&settings, &*tls_settings].concat();
        let servers: Vec<_> = (0..COUNT).map(|_| RedisServer::with(&settings)).collect();
        let primary = servers[0].address();
        for replica in &servers[1..] {
            follow(replica, primary);
        }
        for replica in &servers[1..] {
            let info = || replica.command(&["INFO", "replication"]);
            until("a replica to be in sync", info, |info| info.contains("master_link_status:up"));
        }
        let sentinels: Vec<_> = (0..COUNT).map(|_| Sentinel::start(primary, tls)).collect();
        let all = Self { servers, sentinels, authority };
        for sentinel in &all.sentinels {
            let known = || sentinel.command(&["SENTINEL", "MASTER", SERVICE]);
            let complete = |known: &String| {
                let is = |name: &str, value: &str| {
                    known.contains(&format!("{name}\r\n${}\r\n{value}\r\n", value.len()))
                };
                is("num-slaves", "2") && is("num-other-sentinels", "2") && is("flags", "master")
            };
            until("a sentinel to know the others", known, complete);
        }
        all
    }

    /// The URL of the service.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        match &self.authority {
            None => format!("redis+sentinel://{}/{SERVICE}", hosts.join(",")),
            Some(authority) => {
                format!("rediss+sentinel://{}/{SERVICE}?sslrootcert={authority}", hosts.join(","))
            }
        }
    }

    /// The position of the server that all sentinels name as the primary, if they agree and it accepts writes.
    #[must_use]
    pub fn primary(&self) -> Option<usize> {
        let named = |sentinel: &Sentinel| {
            let answer = sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
            let lines: Vec<_> = answer.lines().collect();
            let port: u16 = lines.get(4)?.trim().parse().ok()?;
            self.servers.iter().position(|server| server.address().port() == port)
        };
        let mut positions = self.sentinels.iter().map(named);
        let first = positions.next()??;
        positions.all(|other| other == Some(first)).then_some(first)
    }

    /// Waits until another server than `old` is the primary, and returns its position.
    #[must_use]
    pub fn successor(&self, old: usize) -> usize {
        let new = until("a new primary", || self.primary(), |new| new.is_some_and(|new| new != old));
        new.expect("it was awaited")
    }

    /// Requests that another server becomes the primary.
    pub fn fail_over(&self) {
        let request = || self.sentinels[0].command(&["SENTINEL", "FAILOVER", SERVICE]);
        until("a failover to begin", request, |answer| answer.starts_with("+OK"));
    }

    /// Waits until all sentinels agree on a primary and every other server follows it directly and is in sync, and returns
    /// its position. The sentinels need about 10 s to make a former primary a replica. Until then, they may promote it
    /// again although it has missed changes.
    #[must_use]
    pub fn settled(&self) -> usize {
        let in_sync = |replica: &RedisServer, port: &str| {
            // A sentinel that reconfigures a server also closes its connections.
            let info = ask(&replica.socket(), &["INFO", "replication"]).unwrap_or_default();
            let states = ["role:slave", port, "master_link_status:up", "master_sync_in_progress:0"];
            states.iter().all(|state| info.contains(state))
        };
        let primary = || {
            let primary = self.primary()?;
            let port = format!("master_port:{}\r", self.servers[primary].address().port());
            let mut replicas = (0..COUNT).filter(|position| *position != primary);
            replicas.all(|replica| in_sync(&self.servers[replica], &port)).then_some(primary)
        };
        let what = "every server to follow the primary";
        until_within(SETTLE_TIMEOUT, what, primary, Option::is_some).expect("it was awaited")
    }

    /// Its servers.
    #[must_use]
    pub fn servers(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }
}

impl Sentinel {
    fn start(primary: SocketAddr, tls: &[String]) -> Self {
        for _ in 0..10 {
            let (address, folder) = (free_address(), Folder::new("sentinel"));
            let (ip, port) = (address.ip(), address.port().to_string());
            let mut config = format!(
                "bind {ip}\ndir {dir}\nunixsocket {socket}\n\
                 sentinel monitor {SERVICE} {primary_ip} {primary_port} 2\n\
                 sentinel down-after-milliseconds {SERVICE} 500\n\
                 sentinel failover-timeout {SERVICE} 3000\n",
                dir = folder.path().display(),
                socket = folder.join("redis.sock").display(),
                primary_ip = primary.ip(),
                primary_port = primary.port(),
            );
            for setting in tls.chunks(2) {
                let value = if setting[1] == "{port}" { &port } else { &setting[1] };
                config += &format!("{} {value}\n", setting[0].trim_start_matches('-'));
            }
            config += &format!("port {}\n", if tls.is_empty() { &*port } else { "0" });
            let file = folder.join("sentinel.conf");
            fs::write(&file, config).expect("a folder of ours");
            let child = Command::new("redis-server")
                .arg(file)
                .arg("--sentinel")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("redis-server: {error}: apt-get install redis-server"));
            let mut sentinel = Self { address, folder, child };
            let look = || {
                let ended = sentinel.child.try_wait().expect("a child of ours").is_some();
                let answer = ask(&sentinel.socket(), &["PING"]).unwrap_or_default();
                (ended, answer.starts_with("+PONG"))
            };
            let (ended, _) = until("a sentinel to answer", look, |(ended, ready)| *ended || *ready);
            if !ended {
                return sentinel;
            }
        }
        panic!("a sentinel ends as soon as it is started");
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    fn command(&self, words: &[&str]) -> String {
        ask(&self.socket(), words).unwrap_or_default()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(replica: &RedisServer, primary: SocketAddr) {
    let answer = replica.command(&["REPLICAOF", &primary.ip().to_string(), &primary.port().to_string()]);
    assert!(answer.starts_with("+OK"), "{answer}");
}
