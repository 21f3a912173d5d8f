//! What the command line and the environment can set.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use faststate::endpoint::{Limits, Secret};

/// FastState's demo: a playground, a counter and a chat, live in every window.
#[derive(Debug, Parser)]
#[command(version, after_help = "A flag goes before its variable. RUST_LOG sets what is logged (info).")]
pub(crate) struct Options {
    /// The address and port to listen on; port 0 takes a free one
    #[arg(long, env = "FASTSTATE_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,

    /// What session cookies are signed with: at least 32 bytes in hexadecimal, as `openssl rand -hex 32`
    /// prints them. Other users of this machine can see a flag: prefer the variable. Without one the
    /// sessions end with the process
    #[arg(long, env = "FASTSTATE_SECRET", value_name = "HEX", hide_env_values = true, value_parser = Secret::from_hex)]
    pub(crate) secret: Option<Secret>,

    /// How many streams this server serves at a time; 0 for no limit
    #[arg(long, env = "FASTSTATE_MAX_STREAMS", value_name = "STREAMS", default_value_t = Limits::default().streams)]
    pub(crate) max_streams: usize,

    /// How many streams one address may have (an IPv6 network of 64 bits counts as one); 0 for no limit
    #[arg(long, env = "FASTSTATE_MAX_STREAMS_PER_ADDRESS", value_name = "STREAMS", default_value_t = Limits::default().streams_per_address)]
    pub(crate) max_streams_per_address: usize,

    /// How many streams one browser session may have; 0 for no limit
    #[arg(long, env = "FASTSTATE_MAX_STREAMS_PER_SESSION", value_name = "STREAMS", default_value_t = Limits::default().streams_per_session)]
    pub(crate) max_streams_per_session: usize,

    /// A copy of Datastar 1.0.4 to serve instead of the one that was built in; its hash is checked
    #[arg(long, env = "FASTSTATE_DATASTAR_JS", value_name = "FILE")]
    pub(crate) datastar_js: Option<PathBuf>,
}

impl Options {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            streams: self.max_streams,
            streams_per_address: self.max_streams_per_address,
            streams_per_session: self.max_streams_per_session,
            ..Limits::default()
        }
    }
}
