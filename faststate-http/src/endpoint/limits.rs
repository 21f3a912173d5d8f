//! What one node takes on.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use faststate_core::internal::Caps;
use http::{HeaderMap, HeaderName};

/// What one node takes on; 0 stands for no limit.
///
/// At a limit a request is answered with a problem, and nothing that goes on is ended (law 6).
///
/// ```
/// # use faststate_http::endpoint::Limits;
/// let limits = Limits::default().with_streams(5_000).with_streams_per_address(200);
/// assert_eq!((limits.streams, limits.streams_per_session), (5_000, 64));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest body of an event, in bytes: 64 KiB.
    pub body_bytes: usize,
    /// Streams of this node: 20,000.
    pub streams: usize,
    /// Streams of one session: 64.
    pub streams_per_session: usize,
    /// Streams of one address, IPv6 counted by its /64 network: 1,000. Behind a proxy everybody has the
    /// proxy's address unless `trusted_proxy_header` is set.
    pub streams_per_address: usize,
    /// Topics of one stream: 32.
    pub topics_per_stream: usize,
    /// New sessions whose cookie has not come back yet, of this node: 10,000. Beyond it the oldest are forgotten.
    pub new_sessions: usize,
    /// The same of one address, counted as `streams_per_address`: 1,000. Beyond it the address's own oldest are
    /// forgotten.
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
    /// These limits, with so many bytes of an event's body.
    #[must_use]
    pub const fn with_body_bytes(mut self, bytes: usize) -> Self {
        self.body_bytes = bytes;
        self
    }

    /// These limits, with so many streams of this node.
    #[must_use]
    pub const fn with_streams(mut self, streams: usize) -> Self {
        self.streams = streams;
        self
    }

    /// These limits, with so many streams of one session.
    #[must_use]
    pub const fn with_streams_per_session(mut self, streams: usize) -> Self {
        self.streams_per_session = streams;
        self
    }

    /// These limits, with so many streams of one address.
    #[must_use]
    pub const fn with_streams_per_address(mut self, streams: usize) -> Self {
        self.streams_per_address = streams;
        self
    }

    /// These limits, with so many topics of one stream.
    #[must_use]
    pub const fn with_topics_per_stream(mut self, topics: usize) -> Self {
        self.topics_per_stream = topics;
        self
    }

    /// These limits, with so many new sessions whose cookie has not come back, of this node and of one address.
    #[must_use]
    pub const fn with_new_sessions(mut self, of_node: usize, per_address: usize) -> Self {
        (self.new_sessions, self.new_sessions_per_address) = (of_node, per_address);
        self
    }

    pub(super) const fn new_sessions(&self) -> Caps {
        Caps { node: limit(self.new_sessions), address: limit(self.new_sessions_per_address) }
    }
}

/// A limit as a number that is never reached if there is none.
pub(super) const fn limit(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

/// The address that a request counts for.
///
/// A proxy appends the address it sees, so the last one of the trusted header is what our own proxy
/// wrote; what stands before it is the client's claim.
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

/// IPv6 counts by its /64: that is what one household gets.
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
    fn a_forwarded_address_counts_only_where_it_is_trusted() {
        assert_eq!(at(Some("1.2.3.4"), false), "10.0.0.1");
        assert_eq!(at(Some("1.2.3.4"), true), "1.2.3.4");
        assert_eq!(at(Some("6.6.6.6, 1.2.3.4"), true), "1.2.3.4");
        assert_eq!(at(Some("1.2.3.4:80"), true), "1.2.3.4");
        assert_eq!(at(Some("garbage"), true), "10.0.0.1");
        assert_eq!(at(None, true), "10.0.0.1");
    }

    #[test]
    fn ipv6_counts_by_its_network() {
        assert_eq!(at(Some("2001:db8:1:2:3:4:5:6"), true), "2001:db8:1:2::");
        assert_eq!(at(Some("[2001:db8:1:2:9::1]"), true), "2001:db8:1:2::");
        assert_eq!(at(Some("[2001:db8:1:2:9::1]:443"), true), "2001:db8:1:2::");
        assert_eq!(at(Some("::ffff:1.2.3.4"), true), "1.2.3.4");
    }
}
