//! The demo's program: starts, kills and restarts it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::LazyLock,
};

use crate::{
    Folder,
    clock::shift_clock,
    http,
    servers::{free_address_on, signal},
    wait::until,
};

/// The secret is the same after a restart, so that sessions survive it.
const SECRET: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2";

const BUNDLE: &str = "datastar.js";

/// A running `faststate-demo` on a port of its own, killed when dropped.
#[derive(Debug)]
pub struct Demo {
    address: SocketAddr,
    options: Vec<String>,
    /// Whether it is the demo's next version, `tests/next`.
    next: Option<Folder>,
    child: Child,
}

impl Demo {
    /// Starts the demo and waits until it answers.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts the demo on this adapter: `salvo`, `axum` or `hyper`.
    #[must_use]
    pub fn over(adapter: &str) -> Self {
        Self::with(&["--adapter", adapter])
    }

    /// Starts the demo with additional options.
    #[must_use]
    pub fn with(options: &[&str]) -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), options)
    }

    /// Starts the demo on this address of this machine, with additional options.
    #[must_use]
    pub fn on(ip: IpAddr, options: &[&str]) -> Self {
        Self::begin(ip, options, None)
    }

    /// Starts the demo with a clock that is shifted by `clock` (`-92d`) until it is [restarted](Self::restart).
    #[must_use]
    pub fn with_clock(clock: &str, options: &[&str]) -> Self {
        Self::begin(Ipv4Addr::LOCALHOST.into(), options, Some(clock))
    }

    fn begin(ip: IpAddr, options: &[&str], clock: Option<&str>) -> Self {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        // Another program may take the free port first.
        for _ in 0..3 {
            let address = free_address_on(ip);
            let child = run(address, &options, None, clock);
            let mut demo = Self { address, options: options.clone(), next: None, child };
            if demo.is_ready() {
                return demo;
            }
        }
        panic!("the demo ends as soon as it is started");
    }

    /// The output of a demo that exits at once because of these arguments and variables.
    #[must_use]
    pub fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let mut demo = Command::new(program("faststate-demo"));
        demo.args(arguments).env("RUST_LOG", "warn").envs(variables.iter().copied()).stdin(Stdio::null());
        let output = demo.output().expect("the demo is built");
        assert!(!output.status.success(), "the demo ends well with {arguments:?} {variables:?}");
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
    }

    /// The address on which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the demo was running");
        self.child.wait().expect("the demo ends");
    }

    /// Restarts the demo on the same port after [`kill`](Self::kill) or [`terminate`](Self::terminate).
    pub fn restart(&mut self) {
        self.child = run(self.address, &self.options, self.next.as_ref(), None);
        assert!(self.is_ready(), "the demo ends as soon as it is started again");
    }

    /// Restarts the demo as its next version, `tests/next`.
    pub fn upgrade(&mut self) {
        let folder = Folder::new("next");
        fs::write(folder.join(BUNDLE), Self::bundle()).expect("a new folder takes a file");
        self.next = Some(folder);
        self.restart();
    }

    /// Sends SIGTERM, as a service manager does, and waits for the exit.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let ended = || self.child.try_wait().expect("the demo is ours");
        until("the demo to end after SIGTERM", ended, Option::is_some).expect("it has ended")
    }

    /// Sends a signal: `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// The exit status; `None` while the process runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the demo is ours")
    }

    /// The response of `/faststate/health`.
    #[must_use]
    pub fn health(&self) -> serde_json::Value {
        let reply = http::get(self.address, "/faststate/health").expect("the demo answers");
        serde_json::from_slice(&reply.body).expect("health is JSON")
    }

    /// The Datastar bundle that the demo serves.
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

    /// Waits until the demo responds; fails if it exits.
    fn is_ready(&mut self) -> bool {
        let look = || {
            let ended = self.child.try_wait().expect("the demo is ours").is_some();
            let health = http::get(self.address, "/faststate/health");
            (ended, health.map_or(0, |reply| reply.status))
        };
        let (ended, _) = until("the demo to answer", look, |(ended, status)| *ended || *status == 200);
        !ended
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(address: SocketAddr, options: &[String], next: Option<&Folder>, clock: Option<&str>) -> Child {
    let program = program(if next.is_some() { "faststate-demo-next" } else { "faststate-demo" });
    let bundle = next.map(|folder| ("FASTSTATE_DATASTAR_JS", folder.join(BUNDLE)));
    let mut command = Command::new(&program);
    if let Some(offset) = clock {
        shift_clock(&mut command, offset);
    }
    command
        .args(["--listen", &address.to_string()])
        .args(options)
        // Arguments take precedence over variables.
        .env("FASTSTATE_SECRET", SECRET)
        .env("FASTSTATE_STORE", "memory:")
        .env("RUST_LOG", "warn")
        .envs(bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{}: {error}: cargo build --workspace --bins --all-features", program.display())
        })
}

/// The program is one folder above the test: `target/debug/deps/stories-..` runs `target/debug/faststate-demo`.
fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its program");
    let folder = this.ancestors().nth(2).expect("a test's program is in target/*/deps");
    folder.join(name)
}
