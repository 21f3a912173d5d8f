//! The demo's real program, started, killed and started again.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::LazyLock,
};

use crate::{http, servers::signal, wait::until};

/// The same secret after a restart, so that sessions live on.
const SECRET: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2";

/// A running `faststate-demo` on a port of its own, killed when dropped.
#[derive(Debug)]
pub struct Demo {
    address: SocketAddr,
    options: Vec<String>,
    child: Child,
}

impl Demo {
    /// Starts the demo and waits until it answers.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts the demo with options of its own.
    #[must_use]
    pub fn with(options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = port.local_addr().expect("a bound socket has an address");
        drop(port);
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let child = run(address, &options);
        let mut demo = Self { address, options, child };
        demo.ready();
        demo
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A path's address.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().expect("the demo was running");
        self.child.wait().expect("the demo ends");
    }

    /// Starts it again after a [`kill`](Self::kill) or [`terminate`](Self::terminate), on the same port.
    pub fn restart(&mut self) {
        self.child = run(self.address, &self.options);
        self.ready();
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let ended = || self.child.try_wait().expect("the demo is ours");
        until("the demo to end after SIGTERM", ended, Option::is_some).expect("it has ended")
    }

    /// Sends a signal: `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the demo is ours")
    }

    /// What `/faststate/health` says.
    #[must_use]
    pub fn health(&self) -> serde_json::Value {
        let reply = http::get(self.address, "/faststate/health").expect("the demo answers");
        serde_json::from_slice(&reply.body).expect("health is JSON")
    }

    /// The Datastar bundle, as the demo serves it.
    #[must_use]
    pub fn bundle() -> &'static [u8] {
        static BUNDLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
            if let Some(file) = std::env::var_os("FASTSTATE_DATASTAR_JS") {
                return std::fs::read(file).expect("FASTSTATE_DATASTAR_JS names the bundle");
            }
            let reply = http::get(Demo::start().address, "/faststate/datastar.js").expect("the demo answers");
            let hint = "the demo was built without the Datastar bundle: see the warning of its build script";
            assert_eq!(reply.status, 200, "{hint}");
            reply.body
        });
        &BUNDLE
    }

    fn ready(&mut self) {
        let look = || {
            assert!(self.child.try_wait().is_ok_and(|ended| ended.is_none()), "the demo ended at once");
            http::get(self.address, "/faststate/health").map_or(0, |reply| reply.status)
        };
        until("the demo to answer", look, |status| *status == 200);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(address: SocketAddr, options: &[String]) -> Child {
    let program = program();
    Command::new(&program)
        .args(["--listen", &address.to_string(), "--secret", SECRET])
        .args(options)
        // A flag goes before it.
        .env("FASTSTATE_STORE", "memory:")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: cargo build -p faststate-demo", program.display()))
}

/// Beside the test's own folder: `target/debug/deps/stories-..` tests `target/debug/faststate-demo`.
fn program() -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its program");
    let folder = this.ancestors().nth(2).expect("a test's program is in target/*/deps");
    folder.join("faststate-demo")
}
