//! The address of a PostgreSQL database, with libpq's meanings.

use std::{net::IpAddr, time::Duration};

use tokio_postgres::{
    Config,
    config::{ChannelBinding, SslMode, SslNegotiation, TargetSessionAttrs},
};

use super::keywords;
use crate::{
    address::{DatabaseAddressError, UrlParameters},
    server_url::{DatabasePassword, ServerUrl, check_host, is_local, parse_port},
    tls::{ClientCertificate, TlsParameters, TlsSettings, TrustedRoots, Verification},
};

/// The names of PostgreSQL's parameters.
pub(super) const TLS: TlsParameters = TlsParameters {
    disabled: "sslmode=disable",
    authority_only: "sslmode=verify-ca",
    verified: "sslmode=verify-full",
    roots: "sslrootcert",
    certificate: "sslcert",
    key: "sslkey",
};

const SCHEMES: &[&str] = &["postgres://", "postgresql://"];

const KNOWN: &str = "`host`, `hostaddr`, `port`, `user`, `password`, `dbname`, `options`, `application_name`, `sslmode`, \
    `sslrootcert`, `sslcert`, `sslkey`, `sslnegotiation`, `channel_binding`, `target_session_attrs`, \
    `connect_timeout`, `tcp_user_timeout`, `keepalives`, `keepalives_idle`, `keepalives_interval`, `keepalives_count` \
    and `pgbouncer`";

/// A parsed address.
#[derive(Clone, Debug)]
pub(super) struct PostgresAddress {
    /// The hosts in the order in which they are tried.
    pub(super) hosts: Vec<PostgresHost>,
    /// Whether the address leads to a pool that gives each transaction another connection (`pgbouncer=true`).
    pub(super) is_transaction_pool: bool,
}

/// One host of an address.
#[derive(Clone, Debug)]
pub(super) struct PostgresHost {
    pub(super) config: Config,
    /// `None` if the connection is never encrypted.
    pub(super) tls: Option<TlsSettings>,
}

impl PostgresAddress {
    /// Parses a URL, or libpq's `name=value name=value`. The timeouts are those of a call, unless the address has
    /// shorter ones.
    pub(super) fn parse(text: &str, timeout: Duration) -> Result<Self, DatabaseAddressError> {
        let text = text.trim();
        let url = if keywords::are(text) {
            ServerUrl { parameters: keywords::parse(text)?, ..ServerUrl::default() }
        } else {
            ServerUrl::parse(text, SCHEMES)?
        };
        let ServerUrl { user, password, hosts, database, mut parameters } = url;
        let mut base = Config::new();
        if let Some(user) = parameters.take("user").or(user).filter(|user| !user.is_empty()) {
            base.user(user);
        }
        if let Some(password) = parameters.take("password").map(DatabasePassword).or(password) {
            base.password(password.0);
        }
        if let Some(database) = parameters.take("dbname").or(database).filter(|name| !name.is_empty()) {
            base.dbname(database);
        }
        let application = parameters.take("application_name");
        base.application_name(
            application.filter(|name| !name.is_empty()).unwrap_or_else(|| "faststate".to_owned()),
        );
        if let Some(options) = parameters.take("options") {
            base.options(options);
        }
        set_timeouts(&mut base, &mut parameters, timeout)?;
        set_target(&mut base, &mut parameters)?;
        let is_transaction_pool = flag(&mut parameters, "pgbouncer")?.unwrap_or(false);
        let endpoints = endpoints(hosts, &mut parameters)?;
        let encryption = Encryption::take(&mut parameters)?;
        parameters.refuse_others(KNOWN)?;
        let hosts = endpoints
            .into_iter()
            .map(|endpoint| encryption.host(&base, endpoint))
            .collect::<Result<_, _>>()?;
        Ok(Self { hosts, is_transaction_pool })
    }
}

/// Where a server listens.
struct ServerEndpoint {
    host: String,
    address: Option<IpAddr>,
    port: Option<u16>,
}

