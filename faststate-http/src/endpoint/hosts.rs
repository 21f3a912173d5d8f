//! The names by which a server may be addressed.
//!
//! A name that another site controls may be made to lead to this server (DNS rebinding). Browsers then take
//! requests of that site for same-origin ones, so `Origin` and `Sec-Fetch-Site` show nothing: only `Host` does.

use std::net::IpAddr;
#[cfg(feature = "server")]
use std::net::SocketAddr;

use faststate_core::Error;
use http::{HeaderMap, HeaderName, Response, Uri, Version, header, uri::Authority};

use super::{Endpoint, Problem, ReplyBody, guard};

static FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The hosts that a server answers for.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(hosts.into_iter().map(|host| host.into().to_ascii_lowercase()).collect())
    }

    /// Whether a `Host` is one of these: by its name, and by its port where one is named.
    pub(super) fn contains(&self, host: &str) -> bool {
        // Usually they are equal. Nothing is allocated here: this runs for each request.
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

impl Endpoint {
    /// The response to a request that no page may answer: one of HTTP/1.1 that does not name its host exactly once, or
    /// one for a host that is not among [`hosts`](Self::hosts).
    ///
    /// [`respond`](Self::respond) refuses such requests itself, and so does a server of
    /// `serve`; an adapter asks before anything else answers.
    #[must_use]
    pub fn refusal(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Option<Response<ReplyBody>> {
        if !guard::names_one_host(version, headers) {
            return Some(Problem::host().page());
        }
        let refused = self.check_host(headers, uri).err()?;
        Some(Problem::of(&refused).page())
    }

    /// The scheme of the addresses under which browsers find this site.
    pub(super) fn scheme(&self, headers: &HeaderMap) -> &'static str {
        let forwarded = self.settings.trusted_proxy.as_ref().and_then(|_| headers.get(&FORWARDED_SCHEME));
        let is_https = self.settings.cookie.is_secure() || forwarded.is_some_and(|scheme| scheme == "https");
        if is_https { "https" } else { "http" }
    }

    /// Refuses a request for a host that this server does not answer for.
    pub(crate) fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
        // Every browser names a host.
        let Some(host) = host(headers, uri) else { return Ok(()) };
        let accepted = match (&self.settings.hosts, self.listening.get()) {
            (Some(hosts), _) => hosts.contains(host),
            (None, Some(address)) if address.ip().is_loopback() => {
                self.settings.trusted_proxy.is_some() || is_loopback(host)
            }
            (None, _) => true,
        };
        if accepted { Ok(()) } else { Err(Error::Host(host.to_owned())) }
    }

    /// Notes where the server listens. Before it serves.
    #[cfg(feature = "server")]
    pub(crate) fn listens_on(&self, address: SocketAddr) {
        let _ = self.listening.set(address);
        #[cfg(feature = "metrics")]
        if let Some(readers) = &self.settings.metrics {
            readers.announce(Some(address), super::route::METRICS);
        }
        #[cfg(feature = "inspector")]
        if let Some(inspector) = &self.settings.inspector {
            inspector.announce(address);
        }
    }
}

/// The host that a request addresses, with its port if one is named.
pub(super) fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| uri.authority().map(Authority::as_str))
}

/// The name or address in a `Host`, an IPv6 address in its brackets.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a `Host` is this machine by a name that no other site can have.
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
