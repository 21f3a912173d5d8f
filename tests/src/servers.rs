//! Real servers, each with its own data folder. Dropping one kills it.

mod disk;
mod folder;
mod mariadb;
mod nginx;
mod pgbouncer;
mod postgres;
mod redis;
mod redis_cluster;
mod redis_sentinel;

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
};

pub use self::{
    disk::Disk,
    folder::Folder,
    mariadb::MariaDb,
    nginx::Nginx,
    pgbouncer::PgBouncer,
    postgres::{Postgres, PostgresSettings},
    redis::{RedisServer, RedisSnapshot},
    redis_cluster::RedisCluster,
    redis_sentinel::RedisSentinels,
};

/// A free address. Its port is below the system's range for outgoing connections, one of which
/// could otherwise take it while a server restarts.
pub(crate) fn free_address() -> SocketAddr {
    free_address_on(Ipv4Addr::LOCALHOST.into())
}

/// A free address on another IP address of this machine.
pub(crate) fn free_address_on(ip: IpAddr) -> SocketAddr {
    let free = (0..1000).find_map(|_| {
        let port = 10_000 + u16::try_from(RandomState::new().hash_one(()) % 20_000).unwrap_or_default();
        TcpListener::bind((ip, port)).and_then(|free| free.local_addr()).ok()
    });
    free.expect("a free port")
}

/// Sends a signal (`STOP`, `CONT`, `TERM`) to a child process.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "a signal {name} to a process that runs");
}

/// Sends a signal to a child process and to its children.
fn signal_all(process: u32, name: &str) {
    signal(process, name);
    for entry in std::fs::read_dir("/proc").expect("`/proc` lists the processes").flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if parent.is_some_and(|parent| parent.trim() == process.to_string()) {
            // The process may exit at this moment.
            let _ = Command::new("kill").args([format!("-{name}"), child.to_string()]).status();
        }
    }
}

/// Finds a program in `PATH` or in one of `folders`. Panics with the Debian package to install.
fn program(name: &str, folders: &[PathBuf], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(folders.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("`{name}` is missing: apt-get install {package}"))
}
