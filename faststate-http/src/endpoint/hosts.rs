//! The host names that a server answers for.
//!
//! Another site can make a name that it controls resolve to this server (DNS rebinding). Browsers then treat requests of
//! that site as same-origin, so `Origin` and `Sec-Fetch-Site` do not reveal the attack; only `Host` does.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header, uri::Authority};

/// The hosts that a server answers for.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(hosts.into_iter().map(|host| host.into().to_ascii_lowercase()).collect())
    }

    /// Returns whether a `Host` is one of these hosts. The port counts only if a known host names one.
    pub(super) fn contains(&self, host: &str) -> bool {
        // The common case is equality. This runs for each request and does not allocate.
        let same = |known: &String, host: &str| known.eq_ignore_ascii_case(host);
        if self.0.iter().any(|known| same(known, host)) {
            return true;
        }
        let name = without_port(host);
        self.0.iter().any(|known| match known.strip_prefix('.') {
            Some(parent) => name.len().checked_sub(parent.len()).is_some_and(|at| {
                let (rest, end) = name.as_bytes().split_at(at);
                end.eq_ignore_ascii_case(parent.as_bytes()) && matches!(rest.last(), None | Some(b'.'))
            }),
            None => same(known, name),
        })
    }
}

/// Returns the host that a request addresses, with its port if there is one.
pub(super) fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| uri.authority().map(Authority::as_str))
}

/// Returns a `Host` without its port. An IPv6 address keeps its brackets.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns whether a `Host` is a name or address of this machine that no other site can have.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let local = || name.len() > 10 && name.as_bytes()[name.len() - 10..].eq_ignore_ascii_case(b".localhost");
    name.eq_ignore_ascii_case("localhost")
        || local()
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_08_hosts_match_whole_names_and_named_ports() {
        let hosts = Hosts::new(["App.example", "admin.example:8443", ".tenants.example", "[2001:db8::1]"]);
        for host in [
            "app.example",
            "APP.example:443",
            "admin.example:8443",
            "tenants.example",
            "a.b.tenants.example:1",
            "[2001:db8::1]",
            "[2001:db8::1]:80",
        ] {
            assert!(hosts.contains(host), "{host}");
        }
        for host in
            ["evil.example", "xapp.example", "app.example.evil.example", "admin.example", "admin.example:1"]
        {
            assert!(!hosts.contains(host), "{host}");
        }
        for host in ["xtenants.example", "", ":80", "tenants.example.evil", "2001:db8::1"] {
            assert!(!hosts.contains(host), "{host}");
        }
    }

    #[test]
    fn law_08_loopback_names_belong_to_this_machine() {
        for host in
            ["localhost", "LOCALHOST:5000", "app.localhost", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example", "xlocalhost", ""]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
