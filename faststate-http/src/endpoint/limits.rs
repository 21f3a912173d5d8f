//! The limits of one node, and the address that a request counts for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use faststate_core::internal::Caps;
use http::{HeaderMap, HeaderName};

/// The limits of one node; 0 means no limit.
///
/// A request above a limit is answered with a problem. A limit never ends an open stream (law 6). Later versions may add
/// limits, so end the expression with `..Limits::default()`.
///
/// ```
/// # use faststate_http::endpoint::Limits;
/// let limits = Limits { streams: 5_000, streams_per_address: 200, ..Limits::default() };
/// assert_eq!(limits.streams_per_session, 64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest body of an event, in bytes (default: 64 KiB).
    pub body_bytes: usize,
    /// The number of streams of this node (default: 20,000).
    pub streams: usize,
    /// The number of streams of one session (default: 64).
    pub streams_per_session: usize,
    /// The number of streams of one address (default: 1,000). IPv6 addresses count by their /64 network. Behind a proxy,
    /// all clients have the proxy's address unless `trusted_proxy_header` is set.
    pub streams_per_address: usize,
    /// The number of topics of one stream (default: 32).
    pub topics_per_stream: usize,
    /// The number of new sessions of this node whose cookie has not been returned yet (default: 10,000). Beyond the
    /// limit, the node forgets the oldest ones.
    pub new_sessions: usize,
    /// The same for one address, counted as in `streams_per_address` (default: 1,000). Beyond the limit, the node forgets
    /// the oldest ones of that address.
    pub new_sessions_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            streams: 20_000,
            streams_per_session: 64,
            streams_per_address: 1_000,
            topics_per_stream: 32,
            new_sessions: 10_000,
            new_sessions_per_address: 1_000,
        }
    }
}

impl Limits {
    pub(super) const fn new_sessions(&self) -> Caps {
        Caps { node: limit(self.new_sessions), address: limit(self.new_sessions_per_address) }
    }
}

/// Returns the limit, or `usize::MAX` for 0 (no limit).
pub(super) const fn limit(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

/// Returns the address that a request counts for.
///
/// A proxy appends the address of its client, so the trusted proxy wrote the last address of the header. The client can
/// forge all earlier ones.
pub(super) fn address(
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
    trusted: Option<&HeaderName>,
) -> Option<IpAddr> {
    let forwarded = trusted
        .and_then(|name| headers.get_all(name).into_iter().next_back())
        .and_then(|value| value.to_str().ok()?.rsplit(',').next().map(str::trim))
        .and_then(|text| {
            let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
            text.parse().ok().or_else(bare).or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
        });
    forwarded.or(peer.map(|peer| peer.ip())).map(network)
}

/// Returns the address, or the /64 network of an IPv6 address, because one household usually gets a whole /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        IpAddr::V4(v4) => IpAddr::V4(v4),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn at(forwarded: Option<&str>, trusted: bool) -> String {
        let mut headers = HeaderMap::new();
        if let Some(forwarded) = forwarded {
            headers.insert("x-forwarded-for", HeaderValue::from_str(forwarded).unwrap());
        }
        let name = HeaderName::from_static("x-forwarded-for");
        let peer = "10.0.0.1:9".parse().unwrap();
        address(&headers, Some(peer), trusted.then_some(&name)).unwrap().to_string()
    }

    #[test]
    fn forwarded_address_counts_only_when_trusted() {
        assert_eq!(at(Some("1.2.3.4"), false), "10.0.0.1");
        assert_eq!(at(Some("1.2.3.4"), true), "1.2.3.4");
        assert_eq!(at(Some("6.6.6.6, 1.2.3.4"), true), "1.2.3.4");
        assert_eq!(at(Some("1.2.3.4:80"), true), "1.2.3.4");
        assert_eq!(at(Some("garbage"), true), "10.0.0.1");
        assert_eq!(at(None, true), "10.0.0.1");
    }

    #[test]
    fn ipv6_address_counts_by_its_network() {
        assert_eq!(at(Some("2001:db8:1:2:3:4:5:6"), true), "2001:db8:1:2::");
        assert_eq!(at(Some("[2001:db8:1:2:9::1]"), true), "2001:db8:1:2::");
        assert_eq!(at(Some("[2001:db8:1:2:9::1]:443"), true), "2001:db8:1:2::");
        assert_eq!(at(Some("::ffff:1.2.3.4"), true), "1.2.3.4");
    }
}
