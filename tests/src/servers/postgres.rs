//! PostgreSQL.

use std::{
    fs::Permissions,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{Folder, free_address, program, signal, signal_all};
use crate::{certificates::CertificateFiles, clock::WallClock, wait::until};

/// A PostgreSQL server for one test, killed when dropped.
#[derive(Debug)]
pub struct Postgres {
    folder: Folder,
    port: u16,
    arguments: Vec<String>,
    clock: Option<WallClock>,
    child: Child,
}

/// How a server differs from the default: no TLS, and any password.
#[derive(Clone, Debug, Default)]
pub struct PostgresSettings<'a> {
    /// The server's certificate, which enables TLS.
    pub certificate: Option<&'a CertificateFiles>,
    /// The file with the authority of client certificates.
    pub client_authority: Option<PathBuf>,
    /// The lines of `pg_hba.conf`.
    pub hba: Option<&'a str>,
    /// Whether it also listens on a socket in its folder.
    pub socket: bool,
    /// The clock on which it runs; by default the machine's.
    pub clock: Option<WallClock>,
}

impl Postgres {
    /// Creates a database cluster and starts a server on it.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&PostgresSettings::default())
    }

    /// Starts a server with these settings.
    #[must_use]
    pub fn with(settings: &PostgresSettings<'_>) -> Self {
        let folder = Folder::new("postgres");
        if let Some((user, group)) = other_user() {
            chown(folder.path(), Some(user), Some(group)).expect("root gives folders away");
        }
        let password = folder.join("password");
        std::fs::write(&password, "secret").expect("a new folder takes a file");
        own(&password);
        let made = command("initdb", folder.path())
            .arg("--pwfile")
            .arg(password)
            .args(["--auth=trust", "--username=faststate", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg("--pgdata")
            .arg(folder.join("data"))
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_address().port();
        let (arguments, clock) = (settings.arguments(&folder), settings.clock.clone());
        let child = run(&folder, port, &arguments, clock.as_ref());
        let mut server = Self { folder, port, arguments, clock, child };
        server.ready();
        server
    }

    /// Starts a copy of a server that follows it by streaming replication and accepts no writes.
    #[must_use]
    pub fn standby_of(primary: &Self) -> Self {
        let folder = Folder::new("postgres");
        own(folder.path());
        copy_cluster(&folder, primary);
        let (port, arguments) = (free_address().port(), PostgresSettings::default().arguments(&folder));
        let child = run(&folder, port, &arguments, None);
        let mut server = Self { folder, port, arguments, clock: None, child };
        server.ready();
        server
    }

    /// Restarts it after [`crash`](Self::crash) as a standby of another server, on the same port.
    pub fn follow(&mut self, primary: &Self) {
        std::fs::remove_dir_all(self.folder.join("data")).expect("a folder of ours");
        copy_cluster(&self.folder, primary);
        self.restart();
    }

    /// Makes it wait for its standby before it acknowledges a commit.
    pub fn wait_for_standby(&self) {
        let _ = self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        let _ = self.sql("SELECT pg_reload_conf()");
        let synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        until("the standby to be synchronous", || self.sql(synchronous), |count| count == "1");
    }

    /// Makes a standby the primary, which accepts writes.
    pub fn promote(&self) {
        assert_eq!(self.sql("SELECT pg_promote()"), "t", "a standby can be promoted");
    }

    /// Runs statements with `psql`, and returns their rows.
    fn sql(&self, text: &str) -> String {
        let output = command("psql", self.folder.path())
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"])
            .args(["--host=127.0.0.1", "--username=faststate", "--dbname=postgres"])
            .args(["--port", &self.port.to_string(), "--command", text])
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The folder with its socket, if it has one.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> String {
        Self::url_at(self.address())
    }

    /// The URL with another address.
    #[must_use]
    pub fn url_at(address: SocketAddr) -> String {
        format!("postgres://faststate:secret@{address}/postgres")
    }

    /// Stops all of its processes with SIGSTOP, like a machine that hangs.
    pub fn pause(&self) {
        signal_all(self.child.id(), "STOP");
    }

    /// Continues after [`pause`](Self::pause).
    pub fn resume(&self) {
        signal_all(self.child.id(), "CONT");
    }

    /// The id of its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Shuts it down immediately, like a crash: no buffers are written.
    pub fn crash(&mut self) {
        signal(self.child.id(), "QUIT");
        self.child.wait().expect("PostgreSQL is ours");
    }

    /// Restarts it after [`crash`](Self::crash), on the same port.
    pub fn restart(&mut self) {
        self.child = run(&self.folder, self.port, &self.arguments, self.clock.as_ref());
        self.ready();
    }

    fn ready(&mut self) {
        let (folder, port) = (self.folder.path(), self.port.to_string());
        let look = || {
            assert!(self.child.try_wait().is_ok_and(|ended| ended.is_none()), "PostgreSQL ended at once");
            let asked = command("pg_isready", folder)
                .args(["--quiet", "--host=127.0.0.1", "--port", &port])
                .status()
                .expect("pg_isready runs");
            asked.success()
        };
        until("PostgreSQL to answer", look, |ready| *ready);
    }
}

impl PostgresSettings<'_> {
    /// Copies the files into the server's folder, and returns the arguments of the server.
    fn arguments(&self, folder: &Folder) -> Vec<String> {
        let copy = |from: &Path, name: &str| {
            let to = folder.join(name);
            std::fs::copy(from, &to).expect("a certificate of ours can be copied");
            std::fs::set_permissions(&to, Permissions::from_mode(0o600)).expect("the file is ours");
            own(&to);
            to.display().to_string()
        };
        let mut arguments = Vec::new();
        if let Some(files) = self.certificate {
            arguments.push("ssl=on".to_owned());
            arguments.push(format!("ssl_cert_file={}", copy(&files.certificate, "server.crt")));
            arguments.push(format!("ssl_key_file={}", copy(&files.key, "server.key")));
        }
        if let Some(file) = &self.client_authority {
            arguments.push(format!("ssl_ca_file={}", copy(file, "clients.crt")));
        }
        if let Some(lines) = self.hba {
            let file = folder.join("hba");
            std::fs::write(&file, lines).expect("a new folder takes a file");
            own(&file);
            arguments.push(format!("hba_file={}", file.display()));
        }
        let sockets = if self.socket { folder.path().display().to_string() } else { String::new() };
        arguments.push(format!("unix_socket_directories={sockets}"));
        arguments
    }
}

/// Copies a running server's data into the folder of its standby.
fn copy_cluster(folder: &Folder, primary: &Postgres) {
    let made = command("pg_basebackup", folder.path())
        .args(["--host=127.0.0.1", "--username=faststate", "--write-recovery-conf", "--wal-method=stream"])
        .args(["--checkpoint=fast", "--no-sync", "--port", &primary.port.to_string()])
        .arg("--pgdata")
        .arg(folder.join("data"))
        .output()
        .expect("pg_basebackup runs");
    assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
}

/// Gives a file to the user of the server.
fn own(file: &Path) {
    if let Some((user, group)) = other_user() {
        chown(file, Some(user), Some(group)).expect("root gives files away");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.child.id(), "QUIT");
            // In case it is paused.
            signal(self.child.id(), "CONT");
            let _ = self.child.wait();
        }
    }
}

fn run(folder: &Folder, port: u16, arguments: &[String], clock: Option<&WallClock>) -> Child {
    let mut postgres = command("postgres", folder.path());
    if let Some(clock) = clock {
        clock.attach(&mut postgres);
    }
    postgres
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string()])
        .args(["-c", "listen_addresses=127.0.0.1"])
        .args(arguments.iter().flat_map(|argument| ["-c", argument]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("log")).expect("a log"))
        .spawn()
        .expect("postgres runs")
}

/// A command of PostgreSQL, run as the user `postgres`, because it refuses root.
fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(program(name, &folders(), "postgresql"));
    command.current_dir(folder);
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    command
}

/// Debian's folders of the programs, newest version first.
fn folders() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}

/// The user and group `postgres`, when this is root.
pub(super) fn other_user() -> Option<(u32, u32)> {
    if id(&["-u"]) != 0 {
        return None;
    }
    Some((id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}

fn id(arguments: &[&str]) -> u32 {
    let output = Command::new("id").args(arguments).output().expect("id runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("no user `postgres`: apt-get install postgresql"))
}
