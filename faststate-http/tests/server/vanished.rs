//! Clients whose network is gone. The test needs iproute2, and root to create a network namespace.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{FastState, Running, eventually, start_on};

const SERVER: &str = "10.213.77.1";
const CLIENT: &str = "10.213.77.2";

/// A virtual cable with one end here and one in a network namespace of its own.
struct Network {
    namespace: String,
    /// The device of the end that is here.
    near: String,
}

impl Network {
    fn new() -> Self {
        let id = std::process::id();
        let network = Self { namespace: format!("faststate{id}"), near: format!("fs{id}") };
        let Self { namespace, near } = &network;
        ip(&["netns", "add", namespace]);
        ip(&["link", "add", near, "type", "veth", "peer", "name", "far", "netns", namespace]);
        ip(&["addr", "add", &format!("{SERVER}/30"), "dev", near]);
        ip(&["link", "set", near, "up"]);
        network.inside(&["addr", "add", &format!("{CLIENT}/30"), "dev", "far"]);
        network.inside(&["link", "set", "far", "up"]);
        network
    }

    fn inside(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.namespace], arguments].concat());
    }

    /// Starts a client in the namespace that follows the counter.
    fn follow(&self, server: &Running) -> Follower {
        let script = format!(
            "exec 3<>/dev/tcp/{SERVER}/{} && printf 'GET /faststate/sse?states=counter HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n' >&3 && exec cat <&3",
            server.address.port()
        );
        let mut client = Command::new("ip");
        client.args(["netns", "exec", &self.namespace, "bash", "-c", &script]).stdout(Stdio::null());
        Follower(client.spawn().unwrap())
    }

    /// Cuts the network, so that nothing arrives from the clients.
    fn cut(&self) {
        self.inside(&["route", "add", "blackhole", &format!("{SERVER}/32")]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.near]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output();
    let output = output.expect("`ip` is missing: install iproute2 (apt-get install iproute2)");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ip {}`, which needs root, failed: {error}", arguments.join(" "));
}

/// With a heartbeat, unacknowledged data ends the connection; without one, keep-alive does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_06_vanished_client_is_forgotten_within_60_s() {
    let network = Network::new();
    let with_heartbeat = start_on(SERVER, |server| server);
    let silent = |server: FastState| server.endpoint().clone().heartbeat(Duration::ZERO);
    let without = start_on(SERVER, |server| FastState::from_endpoint(silent(server)));
    let servers = [&with_heartbeat, &without];
    let clients = servers.map(|server| network.follow(server));
    for server in servers {
        eventually("the client follows", || server.endpoint.connections() == 1).await;
    }
    network.cut();
    let cut = Instant::now();
    for server in servers {
        eventually("the client is forgotten", || server.endpoint.connections() == 0).await;
        println!("after {:?}", cut.elapsed());
    }
    assert!(cut.elapsed() < Duration::from_secs(60), "{:?}", cut.elapsed());
    drop(clients);
}
