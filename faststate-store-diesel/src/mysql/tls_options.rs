//! TLS for the driver of MySQL, which builds its own rustls configuration.

use mysql_async::{ClientIdentity, SslOpts};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::PrivateKeyDer,
};

use super::address::TLS;
use crate::{
    address::DatabaseAddressError,
    tls::{ClientCertificate, LoadedRoots, TlsSettings, Verification},
};

/// A host name for which no certificate is valid. The driver ignores an invalid name by searching the text of rustls's
/// error for `NotValidForName`, which the error contains only as the name that was expected.
const IGNORED_NAME: &str = "NotValidForName.invalid";

/// Loads the files that the settings name.
pub(super) fn tls_options(settings: &TlsSettings) -> Result<SslOpts, DatabaseAddressError> {
    if CryptoProvider::get_default().is_none() {
        // Fails only if another task has installed one in the meantime. The driver uses the provider of the process.
        let _ = ring::default_provider().install_default();
    }
    let options = match settings.verification {
        // The driver needs some authorities even then: its own, which it does not use.
        Verification::Nothing => SslOpts::default().with_danger_accept_invalid_certs(true),
        Verification::Authority => trusted(settings)?
            .with_danger_skip_domain_validation(true)
            .with_danger_tls_hostname_override(Some(IGNORED_NAME)),
        Verification::AuthorityAndName => trusted(settings)?,
    };
    let identity = settings.identity.as_ref().map(identity).transpose()?;
    Ok(options.with_client_identity(identity))
}

fn trusted(settings: &TlsSettings) -> Result<SslOpts, DatabaseAddressError> {
    let certificates = match settings.roots.load(&TLS)? {
        LoadedRoots::Certificates(certificates) => certificates,
        // They are built into the driver.
        #[cfg(feature = "tls-webpki-roots")]
        LoadedRoots::Mozilla => return Ok(SslOpts::default()),
    };
    // The driver would fail at the first certificate that rustls cannot read.
    let is_readable = |certificate: &_| RootCertStore::empty().add(Clone::clone(certificate)).is_ok();
    let certificates: Vec<_> =
        certificates.into_iter().filter(is_readable).map(|certificate| certificate.to_vec().into()).collect();
    if certificates.is_empty() {
        return Err(DatabaseAddressError::parameter(
            TLS.roots,
            "has no certificate of an authority that can be read",
        ));
    }
    Ok(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(certificates))
}

/// Converts a certificate and its key for the driver, which reads PKCS #1 keys only.
fn identity(files: &ClientCertificate) -> Result<ClientIdentity, DatabaseAddressError> {
    let (_, key) = files.load(&TLS)?;
    let key = match &key {
        PrivateKeyDer::Pkcs1(key) => Some(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => rsa_key(key.secret_pkcs8_der()),
        _ => None,
    };
    let key = key.ok_or_else(|| {
        DatabaseAddressError::parameter(
            TLS.key,
            "names a key that is not RSA, which the driver of MySQL does not support",
        )
    })?;
    Ok(ClientIdentity::new(files.certificate.clone().into(), key.to_vec().into()))
}

/// The RSA key (PKCS #1) inside a PKCS #8 key; `None` if it is of another kind.
fn rsa_key(pkcs8: &[u8]) -> Option<&[u8]> {
    /// Version 0, and the algorithm `rsaEncryption` with the parameter NULL.
    const RSA: &[u8] = b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let sequence = contents(pkcs8, 0x30)?;
    contents(sequence.strip_prefix(RSA)?, 0x04)
}

/// The contents of the DER value with this tag at the beginning of `der`.
fn contents(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (first, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match first {
        short @ 0..0x80 => (usize::from(*short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
            let value = |length: usize, digit: &u8| length.checked_mul(256)?.checked_add(usize::from(*digit));
            (digits.iter().try_fold(0, value)?, rest)
        }
    };
    rest.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsa_key_is_found_inside_pkcs8() {
        let key = [7; 300];
        let octets = [&[0x04, 0x82, 0x01, 0x2c], &key[..]].concat();
        let rsa = b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
        let body = [&rsa[..], &octets].concat();
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let pkcs8 = [&[0x30, 0x82], &length[..], &body].concat();
        assert_eq!(rsa_key(&pkcs8), Some(&key[..]));
        assert_eq!(rsa_key(&pkcs8[..100]), None);
        assert_eq!(rsa_key(b"\x30\x05\x02\x01\x00\x30\x00"), None);
    }
}
