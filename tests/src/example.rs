//! Starts and stops a program of `examples/`.

use std::{
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
};

use crate::{
    http,
    servers::{free_address, signal},
    wait::until,
};

/// A running example on a port of its own, killed when dropped.
#[derive(Debug)]
pub struct Example {
    address: SocketAddr,
    child: Child,
}

impl Example {
    /// Starts the example with its listen address as argument, and waits until it responds.
    #[must_use]
    pub fn start(name: &str) -> Self {
        let address = free_address();
        let this = std::env::current_exe().expect("a test knows its program");
        let folder = this.ancestors().nth(2).expect("a test's program is in target/*/deps");
        let program = folder.join("examples").join(name);
        let child = Command::new(&program).arg(address.to_string()).stdin(Stdio::null()).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{}: {error}: cargo build --examples", program.display()));
        let example = Self { address, child };
        until("the example to answer", || http::get(address, "/faststate/health").is_ok(), |ready| *ready);
        example
    }

    /// The address on which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends SIGINT, as Ctrl-C does, and waits for the exit.
    pub fn interrupt(&mut self) -> ExitStatus {
        signal(self.child.id(), "INT");
        let ended = || self.child.try_wait().expect("the example is ours");
        until("the example to end after SIGINT", ended, Option::is_some).expect("it has ended")
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
