//! nginx.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{Folder, free_address, program, signal};
use crate::wait::until;

/// The configuration from the examples.
const EXAMPLE: &str = include_str!("../../../examples/nginx.conf");

/// An nginx in front of three nodes, configured by `examples/nginx.conf`. Dropping it stops it.
#[derive(Debug)]
pub struct Nginx {
    folder: Folder,
    address: SocketAddr,
    scheme: &'static str,
    child: Child,
}

impl Nginx {
    /// Starts the example with these addresses.
    #[must_use]
    pub fn before(nodes: [SocketAddr; 3]) -> Self {
        let address = free_address();
        let listen = ("listen 127.0.0.1:8080".to_owned(), format!("listen {address}"));
        Self::run(Folder::new("nginx"), address, "http", nodes, &[listen])
    }

    /// Starts the example with HTTP/2, as its comment describes, and a self-signed certificate.
    #[must_use]
    pub fn with_http2_before(nodes: [SocketAddr; 3]) -> Self {
        let (folder, address) = (Folder::new("nginx"), free_address());
        certify(&folder);
        let lines = [
            ("#   listen 443 ssl http2", format!("listen {address} ssl http2")),
            ("#   ssl_certificate     ..", "ssl_certificate certificate.pem".to_owned()),
            ("#   ssl_certificate_key ..", "ssl_certificate_key key.pem".to_owned()),
            ("listen 127.0.0.1:8080;", String::new()),
        ];
        Self::run(folder, address, "https", nodes, &lines.map(|(from, to)| (from.to_owned(), to)))
    }

    fn run(
        folder: Folder,
        address: SocketAddr,
        scheme: &'static str,
        nodes: [SocketAddr; 3],
        listen: &[(String, String)],
    ) -> Self {
        let own = ["127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5003"].map(|node| format!("server {node}"));
        let servers = own.into_iter().zip(nodes.map(|node| format!("server {node}")));
        let mut config = EXAMPLE.to_owned();
        for (from, to) in servers.chain(listen.iter().cloned()) {
            assert!(config.contains(&from), "examples/nginx.conf has {from}");
            config = config.replace(&from, &to);
        }
        fs::write(folder.join("nginx.conf"), config).expect("a new folder takes a file");
        let child = Command::new(program("nginx", &[PathBuf::from("/usr/sbin")], "nginx-light"))
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf"])
            .stdin(Stdio::null())
            .stderr(File::create(folder.join("log")).expect("a log"))
            .spawn()
            .expect("nginx runs");
        let mut nginx = Self { folder, address, scheme, child };
        nginx.ready();
        nginx
    }

    /// The address on which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The warnings and errors in its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn ready(&mut self) {
        let look = || {
            let ended = self.child.try_wait().expect("nginx is ours");
            assert!(ended.is_none(), "nginx ended at once: {}", self.log());
            TcpStream::connect(self.address).is_ok()
        };
        let mut look = look;
        until("nginx to listen", &mut look, |listens| *listens);
    }
}

/// Writes a key and its certificate into the folder.
fn certify(folder: &Folder) {
    let made = Command::new(program("openssl", &[], "openssl"))
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=faststate.test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGKILL would leave the workers running.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.child.id(), "TERM");
        }
        let _ = self.child.wait();
    }
}
