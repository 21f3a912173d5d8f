//! Explains why an encrypted connection was not established.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

use super::TlsParameters;

/// The cause of a failed TLS handshake, as far as a setting can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFailure {
    UnknownAuthority,
    WrongName,
    Expired,
    NotYetValid,
    /// Another defect of the server's certificate.
    InvalidCertificate,
    /// The server offers no TLS.
    NotOffered,
    /// The server accepts only encrypted connections.
    Demanded,
    /// The server requires a client certificate.
    ClientCertificateMissing,
    /// The server does not accept the client certificate.
    ClientCertificateRefused,
    /// The handshake failed for another reason.
    Handshake,
}

impl TlsFailure {
    /// The cause among the sources of `error`; `None` if TLS is not the cause.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::of_rustls(error));
            }
            // The source of an I/O error is not its inner error, but that error's source.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match inner {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        use CertificateError as Certificate;
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                // A wrong signature is that of another authority with the same name.
                Certificate::UnknownIssuer | Certificate::BadSignature => Self::UnknownAuthority,
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => Self::WrongName,
                Certificate::Expired | Certificate::ExpiredContext { .. } => Self::Expired,
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => Self::NotYetValid,
                _ => Self::InvalidCertificate,
            },
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => Self::ClientCertificateMissing,
                AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                // The authority has the name of the server's, but another key.
                | AlertDescription::DecryptError
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate => Self::ClientCertificateRefused,
                _ => Self::Handshake,
            },
            _ => Self::Handshake,
        }
    }

    /// States the cause, and the setting that helps.
    pub(crate) fn explain(self, parameters: &TlsParameters) -> String {
        let TlsParameters { disabled, authority_only, verified, roots, certificate, key } = parameters;
        match self {
            Self::UnknownAuthority => format!(
                "none of the trusted authorities signed the server's certificate: set `{roots}` to the file with the \
                 certificate of its authority"
            ),
            Self::WrongName => format!(
                "the server's certificate is not valid for the host in the address: use a host that the certificate \
                 names, or `{authority_only}` if every server of that authority may be trusted"
            ),
            Self::Expired => {
                "the server's certificate has expired: renew it, or check the clock of this machine"
                    .to_owned()
            }
            Self::NotYetValid => {
                "the server's certificate is not valid yet: check the clocks of both machines".to_owned()
            }
            Self::InvalidCertificate => {
                "the server's certificate is invalid, or that of an authority (`CA:TRUE`), which no \
                server may use: replace it"
                    .to_owned()
            }
            Self::NotOffered => format!(
                "the server offers no encryption: enable TLS there; only if no other machine can read this network, use \
                 `{disabled}`"
            ),
            Self::Demanded => format!("the server accepts only encrypted connections: use `{verified}`"),
            Self::ClientCertificateMissing => {
                format!("the server requires a client certificate: set `{certificate}` and `{key}`")
            }
            Self::ClientCertificateRefused => format!(
                "the server does not accept the client certificate: set `{certificate}` and `{key}` to one that its \
                 authority signed and that has not expired"
            ),
            Self::Handshake => {
                "the TLS handshake failed: the source of this error has the details".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_found_inside_io_errors() {
        let rustls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let inner = io::Error::new(io::ErrorKind::InvalidData, rustls);
        let outer = io::Error::other(inner);
        assert_eq!(TlsFailure::of(&outer), Some(TlsFailure::UnknownAuthority));
        assert_eq!(TlsFailure::of(&io::Error::other("reset")), None);
    }
}
