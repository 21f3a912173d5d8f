//! Encrypted connections.

#[cfg(not(feature = "tls"))]
mod disabled;
#[cfg(feature = "tls")]
mod enabled;

use std::io;

#[cfg(not(feature = "tls"))]
pub(crate) use self::disabled::TlsClient;
#[cfg(feature = "tls")]
pub(crate) use self::enabled::TlsClient;

/// An encrypted connection cannot be made until a setting or a certificate is changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(dead_code, reason = "without TLS there is one cause, and with it that one does not occur")]
pub(crate) enum TlsProblem {
    #[error(
        "this program was built without TLS: enable the feature `tls-native-roots` or `tls-webpki-roots`"
    )]
    NotBuilt,
    #[error("the file of the parameter `{parameter}` cannot be used: {reason}")]
    File { parameter: &'static str, reason: String },
    #[error("there are no certificates of authorities to trust: name a file with `sslrootcert`")]
    NoAuthorities,
    #[error("its certificate is from an unknown authority: name the authority's file with `sslrootcert`")]
    UnknownAuthority,
    #[error("its certificate is for another name: use a host name of the certificate in the address")]
    WrongName,
    #[error("its certificate has expired, or this machine's clock is wrong: renew the certificate")]
    Expired,
    #[error("its certificate is not valid yet, or this machine's clock is wrong")]
    NotYetValid,
    #[error("its certificate is invalid: {0}")]
    InvalidCertificate(String),
    #[error("it does not use TLS: use the port with TLS, or `redis://` without encryption")]
    NoTls,
    #[error("it requires a client certificate: name its files with `sslcert` and `sslkey`")]
    ClientCertificateRequired,
    #[error("it refuses the client certificate: check the files of `sslcert` and `sslkey`")]
    ClientCertificateRefused,
    #[error("it refuses the connection: {0}")]
    Refused(String),
}

/// Returns the cause if TLS is the reason of an error, wherever it is among the sources.
#[cfg_attr(not(feature = "tls"), allow(unused_variables))]
pub(crate) fn problem(error: &io::Error, has_client_certificate: bool) -> Option<TlsProblem> {
    #[cfg(feature = "tls")]
    return enabled::problem(error, has_client_certificate);
    #[cfg(not(feature = "tls"))]
    None
}
