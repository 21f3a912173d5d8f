//! Clusters of `redis-server`s.

use std::path::Path;

use super::{free_address, redis::RedisServer};
use crate::{certificates::Certificates, wait::until};

/// A cluster of three masters, each with a third of the slots and, on request, a replica.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<RedisServer>,
    /// The path of the authority's certificate, if the cluster accepts only encrypted connections.
    authority: Option<String>,
}

/// Number of masters.
const MASTERS: usize = 3;

impl RedisCluster {
    /// Starts a cluster without replicas, and waits until it serves all slots.
    #[must_use]
    pub fn start() -> Self {
        Self::with(MASTERS, &[], None)
    }

    /// Starts a cluster in which every master has a replica, which replaces it about 2 s after its death.
    #[must_use]
    pub fn with_replicas() -> Self {
        Self::with(2 * MASTERS, &["--cluster-node-timeout", "1000"], None)
    }

    /// Starts a cluster that accepts only encrypted connections.
    #[must_use]
    pub fn with_tls(certificates: &Certificates) -> Self {
        let own = certificates.issue(&["127.0.0.1", "localhost"]);
        let settings = RedisServer::tls_settings(certificates, &own);
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        Self::with(MASTERS, &settings, Some(&certificates.authority()))
    }

    fn with(count: usize, settings: &[&str], authority: Option<&Path>) -> Self {
        let servers: Vec<_> = (0..count)
            .map(|_| {
                // The bus port is set explicitly, because the default (port + 10,000) may exceed the range of ports.
                let bus = free_address().port().to_string();
                let own = ["--cluster-enabled", "yes", "--appendonly", "yes", "--cluster-port", &bus];
                (RedisServer::with(&[&own, settings].concat()), bus)
            })
            .collect();
        let (first, bus) = &servers[0];
        let (ip, port) = (first.address().ip().to_string(), first.address().port().to_string());
        for (server, _) in &servers {
            let _ = server.command(&["CLUSTER", "MEET", &ip, &port, bus]);
        }
        for ((server, _), slots) in servers.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            let slots: Vec<_> = slots.split(' ').collect();
            let _ = server.command(&[&["CLUSTER", "ADDSLOTSRANGE"], &*slots].concat());
        }
        let servers: Vec<_> = servers.into_iter().map(|(server, _)| server).collect();
        let cluster = Self { servers, authority: authority.map(|path| path.display().to_string()) };
        cluster.wait(&format!("cluster_known_nodes:{count}\r"));
        for at in MASTERS..count {
            let master = cluster.id(at - MASTERS);
            let replicate = || cluster.servers[at].command(&["CLUSTER", "REPLICATE", &master]);
            until("a replica to know its master", replicate, |answer| answer.starts_with("+OK"));
            let info = || cluster.servers[at].command(&["INFO", "replication"]);
            until("a replica to be in sync", info, |info| info.contains("master_link_status:up"));
        }
        cluster.wait("cluster_state:ok");
        cluster
    }

    /// Waits until every node reports that the cluster is healthy, and reports `text`.
    fn wait(&self, text: &str) {
        let states =
            || self.servers.iter().map(|server| server.command(&["CLUSTER", "INFO"])).collect::<Vec<_>>();
        let knows = |info: &String| info.contains("cluster_state:ok") && info.contains(text);
        until("the cluster to be one", states, |infos| infos.iter().all(knows));
    }

    /// Returns the URL of the cluster, which names all nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(|server| server.address().to_string()).collect();
        match &self.authority {
            None => format!("redis+cluster://{}", hosts.join(",")),
            Some(authority) => format!("rediss+cluster://{}?sslrootcert={authority}", hosts.join(",")),
        }
    }

    /// Returns the id of a node.
    #[must_use]
    pub fn id(&self, node: usize) -> String {
        let answer = self.servers[node].command(&["CLUSTER", "MYID"]);
        answer.lines().nth(1).expect("an id").trim().to_owned()
    }

    /// Moves a slot with its keys from one node to another, in the steps of `redis-cli --cluster reshard`.
    ///
    /// Calls `meanwhile` when both nodes have marked the slot as moving, before its keys are moved. In this state, the
    /// source answers a request for a missing key with `ASK`.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize, meanwhile: impl FnOnce()) {
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let (slot, source_id, target_id) = (slot.to_string(), self.id(from), self.id(to));
        let ok = |answer: String| assert!(answer.starts_with("+OK"), "{answer}");
        ok(target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]));
        ok(source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]));
        meanwhile();
        let (ip, port) = (target.address().ip().to_string(), target.address().port().to_string());
        loop {
            let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            let keys: Vec<_> =
                keys.lines().skip(1).filter(|line| !line.starts_with('$')).map(str::trim).collect();
            if keys.is_empty() {
                break;
            }
            let migrate = ["MIGRATE", &ip, &port, "", "0", "5000", "KEYS"];
            ok(source.command(&[&migrate, &*keys].concat()));
        }
        for server in [target, source] {
            ok(server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]));
        }
    }

    /// Returns the nodes: the masters, then their replicas in the same order.
    #[must_use]
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }
}
