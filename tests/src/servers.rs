//! Database servers in temporary folders, on free ports, killed with their tests.

mod folder;
mod mariadb;
mod postgres;

use std::{net::TcpListener, path::PathBuf};

pub use self::{folder::Folder, mariadb::MariaDb, postgres::Postgres};

/// A port of 127.0.0.1 that nobody listens on.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Where a program is: in the `PATH`, or in one of `folders`. Panics with the Debian package to install.
#[must_use]
pub fn program(name: &str, folders: &[PathBuf], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(folders.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("`{name}` is missing: apt-get install {package}"))
}
