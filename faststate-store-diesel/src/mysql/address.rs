//! The address of a MySQL or MariaDB database.

use mysql_async::OptsBuilder;

use crate::{
    address::{DatabaseAddressError, UrlParameters},
    server_url::{DatabasePassword, ServerUrl, is_local},
    tls::{ClientCertificate, TlsParameters, TlsSettings, TrustedRoots, Verification},
};

/// The names of MySQL's parameters.
pub(super) const TLS: TlsParameters = TlsParameters {
    disabled: "ssl-mode=DISABLED",
    authority_only: "ssl-mode=VERIFY_CA",
    verified: "ssl-mode=VERIFY_IDENTITY",
    roots: "ssl-ca",
    certificate: "ssl-cert",
    key: "ssl-key",
};

const SCHEMES: &[&str] = &["mysql://", "mariadb://"];

const KNOWN: &str = "`ssl-mode`, `ssl-ca`, `ssl-cert`, `ssl-key`, `socket` and `charset`";

/// A parsed address.
#[derive(Clone, Debug)]
pub(super) struct MysqlAddress {
    /// Everything except TLS.
    pub(super) options: OptsBuilder,
    /// `None` if the connection is never encrypted.
    pub(super) tls: Option<TlsSettings>,
    /// Whether the connection is not encrypted if the server offers no TLS (`PREFERRED`).
    pub(super) may_be_plain: bool,
}

/// A value of `ssl-mode`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MysqlSslMode {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

impl MysqlAddress {
    pub(super) fn parse(text: &str) -> Result<Self, DatabaseAddressError> {
        let ServerUrl { user, password, mut hosts, database, mut parameters } =
            ServerUrl::parse(text.trim(), SCHEMES)?;
        let Some(database) = database else {
            return Err(DatabaseAddressError::new(
                "database name",
                "is missing: write it after the host and a `/`",
            ));
        };
        let mut options = OptsBuilder::default()
            .user(user)
            .pass(password.map(|DatabasePassword(password)| password))
            .db_name(Some(database));
        if hosts.len() > 1 {
            return Err(DatabaseAddressError::new("host", "is a list: MySQL has one host"));
        }
        let (mut host, port) = hosts.pop().unwrap_or_else(|| ("localhost".to_owned(), None));
        let socket = take(&mut parameters, "socket").or_else(|| host.starts_with('/').then(|| host.clone()));
        if let Some(socket) = &socket {
            options = options.socket(Some(socket));
            "localhost".clone_into(&mut host);
        }
        if take(&mut parameters, "charset")
            .is_some_and(|charset| !charset.to_ascii_lowercase().starts_with("utf8"))
        {
            return Err(DatabaseAddressError::parameter("charset", "is not `utf8mb4`"));
        }
        let (tls, may_be_plain) = encryption(&mut parameters, socket.is_some(), is_local(&host))?;
        parameters.refuse_others(KNOWN)?;
        options = options.ip_or_hostname(host).tcp_port(port.unwrap_or(3306));
        Ok(Self { options, tls, may_be_plain })
    }
}

/// The settings of TLS, and whether the connection may do without.
fn encryption(
    parameters: &mut UrlParameters,
    is_socket: bool,
    is_local: bool,
) -> Result<(Option<TlsSettings>, bool), DatabaseAddressError> {
    let given = take(parameters, "ssl-mode").map(|mode| mode.to_ascii_uppercase());
    let mode = match given.as_deref() {
        None => None,
        Some("DISABLED") => Some(MysqlSslMode::Disabled),
        Some("PREFERRED") => Some(MysqlSslMode::Preferred),
        Some("REQUIRED") => Some(MysqlSslMode::Required),
        Some("VERIFY_CA") => Some(MysqlSslMode::VerifyCa),
        Some("VERIFY_IDENTITY") => Some(MysqlSslMode::VerifyIdentity),
        Some(_) => {
            let problem = "is none of `DISABLED`, `PREFERRED`, `REQUIRED`, `VERIFY_CA` and `VERIFY_IDENTITY`";
            return Err(DatabaseAddressError::parameter("ssl-mode", problem));
        }
    };
    let authorities = take(parameters, "ssl-ca");
    let identity = match (take(parameters, "ssl-cert"), take(parameters, "ssl-key")) {
        (Some(certificate), Some(key)) => {
            Some(ClientCertificate { certificate: certificate.into(), key: key.into() })
        }
        (None, None) => None,
        (Some(_), None) => {
            return Err(DatabaseAddressError::parameter("ssl-key", "is missing beside `ssl-cert`"));
        }
        (None, Some(_)) => {
            return Err(DatabaseAddressError::parameter("ssl-cert", "is missing beside `ssl-key`"));
        }
    };
    let verification = match (mode, &authorities) {
        // The driver encrypts no socket; its server counts it as secure.
        _ if is_socket => None,
        (Some(MysqlSslMode::Disabled), _) => None,
        (None, None) if is_local && identity.is_none() => None,
        // MySQL would ignore the file, although it is there to be verified against.
        (Some(MysqlSslMode::Required), Some(_)) | (Some(MysqlSslMode::VerifyCa), _) => {
            Some(Verification::Authority)
        }
        (Some(MysqlSslMode::Preferred | MysqlSslMode::Required), _) => Some(Verification::Nothing),
        (Some(MysqlSslMode::VerifyIdentity) | None, _) => Some(Verification::AuthorityAndName),
    };
    let roots = authorities.map_or(TrustedRoots::BuiltIn, |path| TrustedRoots::File(path.into()));
    let tls = verification.map(|verification| TlsSettings { verification, roots, identity });
    Ok((tls, mode == Some(MysqlSslMode::Preferred)))
}

/// Takes a parameter, whose name may be written with `_` instead of `-`.
fn take(parameters: &mut UrlParameters, name: &str) -> Option<String> {
    let value = parameters.take(name).or_else(|| parameters.take(&name.replace('-', "_")));
    value.filter(|value| !value.is_empty())
}