/// Combines the hosts before the path with the parameters `host`, `hostaddr` and `port`, which replace them.
fn endpoints(
    hosts: Vec<(String, Option<u16>)>,
    parameters: &mut UrlParameters,
) -> Result<Vec<ServerEndpoint>, DatabaseAddressError> {
    let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (mut names, mut ports): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
    if let Some(host) = parameters.take("host") {
        names = list(host);
        names.iter().try_for_each(|host| check_host(host))?;
        ports = vec![None; names.len()];
    }
    let addresses = parameters.take("hostaddr").map(list).unwrap_or_default();
    let invalid = |_| DatabaseAddressError::parameter("hostaddr", "is not a list of IP addresses");
    let addresses =
        addresses.iter().map(|ip| ip.parse().map_err(invalid)).collect::<Result<Vec<IpAddr>, _>>()?;
    if names.is_empty() {
        names = addresses.iter().map(ToString::to_string).collect();
        ports = vec![None; names.len()];
    }
    if names.is_empty() {
        return Err(DatabaseAddressError::new(
            "host",
            "is missing: write `localhost`, or the folder of the socket as `host`",
        ));
    }
    if !addresses.is_empty() && addresses.len() != names.len() {
        return Err(DatabaseAddressError::parameter("hostaddr", "has another number of entries than `host`"));
    }
    if let Some(given) = parameters.take("port") {
        let given = given.split(',').map(parse_port).collect::<Result<Vec<_>, _>>()?;
        ports = match given[..] {
            [port] => vec![port; names.len()],
            _ if given.len() == names.len() => given,
            _ => {
                return Err(DatabaseAddressError::parameter(
                    "port",
                    "has another number of entries than `host`",
                ));
            }
        };
    }
    let mut addresses = addresses.into_iter();
    let endpoint = |(host, port)| ServerEndpoint { host, address: addresses.next(), port };
    Ok(names.into_iter().zip(ports).map(endpoint).collect())
}

/// What the address says about encryption.
struct Encryption {
    mode: Option<PostgresSslMode>,
    roots: TrustedRoots,
    identity: Option<ClientCertificate>,
    negotiation: SslNegotiation,
    binding: ChannelBinding,
}

/// A value of `sslmode`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PostgresSslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Encryption {
    fn take(parameters: &mut UrlParameters) -> Result<Self, DatabaseAddressError> {
        let mode = match parameters.take("sslmode").as_deref() {
            None | Some("") => None,
            Some("disable") => Some(PostgresSslMode::Disable),
            Some("prefer") => Some(PostgresSslMode::Prefer),
            Some("require") => Some(PostgresSslMode::Require),
            Some("verify-ca") => Some(PostgresSslMode::VerifyCa),
            Some("verify-full") => Some(PostgresSslMode::VerifyFull),
            Some("allow") => {
                let problem = "is `allow`, which sends the password in cleartext first: use `require`";
                return Err(DatabaseAddressError::parameter("sslmode", problem));
            }
            Some(_) => {
                let problem = "is none of `disable`, `prefer`, `require`, `verify-ca` and `verify-full`";
                return Err(DatabaseAddressError::parameter("sslmode", problem));
            }
        };
        let root = parameters.take("sslrootcert").filter(|path| !path.is_empty());
        let mode = match (root.as_deref(), mode) {
            (Some("system"), None) => Some(PostgresSslMode::VerifyFull),
            (Some("system"), Some(weak)) if weak != PostgresSslMode::VerifyFull => {
                let problem = "is weaker than `verify-full`, which `sslrootcert=system` needs, because public authorities \
                    sign certificates for every applicant";
                return Err(DatabaseAddressError::parameter("sslmode", problem));
            }
            // As libpq does: a file with authorities is there to be verified against.
            (Some(_), Some(PostgresSslMode::Require)) => Some(PostgresSslMode::VerifyCa),
            _ => mode,
        };
        let roots = match root {
            Some(path) if path != "system" => TrustedRoots::File(path.into()),
            _ => TrustedRoots::BuiltIn,
        };
        let file = |path: Option<String>| path.filter(|path| !path.is_empty());
        let identity = match (file(parameters.take("sslcert")), file(parameters.take("sslkey"))) {
            (Some(certificate), Some(key)) => {
                Some(ClientCertificate { certificate: certificate.into(), key: key.into() })
            }
            (None, None) => None,
            (Some(_), None) => {
                return Err(DatabaseAddressError::parameter("sslkey", "is missing beside `sslcert`"));
            }
            (None, Some(_)) => {
                return Err(DatabaseAddressError::parameter("sslcert", "is missing beside `sslkey`"));
            }
        };
        let negotiation = match parameters.take("sslnegotiation").as_deref() {
            None | Some("" | "postgres") => SslNegotiation::Postgres,
            Some("direct") => SslNegotiation::Direct,
            Some(_) => {
                return Err(DatabaseAddressError::parameter(
                    "sslnegotiation",
                    "is neither `postgres` nor `direct`",
                ));
            }
        };
        let binding = match parameters.take("channel_binding").as_deref() {
            None | Some("" | "prefer") => ChannelBinding::Prefer,
            Some("disable") => ChannelBinding::Disable,
            Some("require") => ChannelBinding::Require,
            Some(_) => {
                let problem = "is none of `disable`, `prefer` and `require`";
                return Err(DatabaseAddressError::parameter("channel_binding", problem));
            }
        };
        Ok(Self { mode, roots, identity, negotiation, binding })
    }

    /// The settings of one host.
    fn host(&self, base: &Config, endpoint: ServerEndpoint) -> Result<PostgresHost, DatabaseAddressError> {
        let ServerEndpoint { host, address, port } = endpoint;
        let is_socket = host.starts_with('/');
        let reached = address.map_or_else(|| host.clone(), |address| address.to_string());
        let mode = match self.mode {
            // libpq ignores `sslmode` for sockets, which never encrypt.
            _ if is_socket => PostgresSslMode::Disable,
            Some(mode) => mode,
            None if is_local(&reached) => PostgresSslMode::Disable,
            None => PostgresSslMode::VerifyFull,
        };
        let is_weak = matches!(mode, PostgresSslMode::Disable | PostgresSslMode::Prefer);
        if is_weak && self.negotiation == SslNegotiation::Direct {
            return Err(DatabaseAddressError::parameter(
                "sslnegotiation",
                "is `direct`, which needs `sslmode=require` or more",
            ));
        }
        if mode == PostgresSslMode::Disable && self.binding == ChannelBinding::Require {
            return Err(DatabaseAddressError::parameter(
                "channel_binding",
                "is `require`, but the connection is not encrypted",
            ));
        }
        let mut config = base.clone();
        config.host(host).port(port.unwrap_or(5432));
        if let Some(address) = address {
            config.hostaddr(address);
        }
        config.channel_binding(self.binding).ssl_negotiation(self.negotiation);
        let (ssl_mode, verification) = match mode {
            PostgresSslMode::Disable => (SslMode::Disable, None),
            PostgresSslMode::Prefer => (SslMode::Prefer, Some(Verification::Nothing)),
            PostgresSslMode::Require => (SslMode::Require, Some(Verification::Nothing)),
            PostgresSslMode::VerifyCa => (SslMode::Require, Some(Verification::Authority)),
            PostgresSslMode::VerifyFull => (SslMode::Require, Some(Verification::AuthorityAndName)),
        };
        config.ssl_mode(ssl_mode);
        let tls = verification.map(|verification| TlsSettings {
            verification,
            roots: self.roots.clone(),
            identity: self.identity.clone(),
        });
        Ok(PostgresHost { config, tls })
    }
}

