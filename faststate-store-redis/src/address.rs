//! The address of a Redis: its syntax, and the errors that name the part that is wrong.

use std::{borrow::Cow, fmt, path::PathBuf};

use percent_encoding::percent_decode_str;

/// Default port of a server.
const SERVER_PORT: u16 = 6379;
/// Default port of a sentinel.
const SENTINEL_PORT: u16 = 26_379;

/// A parsed address.
///
/// No part of the text appears in an error, because any part can contain a piece of a password that is not encoded.
#[derive(Clone)]
pub(crate) struct RedisAddress {
    /// The servers or the sentinels; at least one.
    pub(crate) hosts: Vec<ServerAddress>,
    pub(crate) deployment: Deployment,
    pub(crate) credentials: Credentials,
    pub(crate) database: i64,
    /// The certificates, if the connections are encrypted.
    pub(crate) tls: Option<TlsFiles>,
}

/// The servers that an address leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    /// The first host that accepts writes is used.
    Servers,
    /// The hosts are sentinels, which know the primary of the service.
    Sentinel { service: String, credentials: Credentials },
    /// The hosts are some of a cluster's servers.
    Cluster,
}

/// The address of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ServerAddress {
    Tcp { host: String, port: u16 },
    Socket(PathBuf),
}

/// A user and a password. `Debug` shows neither.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// The files of an encrypted connection, in PEM format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The certificates of the authorities to trust. Without it, those of the system or of the program.
    pub(crate) authorities: Option<PathBuf>,
    /// The certificate and the private key of this client.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// An address is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address of Redis is wrong: {part}: {advice}")]
pub(crate) struct AddressError {
    part: Cow<'static, str>,
    advice: Cow<'static, str>,
}

impl AddressError {
    pub(crate) fn new(part: impl Into<Cow<'static, str>>, advice: impl Into<Cow<'static, str>>) -> Self {
        Self { part: part.into(), advice: advice.into() }
    }
}

const SCHEMES: &str = "use `redis://`, `rediss://` (encrypted), `redis+sentinel://`, `redis+cluster://` or \
                       `unix://`; `valkey` may replace `redis`";
const PARAMETERS: &str = "the parameters are `db`, `protocol`, `sslrootcert`, `sslcert`, `sslkey`, `sentinel_username` and \
                          `sentinel_password`; if it is part of a password, write its `?` as `%3F` and its `&` as `%26`";

impl RedisAddress {
    /// Parses `scheme://[[user]:password@]host[:port][,..][/database][?parameter=value&..]`.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| AddressError::new("scheme", SCHEMES))?;
        let scheme = Scheme::parse(scheme).ok_or_else(|| AddressError::new("scheme", SCHEMES))?;
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, end)| (rest, Some(end)));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if [Some(path), Some(query), fragment].into_iter().flatten().any(|part| part.contains('@')) {
            return Err(AddressError::new(
                "user or password",
                "write `/` as `%2F`, `?` as `%3F`, `#` as `%23` and `@` as `%40`",
            ));
        }
        if fragment.is_some() {
            return Err(AddressError::new(
                "fragment",
                "there is none: certificates are always verified; name a private authority with `sslrootcert`, and \
                 write a `#` in a password as `%23`",
            ));
        }
        let (user_info, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        let credentials = user_info.map(Credentials::parse).transpose()?.unwrap_or_default();
        let parameters = Parameters::parse(query)?;
        let tls = parameters.tls(scheme.encrypted)?;
        let (hosts, deployment, database) = match scheme.kind {
            SchemeKind::Socket => {
                if !hosts.is_empty() {
                    return Err(AddressError::new(
                        "socket",
                        "begin its path with a third slash: `unix:///run/redis.sock`",
                    ));
                }
                (vec![socket(path)?], Deployment::Servers, None)
            }
            SchemeKind::Servers => (self::hosts(hosts, SERVER_PORT)?, Deployment::Servers, database(path)?),
            SchemeKind::Cluster => (self::hosts(hosts, SERVER_PORT)?, Deployment::Cluster, database(path)?),
            SchemeKind::Sentinel => {
                let (service, path) = service(path)?;
                let credentials = parameters.sentinel_credentials()?;
                (
                    self::hosts(hosts, SENTINEL_PORT)?,
                    Deployment::Sentinel { service, credentials },
                    database(path)?,
                )
            }
        };
        if scheme.kind != SchemeKind::Sentinel && parameters.has_sentinel_credentials() {
            return Err(AddressError::new(
                "parameter `sentinel_..`",
                "it needs the scheme `redis+sentinel://`",
            ));
        }
        let database = match (database, parameters.database()?) {
            (Some(_), Some(_)) => {
                return Err(AddressError::new(
                    "parameter `db`",
                    "the path names a database, too: leave one out",
                ));
            }
            (path, parameter) => path.or(parameter).unwrap_or(0),
        };
        if database != 0 && deployment == Deployment::Cluster {
            return Err(AddressError::new("database", "a cluster has only the database 0"));
        }
        Ok(Self { hosts, deployment, credentials, database, tls })
    }
}

