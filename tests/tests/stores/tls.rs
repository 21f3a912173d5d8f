//! Encrypted connections to PostgreSQL and MySQL, with certificates that the test makes.

mod mysql;
mod postgres;

use std::{env, path::Path, process::Command, sync::Arc};

use faststate_core::{
    Key, Scope, Store, Version,
    store::{Precondition, Receipt, Record, StoreError},
};
use faststate_tests::{CertificateFiles, Certificates, Tap};

use self::Outcome::{Encrypted, Fails, Plain};
use crate::open::open;

/// The hosts of a certificate that is valid for a local and for a remote address of a server.
const HOSTS: &[&str] = &["localhost", "127.0.0.1", "0.0.0.0"];

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Encrypted,
    Plain,
    /// It fails with an error that contains this text.
    Fails(&'static str),
}

/// A row of a table: server, host, parameters, outcome.
type Row = (&'static str, &'static str, &'static str, Outcome);

/// The authorities and certificates of one test.
struct Authorities {
    trusted: Certificates,
    /// Issues nothing that the servers use.
    other: Certificates,
}

impl Authorities {
    fn new() -> Self {
        Self { trusted: Certificates::new(), other: Certificates::new() }
    }

    /// Issues the certificate of this kind of server; none for a server without TLS.
    fn issue(&self, kind: &str) -> Option<CertificateFiles> {
        match kind {
            "plain" => None,
            "other name" => Some(self.trusted.issue(&["db.example"])),
            "expired" => Some(self.trusted.issue_expired(HOSTS)),
            _ => Some(self.trusted.issue(HOSTS)),
        }
    }

    /// Replaces the names of files by their paths.
    fn fill(&self, parameters: &str) -> String {
        let mut filled = parameters
            .replace("{authority}", path(&self.trusted.authority()))
            .replace("{other}", path(&self.other.authority()));
        for (name, authority) in [("client", &self.trusted), ("stranger", &self.other)] {
            let (certificate, key) = (format!("{{{name}}}"), format!("{{{name}-key}}"));
            if filled.contains(&certificate) || filled.contains(&key) {
                let files = authority.issue_rsa_client("faststate");
                filled =
                    filled.replace(&certificate, path(&files.certificate)).replace(&key, path(&files.key));
            }
        }
        filled
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Trusting an authority of the machine needs an environment of its own, so the test runs itself again.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_the_machine_are_trusted_by_default() {
    const ADDRESSES: &str = "FASTSTATE_TRUSTED_ADDRESSES";
    if let Ok(addresses) = env::var(ADDRESSES) {
        for address in addresses.split(' ') {
            open(address).await;
        }
        return;
    }
    let authorities = Authorities::new();
    let (postgres, mysql) = (postgres::start("demands", &authorities), mysql::start("demands", &authorities));
    let remote = |url: String| url.replace("127.0.0.1", "0.0.0.0");
    let (postgres, mysql) = (remote(postgres.url()), remote(mysql.url()));
    let addresses = format!("{postgres} {postgres}?sslrootcert=system {mysql} {mysql}?ssl-mode=VERIFY_CA");
    let again = Command::new(env::current_exe().unwrap())
        .args(["--exact", "tls::authorities_of_the_machine_are_trusted_by_default"])
        .env(ADDRESSES, addresses)
        .env("SSL_CERT_FILE", authorities.trusted.authority())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && shown.contains("1 passed"), "{shown}");
}

/// An error with all of its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

/// Checks that an error contains a text, and no password.
fn check_error(error: &StoreError, expected: &str, row: &str) {
    let shown = chain(error);
    assert!(shown.contains(expected), "{row}: `{expected}` is missing in: {shown}");
    assert!(!format!("{error:?} {shown}").contains("secret"), "{row}: {error:?}");
}

/// Checks that a connection has the outcome of its row. `statement` is a text that an unencrypted connection sends over
/// the wire.
fn check_outcome<T>(row: &Row, opened: Result<T, StoreError>, wire: &Tap, statement: &str) {
    let (kind, form, parameters, expected) = row;
    let row = format!("{kind}, {form}, {parameters}, {statement}");
    match (opened, expected) {
        (Ok(_), Encrypted | Plain) => {
            // The wire does not see a socket.
            let is_plain = *form == "socket" || wire.has_seen(statement);
            assert_eq!(is_plain, *expected == Plain, "{row}");
        }
        (Err(error), Fails(text)) => {
            check_error(&error, text, &row);
            assert!(!error.is_temporary(), "{row}: {error:?}");
            assert!(!wire.has_seen(statement), "{row}");
        }
        (outcome, _) => panic!("{row}: {:?}", outcome.map(drop)),
    }
}

/// Saves a recognisable record, and checks whether the wire shows these texts. It never shows the password.
async fn check_visible(url: &str, wire: &Tap, texts: &[&str], is_plain: bool) {
    wire.forget();
    save_recognisable(&open(url).await).await;
    for text in texts {
        assert_eq!(wire.has_seen(text), is_plain, "{text}, {url}");
    }
    assert!(!wire.has_seen("secret"), "{url}");
}

/// Saves, loads and deletes a record whose text is recognisable.
async fn save_recognisable(store: &Arc<dyn Store>) {
    let key = Key::new("confidential", Scope::Record, None, Some("recognisable-id")).unwrap();
    let data = r#"{"text":"recognisable data"}"#;
    let record = Record::new(1, Version::start(), data, None);
    store.save(&key, &record, Precondition::Absent, Some(&Receipt::internal())).await.unwrap();
    assert!(store.load(&key, None).await.unwrap().record.is_some());
    assert!(store.delete(&key, record.version).await.unwrap());
}
