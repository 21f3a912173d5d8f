//! Certificates for tests.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use crate::servers::Folder;

/// An authority and the certificates that it issues, as PEM files in a temporary folder.
pub struct Certificates {
    folder: Folder,
    authority: CertifiedIssuer<'static, KeyPair>,
    issued: AtomicUsize,
}

/// The files of a certificate and its private key.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate, in PEM format.
    pub certificate: PathBuf,
    /// The private key, in PEM format.
    pub key: PathBuf,
}

impl Certificates {
    /// Creates an authority.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "FastState's authority for tests");
        let key = KeyPair::generate().expect("a key can be generated");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority signs itself");
        let folder = Folder::new("certificates");
        fs::write(folder.join("authority.pem"), authority.pem()).expect("a folder of ours");
        Self { folder, authority, issued: AtomicUsize::new(0) }
    }

    /// The file with the authority's certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The folder of all files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Issues a certificate for these host names and IP addresses.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> CertificateFiles {
        self.issue_with(names, |_| {})
    }

    /// Issues a certificate that expired in 2020.
    #[must_use]
    pub fn issue_expired(&self, names: &[&str]) -> CertificateFiles {
        self.issue_with(names, |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// Issues a certificate for a client with this common name.
    #[must_use]
    pub fn issue_client(&self, name: &str) -> CertificateFiles {
        self.issue_with(&[], |params| params.distinguished_name.push(DnType::CommonName, name))
    }

    /// Issues a certificate for a client whose key is RSA, the only kind that the driver of MySQL reads.
    #[must_use]
    pub fn issue_rsa_client(&self, name: &str) -> CertificateFiles {
        let output = Command::new("openssl").args(["genrsa", "2048"]).output();
        let output = output.expect("`openssl` is missing: apt-get install openssl");
        let pem = String::from_utf8(output.stdout).expect("a key is text");
        let key = KeyPair::from_pem(&pem).expect("openssl writes RSA keys");
        self.issue_for_key(&[], &key, |params| params.distinguished_name.push(DnType::CommonName, name))
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> CertificateFiles {
        let key = KeyPair::generate().expect("a key can be generated");
        self.issue_for_key(names, &key, change)
    }

    fn issue_for_key(
        &self,
        names: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateFiles {
        let names: Vec<_> = names.iter().copied().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).expect("the names are valid");
        change(&mut params);
        let certificate = params.signed_by(key, &self.authority).expect("the authority signs");
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let files = CertificateFiles {
            certificate: self.folder.join(&format!("{number}.pem")),
            key: self.folder.join(&format!("{number}.key")),
        };
        fs::write(&files.certificate, certificate.pem()).expect("a folder of ours");
        fs::write(&files.key, key.serialize_pem()).expect("a folder of ours");
        files
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("folder", &self.folder).finish_non_exhaustive()
    }
}