/// Shows the hosts and the kind, but no credentials.
impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.deployment {
            Deployment::Servers => {}
            Deployment::Sentinel { service, .. } => write!(f, "{service} of the sentinels ")?,
            Deployment::Cluster => f.write_str("the cluster of ")?,
        }
        for (at, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl Credentials {
    /// Parses `user:password` or `:password`.
    fn parse(text: &str) -> Result<Self, AddressError> {
        let Some((user, password)) = text.split_once(':') else {
            return Err(AddressError::new(
                "password",
                "it is missing: write `user:password@` or `:password@`",
            ));
        };
        let (user, password) = (decode("user", user)?, decode("password", password)?);
        if password.is_empty() && !user.is_empty() {
            return Err(AddressError::new("password", "it is empty"));
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        Ok(Self { user: given(user), password: given(password) })
    }
}

/// A scheme, taken apart.
struct Scheme {
    kind: SchemeKind,
    encrypted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SchemeKind {
    Servers,
    Sentinel,
    Cluster,
    Socket,
}

impl Scheme {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (base, kind) = text.split_once('+').map_or((&*text, None), |(base, kind)| (base, Some(kind)));
        let encrypted = match base {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            "unix" if kind.is_none() => return Some(Self { kind: SchemeKind::Socket, encrypted: false }),
            _ => return None,
        };
        let kind = match kind {
            None => SchemeKind::Servers,
            Some("sentinel") => SchemeKind::Sentinel,
            Some("cluster") => SchemeKind::Cluster,
            Some("unix") if !encrypted => SchemeKind::Socket,
            Some(_) => return None,
        };
        Some(Self { kind, encrypted })
    }
}

/// The decoded parameters.
#[derive(Default)]
struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    fn parse(query: &str) -> Result<Self, AddressError> {
        const NAMES: [&str; 7] =
            ["db", "protocol", "sslrootcert", "sslcert", "sslkey", "sentinel_username", "sentinel_password"];

        let mut parameters = Self::default();
        for (at, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
                return Err(unknown_parameter(at + 1, name));
            };
            if parameters.get(name).is_some() {
                return Err(AddressError::new(format!("parameter `{name}`"), "it is given twice"));
            }
            let value = decode("parameter", value)?;
            if value.is_empty() {
                return Err(AddressError::new(format!("parameter `{name}`"), "it has no value"));
            }
            parameters.0.push((name, value));
        }
        if parameters.get("protocol").is_some_and(|version| version != "3" && version != "resp3") {
            return Err(AddressError::new("parameter `protocol`", "only `3` is supported: leave it out"));
        }
        Ok(parameters)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    fn database(&self) -> Result<Option<i64>, AddressError> {
        self.get("db").map(number).transpose()
    }

    fn tls(&self, encrypted: bool) -> Result<Option<TlsFiles>, AddressError> {
        let [root, certificate, key] = ["sslrootcert", "sslcert", "sslkey"].map(|name| self.get(name));
        if !encrypted {
            return match (root, certificate, key) {
                (None, None, None) => Ok(None),
                _ => Err(AddressError::new(
                    "parameter `ssl..`",
                    "the scheme is not encrypted: use `rediss://` or `valkeys://`",
                )),
            };
        }
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => return Err(AddressError::new("parameter `sslcert`", "it needs `sslkey`, and the reverse")),
        };
        Ok(Some(TlsFiles { authorities: root.filter(|root| *root != "system").map(PathBuf::from), client }))
    }

    fn has_sentinel_credentials(&self) -> bool {
        self.get("sentinel_username").or(self.get("sentinel_password")).is_some()
    }

    fn sentinel_credentials(&self) -> Result<Credentials, AddressError> {
        let [user, password] =
            ["sentinel_username", "sentinel_password"].map(|name| self.get(name).map(str::to_owned));
        if user.is_some() && password.is_none() {
            return Err(AddressError::new("parameter `sentinel_username`", "it needs `sentinel_password`"));
        }
        Ok(Credentials { user, password })
    }
}

