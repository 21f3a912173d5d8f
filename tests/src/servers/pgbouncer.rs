//! PgBouncer.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use super::{Folder, Postgres, free_address, postgres::other_user, program};
use crate::wait::until;

/// A PgBouncer in front of a PostgreSQL, killed when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    _folder: Folder,
    port: u16,
    child: Child,
}

impl PgBouncer {
    /// Starts a PgBouncer with this `pool_mode`.
    #[must_use]
    pub fn start(server: &Postgres, pool_mode: &str) -> Self {
        let (folder, port) = (Folder::new("pgbouncer"), free_address().port());
        let users = folder.join("users");
        let settings = format!(
            "[databases]
postgres = host=127.0.0.1 port={}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {}
pool_mode = {pool_mode}
",
            server.address().port(),
            users.display()
        );
        fs::write(&users, "\"faststate\" \"secret\"\n").expect("a new folder takes a file");
        fs::write(folder.join("settings"), settings).expect("a new folder takes a file");
        let mut command = Command::new(program("pgbouncer", &["/usr/sbin".into()], "pgbouncer"));
        if let Some((user, group)) = other_user() {
            use std::os::unix::{fs::chown, process::CommandExt as _};
            chown(folder.path(), Some(user), Some(group)).expect("root gives folders away");
            command.uid(user).gid(group);
        }
        let child = command
            .arg("--quiet")
            .arg(folder.join("settings"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).expect("a log"))
            .spawn()
            .expect("pgbouncer runs");
        let mut pool = Self { _folder: folder, port, child };
        let look = || {
            assert!(pool.child.try_wait().is_ok_and(|ended| ended.is_none()), "PgBouncer ended at once");
            TcpStream::connect(pool.address()).is_ok()
        };
        until("PgBouncer to listen", look, |listens| *listens);
        pool
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        Postgres::url_at(self.address())
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