fn set_timeouts(
    config: &mut Config,
    parameters: &mut UrlParameters,
    most: Duration,
) -> Result<(), DatabaseAddressError> {
    let at_most = |given: Option<Duration>| {
        given.filter(|given| !given.is_zero()).map_or(most, |given| given.min(most))
    };
    let connect = number(parameters, "connect_timeout")?.map(Duration::from_secs);
    let unacknowledged = number(parameters, "tcp_user_timeout")?.map(Duration::from_millis);
    config.connect_timeout(at_most(connect)).tcp_user_timeout(at_most(unacknowledged));
    if let Some(keepalives) = flag(parameters, "keepalives")? {
        config.keepalives(keepalives);
    }
    let idle = number(parameters, "keepalives_idle")?.filter(|idle| *idle > 0).unwrap_or(30);
    config.keepalives_idle(Duration::from_secs(idle));
    if let Some(interval) = number(parameters, "keepalives_interval")?.filter(|interval| *interval > 0) {
        config.keepalives_interval(Duration::from_secs(interval));
    }
    if let Some(count) = number(parameters, "keepalives_count")?.and_then(|count| u32::try_from(count).ok()) {
        config.keepalives_retries(count);
    }
    Ok(())
}

/// Requires a server that accepts writes: a standby or a demoted server would return old data and refuse every save.
fn set_target(config: &mut Config, parameters: &mut UrlParameters) -> Result<(), DatabaseAddressError> {
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    match parameters.take("target_session_attrs").as_deref() {
        None | Some("" | "any" | "read-write" | "primary") => Ok(()),
        Some("read-only" | "standby" | "prefer-standby") => {
            let problem = "excludes the only server that accepts saves: use `read-write`";
            Err(DatabaseAddressError::parameter("target_session_attrs", problem))
        }
        Some(_) => {
            Err(DatabaseAddressError::parameter("target_session_attrs", "is unknown: use `read-write`"))
        }
    }
}

/// Takes a parameter that is a whole number.
fn number(parameters: &mut UrlParameters, name: &'static str) -> Result<Option<u64>, DatabaseAddressError> {
    let Some(text) = parameters.take(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(DatabaseAddressError::parameter(name, "is not a whole number")),
    }
}

/// Takes a parameter that is on or off.
fn flag(parameters: &mut UrlParameters, name: &'static str) -> Result<Option<bool>, DatabaseAddressError> {
    match parameters.take(name).as_deref() {
        None | Some("") => Ok(None),
        Some("true" | "1" | "on") => Ok(Some(true)),
        Some("false" | "0" | "off") => Ok(Some(false)),
        Some(_) => Err(DatabaseAddressError::parameter(name, "is neither `true` nor `false`")),
    }
}
