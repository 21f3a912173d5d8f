//! TLS for connections to database servers, by rustls.
//!
//! The cryptography is ring's, for all drivers: `mysql_async` and `tokio-postgres` work with any provider, and ring needs
//! neither CMake nor an assembler, and compiles fastest. A provider that the application has installed for the process
//! is used instead.

mod failure;
#[cfg(feature = "postgres")]
mod verifier;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

pub(crate) use self::failure::TlsFailure;
#[cfg(feature = "postgres")]
pub(crate) use self::verifier::client_config;
use crate::address::DatabaseAddressError;

/// What an address says about TLS to one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    pub(crate) verification: Verification,
    pub(crate) roots: TrustedRoots,
    pub(crate) identity: Option<ClientCertificate>,
}

/// What the client verifies about the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verification {
    /// Nothing: the connection is encrypted, but may lead to another server.
    Nothing,
    /// That a trusted authority signed it.
    Authority,
    /// Also that it names the host.
    AuthorityAndName,
}

/// The authorities that the client trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrustedRoots {
    /// Those of the machine (feature `tls-native-roots`) or of Mozilla (feature `tls-webpki-roots`).
    BuiltIn,
    /// Those in a PEM file.
    File(PathBuf),
}

/// The files of the certificate that identifies the client, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The names of the parameters in an address, which errors recommend.
#[derive(Debug)]
pub(crate) struct TlsParameters {
    pub(crate) disabled: &'static str,
    pub(crate) authority_only: &'static str,
    pub(crate) verified: &'static str,
    pub(crate) roots: &'static str,
    pub(crate) certificate: &'static str,
    pub(crate) key: &'static str,
}

/// Trusted authorities that were loaded.
pub(crate) enum LoadedRoots {
    Certificates(Vec<CertificateDer<'static>>),
    #[cfg(feature = "tls-webpki-roots")]
    Mozilla,
}

impl TrustedRoots {
    /// Loads the authorities.
    pub(crate) fn load(&self, parameters: &TlsParameters) -> Result<LoadedRoots, DatabaseAddressError> {
        match self {
            Self::File(path) => read_certificates(path, parameters.roots).map(LoadedRoots::Certificates),
            Self::BuiltIn => {
                #[cfg(feature = "tls-native-roots")]
                {
                    // Certificates that cannot be read are left out, as OpenSSL does.
                    let certificates = rustls_native_certs::load_native_certs().certs;
                    if !certificates.is_empty() {
                        return Ok(LoadedRoots::Certificates(certificates));
                    }
                }
                #[cfg(feature = "tls-webpki-roots")]
                return Ok(LoadedRoots::Mozilla);
                #[cfg(not(feature = "tls-webpki-roots"))]
                Err(DatabaseAddressError::parameter(
                    parameters.roots,
                    "is missing, and there are no trusted authorities on this machine or the feature `tls-native-roots` is \
                     off: set it to a file, install the package `ca-certificates`, or enable the feature \
                     `tls-webpki-roots`",
                ))
            }
        }
    }
}

impl ClientCertificate {
    /// Loads the certificate with its chain, and its key.
    pub(crate) fn load(
        &self,
        parameters: &TlsParameters,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), DatabaseAddressError> {
        let chain = read_certificates(&self.certificate, parameters.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key, parameters.key)?).map_err(|_| {
            let problem = "names a file without an unencrypted private key in PEM";
            DatabaseAddressError::parameter(parameters.key, problem)
        })?;
        Ok((chain, key))
    }
}

fn read_certificates(
    path: &Path,
    parameter: &'static str,
) -> Result<Vec<CertificateDer<'static>>, DatabaseAddressError> {
    let certificates = CertificateDer::pem_slice_iter(&read(path, parameter)?).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(DatabaseAddressError::parameter(parameter, "names a file without certificates in PEM")),
    }
}

fn read(path: &Path, parameter: &'static str) -> Result<Vec<u8>, DatabaseAddressError> {
    fs::read(path).map_err(|error| {
        DatabaseAddressError::parameter(
            parameter,
            format!("names a file that cannot be read: {}", error.kind()),
        )
    })
}
