//! MariaDB.

use std::{
    fs,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{Folder, free_address, program, signal};
use crate::{
    clock::WallClock,
    wait::{DEADLINE, until},
};

/// Creates the tests' database and users at each start. Every server does so itself, and none replicates it.
const INIT: &str = "SET SESSION sql_log_bin = 0;
CREATE DATABASE IF NOT EXISTS faststate;
CREATE USER IF NOT EXISTS 'faststate'@'%' IDENTIFIED BY 'secret';
GRANT ALL ON faststate.* TO 'faststate'@'%';
CREATE USER IF NOT EXISTS 'certified'@'%' IDENTIFIED BY 'secret' REQUIRE X509;
GRANT ALL ON faststate.* TO 'certified'@'%';
CREATE USER IF NOT EXISTS 'admin'@'%' IDENTIFIED BY 'secret';
GRANT ALL ON *.* TO 'admin'@'%';
";

/// A MariaDB server for one test, killed when dropped.
#[derive(Debug)]
pub struct MariaDb {
    folder: Folder,
    port: u16,
    settings: Settings,
    child: Child,
}

#[derive(Debug, Default)]
struct Settings {
    arguments: Vec<String>,
    /// The time zone, in the format of `TZ`; by default the machine's.
    zone: Option<String>,
    /// The clock; by default the machine's.
    clock: Option<WallClock>,
}

impl MariaDb {
    /// Creates a data folder and starts a server on it.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with these arguments.
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().copied().map(str::to_owned).collect();
        Self::set(Settings { arguments, ..Settings::default() })
    }

    /// Starts a server that others can [`follow`](Self::follow).
    #[must_use]
    pub fn with_log() -> Self {
        Self::with(&["--log-bin=log", "--log-slave-updates", "--binlog-format=ROW"])
    }

    /// Starts a server with these arguments in a time zone, in the format of `TZ`.
    #[must_use]
    pub fn in_zone(zone: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().copied().map(str::to_owned).collect();
        Self::set(Settings { arguments, zone: Some(zone.to_owned()), clock: None })
    }

    /// Starts a server on this clock.
    #[must_use]
    pub fn with_clock(clock: &WallClock) -> Self {
        Self::set(Settings { clock: Some(clock.clone()), ..Settings::default() })
    }

    fn set(settings: Settings) -> Self {
        let folder = Folder::new("mariadb");
        fs::write(folder.join("init.sql"), INIT).expect("a new folder takes a file");
        let made = Command::new(program("mariadb-install-db", &[], "mariadb-server"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", folder.join("data").display()))
            .arg(own_tmp(&folder))
            .args(as_root())
            .output()
            .expect("mariadb-install-db runs");
        assert!(made.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_address().port();
        let child = run(&folder, port, &settings);
        let mut server = Self { folder, port, settings, child };
        server.ready();
        server
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
        format!("mysql://faststate:secret@{address}/faststate")
    }

    /// The path of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// The URL of a user with all privileges.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("mysql://admin:secret@{}/faststate", self.address())
    }

    /// Makes it refuse or accept writes of users without special privileges.
    pub fn set_read_only(&self, read_only: bool) {
        let _ = self.sql(&format!("SET GLOBAL read_only = {}", u8::from(read_only)));
    }

    /// Makes a server [`with_log`](Self::with_log) follow another one, and accept no writes.
    pub fn follow(&self, primary: &Self) {
        self.set_read_only(true);
        let _ = self.sql(&format!(
            "SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos;
             CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'admin',
                 MASTER_PASSWORD = 'secret', MASTER_USE_GTID = slave_pos;
             START SLAVE",
            primary.port
        ));
    }

    /// Waits until it has every change that `primary` has now, stops following, and accepts writes.
    pub fn promote(&self, primary: &Self) {
        let position = primary.sql("SELECT @@gtid_binlog_pos");
        let wait = format!("SELECT MASTER_GTID_WAIT('{position}', {})", DEADLINE.as_secs());
        assert_eq!(self.sql(&wait), "0", "the replica has everything");
        let _ = self.sql("STOP SLAVE; RESET SLAVE ALL");
        self.set_read_only(false);
    }

    /// The number of connections of applications.
    #[must_use]
    pub fn connections(&self) -> usize {
        let count = "SELECT count(*) FROM information_schema.processlist WHERE user = 'faststate'";
        self.sql(count).parse().expect("a count is a number")
    }

    /// Runs statements with the client, as a user with all privileges, and returns their rows.
    fn sql(&self, text: &str) -> String {
        let output = Command::new(program("mariadb", &[], "mariadb-client"))
            .args([
                "--no-defaults",
                "--protocol=tcp",
                "--host=127.0.0.1",
                "--user=admin",
                "--password=secret",
            ])
            .args(["--batch", "--skip-column-names", &format!("--port={}", self.port), "--execute", text])
            .output()
            .expect("mariadb runs");
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Stops the process with SIGSTOP, like a machine that hangs.
    pub fn pause(&self) {
        signal(self.child.id(), "STOP");
    }

    /// Continues after [`pause`](Self::pause).
    pub fn resume(&self) {
        signal(self.child.id(), "CONT");
    }

    /// The id of its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process with SIGKILL.
    pub fn crash(&mut self) {
        self.child.kill().expect("MariaDB was running");
        self.child.wait().expect("MariaDB is ours");
    }

    /// Restarts it after [`crash`](Self::crash), on the same port.
    pub fn restart(&mut self) {
        self.child = run(&self.folder, self.port, &self.settings);
        self.ready();
    }

    fn ready(&mut self) {
        let look = || {
            assert!(self.child.try_wait().is_ok_and(|ended| ended.is_none()), "MariaDB ended at once");
            greets(self.port)
        };
        until("MariaDB to answer", look, |ready| *ready);
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(folder: &Folder, port: u16, settings: &Settings) -> Child {
    let mut mariadb = Command::new(program("mariadbd", &["/usr/sbin".into()], "mariadb-server"));
    if let Some(clock) = &settings.clock {
        clock.attach(&mut mariadb);
    }
    mariadb
        .arg("--no-defaults")
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg(format!("--init-file={}", folder.join("init.sql").display()))
        .arg(format!("--port={port}"))
        // Unique among the servers that replicate each other.
        .arg(format!("--server-id={port}"))
        .arg(own_tmp(folder))
        .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-buffer-pool-size=32M"])
        .args(as_root())
        .args(&settings.arguments)
        .envs(settings.zone.as_ref().map(|zone| ("TZ", zone)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("log")).expect("a log"))
        .spawn()
        .expect("mariadbd runs")
}

/// A starting server deletes temporary tables, including those of other starting servers.
fn own_tmp(folder: &Folder) -> String {
    format!("--tmpdir={}", folder.path().display())
}

/// MariaDB runs as root only with an explicit `--user=root`.
fn as_root() -> Option<&'static str> {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    (output.stdout.trim_ascii() == b"0").then_some("--user=root")
}

/// Whether a server sends the first bytes, as MariaDB does once it is ready.
fn greets(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        stream.read(&mut [0]).is_ok_and(|bytes| bytes == 1)
    })
}