/// An unknown parameter is named only if it is one of another client's.
fn unknown_parameter(at: usize, name: &str) -> AddressError {
    let known = match name {
        "sslmode" | "ssl" | "tls" => Some("the scheme decides: `rediss://` encrypts and verifies"),
        "ssl_cert_reqs" | "ssl_check_hostname" => {
            Some("certificates are always verified: name a private authority with `sslrootcert`")
        }
        "ssl_ca_certs" | "ssl_ca_path" => Some("use `sslrootcert`"),
        "ssl_certfile" => Some("use `sslcert`"),
        "ssl_keyfile" => Some("use `sslkey`"),
        "user" | "username" | "pass" | "password" => Some("write `user:password@` before the host"),
        "master_name" | "master" | "sentinelServiceName" => {
            Some("use `redis+sentinel://` with the service as the path: `/service`")
        }
        _ => None,
    };
    match known {
        Some(advice) => AddressError::new(format!("parameter `{name}`"), advice),
        None => AddressError::new(format!("parameter number {at}"), PARAMETERS),
    }
}

/// Decodes a text with percent-encoding.
fn decode(part: &'static str, text: &str) -> Result<String, AddressError> {
    let bytes = text.as_bytes();
    let is_encoded =
        |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !is_encoded(at)) {
        return Err(AddressError::new(
            part,
            "a `%` is followed by two hexadecimal digits: write `%` itself as `%25`",
        ));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| AddressError::new(part, "its percent-encoding is not UTF-8"))
}

fn hosts(text: &str, port: u16) -> Result<Vec<ServerAddress>, AddressError> {
    let hosts: Vec<_> = text.split(',').collect();
    let several = hosts.len() > 1;
    let name =
        |part: &str, at: usize| if several { format!("{part} number {}", at + 1) } else { part.to_owned() };
    let host = |(at, text): (usize, &str)| host(text, port, |part| name(part, at));
    hosts.into_iter().enumerate().map(host).collect()
}

fn host(text: &str, port: u16, part: impl Fn(&str) -> String) -> Result<ServerAddress, AddressError> {
    let wrong = |name: &str, advice: &'static str| AddressError::new(part(name), advice);
    let (host, port_text) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("host", "a `[` has no `]`"))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(wrong("host", "the text in brackets is not an IPv6 address"));
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(wrong("port", "write it after a colon")),
        }
    } else {
        match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(wrong(
                    "host",
                    "write an IPv6 address in brackets, and `:` in a password as `%3A`",
                ));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err(wrong("host", "it is missing"));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if !host.bytes().all(legal) {
        return Err(wrong("host", "it has only letters, digits, `.`, `-` and `_`"));
    }
    if matches!(host, "0.0.0.0" | "::") {
        return Err(wrong(
            "host",
            "a server listens on it, but nothing connects to it: use `127.0.0.1` or `[::1]`",
        ));
    }
    let port = match port_text {
        None => port,
        Some(text) => match text.parse() {
            Ok(port @ 1..) if text.bytes().all(|byte| byte.is_ascii_digit()) => port,
            _ => return Err(wrong("port", "it is a number from 1 to 65535")),
        },
    };
    Ok(ServerAddress::Tcp { host: host.to_owned(), port })
}

fn socket(path: &str) -> Result<ServerAddress, AddressError> {
    let path = decode("socket", path)?;
    if path.len() < 2 || path.ends_with('/') || path.contains('\0') {
        return Err(AddressError::new("socket", "name its file: `unix:///run/redis.sock`"));
    }
    Ok(ServerAddress::Socket(path.into()))
}

/// Takes the service of `/service[/database]`.
fn service(path: &str) -> Result<(String, &str), AddressError> {
    let rest = path.strip_prefix('/').unwrap_or_default();
    let (service, database) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let service = decode("service", service)?;
    if service.is_empty() || !service.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(AddressError::new("service", "write the name that the sentinels know: `/mymaster`"));
    }
    Ok((service, database))
}

fn database(path: &str) -> Result<Option<i64>, AddressError> {
    match path.strip_prefix('/') {
        None | Some("") => Ok(None),
        Some(text) => number(text.strip_suffix('/').unwrap_or(text)).map(Some),
    }
}

fn number(text: &str) -> Result<i64, AddressError> {
    match text.parse() {
        Ok(number @ 0..=1_000_000) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(AddressError::new("database", "it is a number from 0, such as `/0`")),
    }
}

#[cfg(test)]
mod tests;
