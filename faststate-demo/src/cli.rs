//! The options of the command line and the environment.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use faststate::endpoint::{Limits, OperatorAccess, Secret, SecretError};

use crate::{broadcast::BroadcasterChoice, store::StoreChoice, web::Adapter};

/// FastState's demo: a small site, live in every window.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "A flag takes precedence over its variable. RUST_LOG sets the log filter (default: info)."
)]
pub(crate) struct Options {
    /// The address and port to listen on; port 0 takes a free one
    #[arg(long, env = "FASTSTATE_LISTEN", value_name = "ADDRESS:PORT", value_parser = address)]
    #[arg(default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,

    /// The adapter that serves the site: salvo, axum or hyper, if it was built with the feature of that name
    #[arg(long, env = "FASTSTATE_ADAPTER", value_name = "ADAPTER", default_value = Adapter::BUILT_IN[0].0)]
    pub(crate) adapter: Adapter,

    /// The secret that signs session cookies: at least 32 bytes in hexadecimal, as `openssl rand -hex 32`
    /// prints them. Further secrets, separated by commas, are accepted but not used to sign, so that all nodes
    /// can change to a new one. Other users of this machine can see a flag: prefer the variable. Without
    /// a secret, the sessions end with the process
    #[arg(long, env = "FASTSTATE_SECRET", value_name = "HEX", value_parser = secret)]
    #[arg(hide_env_values = true)]
    pub(crate) secret: Option<Secret>,

    /// The store: sqlite://FILE, postgres://.., mysql://.., redis://.. or
    /// memory:, which ends with the process. Other users of this machine can see a flag: prefer the
    /// variable for an address with a password
    #[arg(long, env = "FASTSTATE_STORE", value_name = "ADDRESS", default_value = "sqlite://faststate.db")]
    #[arg(hide_env_values = true)]
    pub(crate) store: StoreChoice,

    /// The broadcaster that carries changes between nodes over one store: redis://.. or postgres://..
    /// Without it, this is the only node. All nodes need the same --secret
    #[arg(long, env = "FASTSTATE_BROADCAST", value_name = "ADDRESS", hide_env_values = true)]
    pub(crate) broadcast: Option<BroadcasterChoice>,

    /// The name of this node on the status page
    #[arg(long, env = "FASTSTATE_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,

    /// How many streams this server serves at a time; 0 for no limit
    #[arg(long, env = "FASTSTATE_MAX_STREAMS", value_name = "STREAMS", value_parser = limit)]
    #[arg(default_value_t = Limits::default().streams, allow_negative_numbers = true)]
    pub(crate) max_streams: usize,

    /// How many streams one address may have (an IPv6 network of 64 bits counts as one); 0 for no limit
    #[arg(long, env = "FASTSTATE_MAX_STREAMS_PER_ADDRESS", value_name = "STREAMS", value_parser = limit)]
    #[arg(default_value_t = Limits::default().streams_per_address, allow_negative_numbers = true)]
    pub(crate) max_streams_per_address: usize,

    /// How many streams one browser session may have; 0 for no limit
    #[arg(long, env = "FASTSTATE_MAX_STREAMS_PER_SESSION", value_name = "STREAMS", value_parser = limit)]
    #[arg(default_value_t = Limits::default().streams_per_session, allow_negative_numbers = true)]
    pub(crate) max_streams_per_session: usize,

    /// Sets the cookies for HTTPS only: for a server behind a proxy that terminates HTTPS
    #[arg(long, env = "FASTSTATE_SECURE_COOKIES")]
    pub(crate) secure_cookies: bool,

    /// A copy of Datastar 1.0.4 to serve instead of the embedded one; its hash is checked
    #[arg(long, env = "FASTSTATE_DATASTAR_JS", value_name = "FILE")]
    pub(crate) datastar_js: Option<PathBuf>,

    /// The hosts that the site serves, separated by commas, as browsers name them: app.example, or
    /// .app.example including all subdomains. By default, only loopback names on a loopback address, and every
    /// name elsewhere
    #[arg(long, env = "FASTSTATE_HOSTS", value_name = "HOST,..", value_delimiter = ',')]
    pub(crate) hosts: Vec<String>,

    /// Serves the inspector at /faststate/inspector, to browsers on this machine that have the token. It shows every
    /// state as it is stored. The log contains the address
    #[arg(long, env = "FASTSTATE_INSPECTOR")]
    pub(crate) inspector: bool,

    /// Serves Prometheus metrics at /faststate/metrics, to clients on this machine that have the token
    #[arg(long, env = "FASTSTATE_METRICS")]
    pub(crate) metrics: bool,

    /// The token for the inspector and the metrics, sent as `?token=` or `Authorization: Bearer`. Other users of
    /// this machine can see a flag: prefer the variable. By default it is random, and the log contains it
    #[arg(long, env = "FASTSTATE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

impl Options {
    /// The hosts that the site serves, or `None` for every name.
    pub(crate) fn hosts(&self) -> Option<Vec<String>> {
        let loopback = ["localhost", ".localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec();
        match (self.hosts.is_empty(), self.listen.ip().is_loopback()) {
            (false, _) => Some(self.hosts.clone()),
            (true, true) => Some(loopback),
            (true, false) => None,
        }
    }

    /// The access rule of the inspector and the metrics.
    pub(crate) fn readers(&self) -> OperatorAccess {
        let local = OperatorAccess::loopback();
        match &self.token {
            Some(token) => local.with_token(token),
            None => local,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            streams: self.max_streams,
            streams_per_address: self.max_streams_per_address,
            streams_per_session: self.max_streams_per_session,
            ..Limits::default()
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "an address and a port are written as 127.0.0.1:5000 or [::1]:5000")
}

fn secret(text: &str) -> Result<Secret, SecretError> {
    let (first, others) = text.split_once(',').map_or((text, None), |(first, others)| (first, Some(others)));
    let mut others = others.into_iter().flat_map(|others| others.split(','));
    others.try_fold(Secret::from_hex(first)?, |secret, other| Ok(secret.accepting(Secret::from_hex(other)?)))
}

fn limit(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "a limit is a whole number, and 0 stands for no limit")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn invalid_value_error_names_a_valid_value() {
        let complaint = |flag, value| match Options::try_parse_from(["demo", flag, value]) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(complaint("--listen", "localhost").contains("127.0.0.1:5000"));
        assert!(complaint("--adapter", "rocket").contains("salvo, axum or hyper"));
        assert!(complaint("--secret", "abcd").contains("openssl rand -hex 32"));
        let (one, other) = ("0a".repeat(32), "b0".repeat(32));
        let (both, half) = (format!("{one},{other}"), format!("{one},"));
        assert_eq!(complaint("--secret", &both), "");
        assert!(complaint("--secret", &half).contains("openssl rand -hex 32"));
        for flag in ["--max-streams", "--max-streams-per-address", "--max-streams-per-session"] {
            assert!(complaint(flag, "-1").contains("whole number"));
            assert_eq!(complaint(flag, "0"), "");
        }
    }
}
