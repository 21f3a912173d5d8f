//! The rustls configuration for a connection to PostgreSQL.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{LoadedRoots, TlsParameters, TlsSettings, Verification};
use crate::address::DatabaseAddressError;

/// Loads the files that the settings name.
pub(crate) fn client_config(
    settings: &TlsSettings,
    parameters: &TlsParameters,
) -> Result<ClientConfig, DatabaseAddressError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|_| {
            DatabaseAddressError::new("TLS", "is impossible: the process's cryptography has no cipher for it")
        })?;
    let builder = match settings.verification {
        Verification::Nothing => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NameIgnored { provider, roots: None })),
        Verification::Authority => {
            let roots = Some(root_store(settings, parameters)?);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(NameIgnored { provider, roots }))
        }
        Verification::AuthorityAndName => builder.with_root_certificates(root_store(settings, parameters)?),
    };
    let Some(identity) = &settings.identity else { return Ok(builder.with_no_client_auth()) };
    let (chain, key) = identity.load(parameters)?;
    builder.with_client_auth_cert(chain, key).map_err(|_| {
        let problem =
            format!("names a key that does not belong to the certificate in `{}`", parameters.certificate);
        DatabaseAddressError::parameter(parameters.key, problem)
    })
}

/// The cryptography provider of this process.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().map_or_else(|| Arc::new(ring::default_provider()), Arc::clone)
}

fn root_store(
    settings: &TlsSettings,
    parameters: &TlsParameters,
) -> Result<RootCertStore, DatabaseAddressError> {
    let mut store = RootCertStore::empty();
    match settings.roots.load(parameters)? {
        LoadedRoots::Certificates(certificates) => {
            if store.add_parsable_certificates(certificates).0 == 0 {
                let problem = "has no certificate of an authority that can be read";
                return Err(DatabaseAddressError::parameter(parameters.roots, problem));
            }
        }
        #[cfg(feature = "tls-webpki-roots")]
        LoadedRoots::Mozilla => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    Ok(store)
}

/// Verifies the authority, or nothing, but never the name. The handshake still proves that the server has the
/// certificate's key.
#[derive(Debug)]
struct NameIgnored {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for NameIgnored {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
