//! The TLS client, over rustls with `ring`.

use std::{io, path::Path, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use super::TlsProblem;
use crate::address::TlsFiles;

/// Encrypts connections, and verifies the server's certificate and name.
#[derive(Clone)]
pub(crate) struct TlsClient {
    connector: TlsConnector,
    has_client_certificate: bool,
}

impl TlsClient {
    /// Reads the files. Blocks for a few milliseconds.
    pub(crate) fn new(files: &TlsFiles) -> Result<Self, TlsProblem> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsProblem::Refused(error.to_string()))?
            .with_root_certificates(authorities(files.authorities.as_deref())?);
        let config = match &files.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("sslcert", certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("sslkey", &error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| unusable("sslkey", &error))?
            }
        };
        let has_client_certificate = files.client.is_some();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), has_client_certificate })
    }

    pub(crate) const fn has_client_certificate(&self) -> bool {
        self.has_client_certificate
    }

    /// Performs the handshake.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

/// The certificates of the file, or else those of the system and of the program.
fn authorities(file: Option<&Path>) -> Result<RootCertStore, TlsProblem> {
    let mut trusted = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates("sslrootcert", file)? {
            trusted.add(certificate).map_err(|error| unusable("sslrootcert", &error))?;
        }
        return Ok(trusted);
    }
    #[cfg(feature = "tls-native-roots")]
    trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    #[cfg(feature = "tls-webpki-roots")]
    trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if trusted.is_empty() { Err(TlsProblem::NoAuthorities) } else { Ok(trusted) }
}

fn certificates(parameter: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let certificates = certificates.map_err(|error| unusable(parameter, &error))?;
    if certificates.is_empty() {
        return Err(unusable(parameter, &"it contains no certificate in PEM format"));
    }
    Ok(certificates)
}

/// The reason of the library names no path and no content.
fn unusable(parameter: &'static str, reason: &dyn std::fmt::Display) -> TlsProblem {
    TlsProblem::File { parameter, reason: reason.to_string() }
}

pub(super) fn problem(error: &io::Error, has_client_certificate: bool) -> Option<TlsProblem> {
    let source = error.get_ref()?;
    if let Some(inner) = source.downcast_ref::<io::Error>() {
        return problem(inner, has_client_certificate);
    }
    Some(match source.downcast_ref::<Error>()? {
        Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsProblem::UnknownAuthority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsProblem::WrongName
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsProblem::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsProblem::NotYetValid
            }
            other => TlsProblem::InvalidCertificate(other.to_string()),
        },
        Error::InvalidMessage(_) => TlsProblem::NoTls,
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => TlsProblem::ClientCertificateRequired,
            _ if has_client_certificate => TlsProblem::ClientCertificateRefused,
            AlertDescription::HandshakeFailure | AlertDescription::BadCertificate => {
                TlsProblem::ClientCertificateRequired
            }
            other => TlsProblem::Refused(format!("{other:?}")),
        },
        other => TlsProblem::Refused(other.to_string()),
    })
}
