//! A client and a server in separate network namespaces, with a router between them that can drop packets.

use std::{
    fs::File,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd as _,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Three namespaces: `client — router — server`. Dropping this value removes them.
///
/// Processes [in the client's](Self::client) and [in the server's](Self::server) namespace reach each other through the
/// router only, and reach nothing else.
#[derive(Debug)]
pub struct Network {
    client: String,
    router: String,
    server: String,
}

impl Network {
    /// The server's address.
    pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 87, 2, 2));

    /// Creates the namespaces; requires root.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("fs{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = |side: char| format!("{unique}{side}");
        let network = Self { client: name('c'), router: name('r'), server: name('s') };
        for namespace in [&network.client, &network.router, &network.server] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        for (side, namespace, subnet) in [("c", &network.client, 1), ("s", &network.server, 2)] {
            let router = &*network.router;
            let peer = ["type", "veth", "peer", "name", "veth0", "netns", namespace];
            ip(&[&["-n", router, "link", "add", side], &peer[..]].concat());
            ip(&["-n", router, "addr", "add", &format!("10.87.{subnet}.1/24"), "dev", side]);
            ip(&["-n", router, "link", "set", side, "up"]);
            ip(&["-n", namespace, "addr", "add", &format!("10.87.{subnet}.2/24"), "dev", "veth0"]);
            ip(&["-n", namespace, "link", "set", "veth0", "up"]);
            ip(&["-n", namespace, "route", "add", "default", "via", &format!("10.87.{subnet}.1")]);
        }
        network.pass_packets();
        network
    }

    /// Runs `f`, and the processes that it starts, in the client's namespace.
    pub fn client<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        within(&self.client, run)
    }

    /// Runs `f`, and the processes that it starts, in the server's namespace.
    pub fn server<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        within(&self.server, run)
    }

    /// Makes the router drop every packet silently.
    pub fn drop_packets(&self) {
        self.forward("0");
    }

    /// Makes the router forward packets again.
    pub fn pass_packets(&self) {
        self.forward("1");
    }

    fn forward(&self, set: &str) {
        let write = || std::fs::write("/proc/sys/net/ipv4/ip_forward", set);
        within(&self.router, write).expect("a namespace of ours has this setting");
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.router, &self.server] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// Runs `f` on a thread in the namespace.
fn within<T: Send>(namespace: &str, run: impl FnOnce() -> T + Send) -> T {
    let entered = thread::scope(|scope| {
        let inside = || {
            let namespace = File::open(format!("/run/netns/{namespace}")).expect("the namespace is there");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
            run()
        };
        scope.spawn(inside).join()
    });
    entered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn ip(arguments: &[&str]) {
    match Command::new("ip").args(arguments).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            panic!("ip {}: {said} (network namespaces need root)", arguments.join(" "))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("`ip` is missing: apt-get install iproute2")
        }
        Err(error) => panic!("ip: {error}"),
    }
}
