//! Real servers, each with its data in a folder of its own, killed when dropped.

mod folder;
mod redis;

use std::{
    net::{SocketAddr, TcpListener},
    process::Command,
};

pub use self::redis::{RedisServer, RedisSnapshot};

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    port.local_addr().expect("a bound socket has an address")
}

/// Sends a signal (`STOP`, `CONT`, `TERM`) to a process of ours.
fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "a signal {name} to a process that runs");
}
