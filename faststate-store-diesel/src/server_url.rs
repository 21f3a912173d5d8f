//! Splits the address of a database server.

use std::{fmt, net::IpAddr};

use crate::address::{DatabaseAddressError, UrlParameters, decode};

/// A password, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DatabasePassword(pub(crate) String);

impl fmt::Debug for DatabasePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// The percent-decoded parts of `scheme://user:password@host:port,host:port/database?name=value&name=value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<DatabasePassword>,
    /// The hosts with their ports. The brackets of an IPv6 address are removed.
    pub(crate) hosts: Vec<(String, Option<u16>)>,
    pub(crate) database: Option<String>,
    pub(crate) parameters: UrlParameters,
}

impl ServerUrl {
    /// Splits a URL that begins with one of `schemes`.
    pub(crate) fn parse(text: &str, schemes: &'static [&'static str]) -> Result<Self, DatabaseAddressError> {
        let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rest else {
            return Err(DatabaseAddressError::new(
                "scheme",
                format!("is unknown: begin with `{}`", schemes.join("` or `")),
            ));
        };
        let mut url = Self::default();
        // As libpq does: the user ends at the first `@` before the first `/`.
        let rest = match rest.find(['@', '/']) {
            Some(end) if rest[end..].starts_with('@') => {
                url.set_user(&rest[..end])?;
                &rest[end + 1..]
            }
            _ => rest,
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (hosts, database) =
            rest.split_once('/').map_or((rest, None), |(hosts, name)| (hosts, Some(name)));
        if hosts.contains('@') {
            let problem = "contains an `@`: write an `@` of the user or the password as `%40`";
            return Err(DatabaseAddressError::new("host", problem));
        }
        url.hosts = if hosts.is_empty() { Vec::new() } else { split_hosts(hosts)? };
        if let Some(database) = database.filter(|name| !name.is_empty()) {
            if database.contains(['@', '/']) {
                let problem = "contains `@` or `/`: write them as `%40` and `%2F`, also in the password";
                return Err(DatabaseAddressError::new("database name", problem));
            }
            url.database = Some(decode(database, "database name")?);
        }
        url.parameters = UrlParameters::parse(query.unwrap_or_default())?;
        Ok(url)
    }

    fn set_user(&mut self, text: &str) -> Result<(), DatabaseAddressError> {
        let (user, password) = text.split_once(':').map_or((text, None), |(user, rest)| (user, Some(rest)));
        if !user.is_empty() {
            self.user = Some(decode(user, "user")?);
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            self.password = Some(DatabasePassword(decode(password, "password")?));
        }
        Ok(())
    }
}

/// Splits `host:port,host:port`.
fn split_hosts(text: &str) -> Result<Vec<(String, Option<u16>)>, DatabaseAddressError> {
    let split = |host: &str| {
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(|| {
                    DatabaseAddressError::new("host", "begins with `[`: close the IPv6 address with `]`")
                })?;
                if host.parse::<IpAddr>().is_err() {
                    return Err(DatabaseAddressError::new("host", "is not an IPv6 address, but in brackets"));
                }
                match rest.strip_prefix(':') {
                    Some(port) => (host, port),
                    None if rest.is_empty() => (host, ""),
                    None => return Err(DatabaseAddressError::new("port", "does not begin with `:`")),
                }
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        let host = decode(host, "host")?;
        check_host(&host)?;
        Ok((host, parse_port(port)?))
    };
    text.split(',').map(split).collect()
}

/// Refuses a host that is neither the path of a socket nor a name nor an IP address, because a lookup would send it to
/// the network.
pub(crate) fn check_host(host: &str) -> Result<(), DatabaseAddressError> {
    let is_name = |host: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        (1..=253).contains(&host.len()) && host.chars().all(is_allowed)
    };
    if host.starts_with('/') || is_name(host) || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let problem = if host.is_empty() {
        "is missing: write a name, an IP address or the percent-encoded path of a socket"
    } else {
        "is not a name, an IP address or the percent-encoded path of a socket"
    };
    Err(DatabaseAddressError::new("host", problem))
}

/// A port; an empty text means the default.
pub(crate) fn parse_port(text: &str) -> Result<Option<u16>, DatabaseAddressError> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(port)),
        _ => {
            let problem = "is not a number from 1 to 65535; if it belongs to the password, write `/` as `%2F` and `@` as `%40`";
            Err(DatabaseAddressError::new("port", problem))
        }
    }
}

/// Returns whether a host is this machine, so that no network sees the connection.
pub(crate) fn is_local(host: &str) -> bool {
    let ip: Option<IpAddr> = host.parse().ok();
    let is_loopback = ip.is_some_and(|ip| ip.to_canonical().is_loopback());
    host.starts_with('/') || host.eq_ignore_ascii_case("localhost") || is_loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: &[&str] = &["db://"];

    fn parse(text: &str) -> Result<ServerUrl, DatabaseAddressError> {
        ServerUrl::parse(text, SCHEMES)
    }

    #[test]
    fn url_is_split_and_percent_decoded() {
        let url = parse("db://m%40e:p%2Fa%3Fss@[::1]:5,b.example:6,c/n%20m?x=1&y=%26").unwrap();
        assert_eq!(url.user.as_deref(), Some("m@e"));
        assert_eq!(url.password, Some(DatabasePassword("p/a?ss".to_owned())));
        let hosts = [("::1", Some(5)), ("b.example", Some(6)), ("c", None)];
        assert_eq!(url.hosts, hosts.map(|(host, port)| (host.to_owned(), port)));
        assert_eq!(url.database.as_deref(), Some("n m"));
        let mut parameters = url.parameters;
        assert_eq!(
            (parameters.take("x").as_deref(), parameters.take("y").as_deref()),
            (Some("1"), Some("&"))
        );
        assert_eq!(parameters.refuse_others(""), Ok(()));
        assert_eq!(parse("db://").unwrap().hosts, []);
        assert_eq!(parse("db://%2Frun%2Fdb/n").unwrap().hosts, [("/run/db".to_owned(), None)]);
    }

    #[test]
    fn error_names_the_part_of_the_url() {
        for (text, part) in [
            ("other://h/d", "scheme"),
            ("db://%zz@h/d", "user"),
            ("db://u:%f@h/d", "password"),
            ("db://u:%ff@h/d", "password"),
            ("db://u:%00@h/d", "password"),
            ("db://u:a@b@h/d", "host"),
            ("db://[::1/d", "host"),
            ("db://[h]/d", "host"),
            ("db://h!/d", "host"),
            ("db://h,,i/d", "host"),
            ("db://[::1]5/d", "port"),
            ("db://h:0/d", "port"),
            ("db://h:65536/d", "port"),
            ("db://h:+5/d", "port"),
            ("db://u:12/34@h/d", "database name"),
            ("db://h/a%", "database name"),
            ("db://h/d?x", "parameter number 1"),
            ("db://h/d?x=1&y=2=3", "parameter number 2"),
            ("db://h/d?x=1&x=2", "parameter `x`"),
        ] {
            assert_eq!(parse(text).unwrap_err().part, part, "{text}");
        }
    }

    #[test]
    fn unknown_parameter_is_named_unless_it_may_be_a_password() {
        let refused = |text| parse(text).unwrap().parameters.refuse_others("`x`").unwrap_err().part;
        assert_eq!(refused("db://h/d?sslmod=1"), "parameter `sslmod`");
        for text in ["db://h/d?s3cret=1", "db://h/d?secret=1&y=a@b", "db://h/d?secret=1&password=p"] {
            assert_eq!(refused(text), "name of a parameter", "{text}");
        }
    }

    #[test]
    fn only_sockets_and_loopback_hosts_are_local() {
        for host in ["/run", "localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["db", "localhost.example", "127.0.0.1.example", "10.0.0.1", "0.0.0.0", "::"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
