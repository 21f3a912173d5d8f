//! MySQL: each `ssl-mode` with each kind of server, on MariaDB.

use std::collections::HashMap;

use faststate_store_diesel::DieselStore;
use faststate_testkit::suites;
use faststate_tests::{MariaDb, Tap};

use super::{
    Authorities,
    Outcome::{Encrypted, Fails, Plain},
    Row, check_outcome, check_visible, path,
};
use crate::open::open;

const NO_TLS: &str = "the server offers no encryption: enable TLS there";
const UNKNOWN: &str = "none of the trusted authorities signed the server's certificate: set `ssl-ca`";
const NAME: &str = "not valid for the host in the address";
const EXPIRED: &str = "the server's certificate has expired";
// MariaDB refuses both as a wrong password.
const DEMANDED: &str = "or it requires an encrypted connection: use `ssl-mode=VERIFY_IDENTITY`";
const CLIENT: &str = "or it requires a client certificate: set `ssl-cert` and `ssl-key`";
const STRANGER: &str = "does not accept the client certificate";

/// Server, host, parameters, outcome. Where MySQL's documentation gives another outcome, a comment gives it.
///
/// Servers: `plain` (no TLS), `tls`, `other name` (the certificate names another host), `expired`, `demands` (accepts
/// encrypted connections only). The user of `certified` needs a client certificate.
const TABLE: &[Row] = &[
    ("plain", "127.0.0.1", "", Plain),
    ("plain", "127.0.0.1", "ssl-mode=DISABLED", Plain),
    ("plain", "127.0.0.1", "ssl-mode=PREFERRED", Plain),
    ("plain", "127.0.0.1", "ssl-mode=REQUIRED", Fails(NO_TLS)),
    ("plain", "127.0.0.1", "ssl-mode=VERIFY_CA&ssl-ca={authority}", Fails(NO_TLS)),
    ("plain", "127.0.0.1", "ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}", Fails(NO_TLS)),
    // MySQL: plain.
    ("plain", "0.0.0.0", "", Fails(NO_TLS)),
    ("plain", "0.0.0.0", "ssl-mode=DISABLED", Plain),
    ("plain", "0.0.0.0", "ssl-mode=PREFERRED", Plain),
    // MySQL: encrypted; no network sees this connection.
    ("tls", "127.0.0.1", "", Plain),
    ("tls", "127.0.0.1", "ssl-mode=disabled", Plain),
    ("tls", "127.0.0.1", "ssl_mode=preferred", Encrypted),
    ("tls", "127.0.0.1", "ssl-mode=REQUIRED", Encrypted),
    // MySQL: encrypted, without verification.
    ("tls", "127.0.0.1", "ssl-mode=REQUIRED&ssl-ca={authority}", Encrypted),
    ("tls", "127.0.0.1", "ssl-mode=REQUIRED&ssl-ca={other}", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "ssl-mode=VERIFY_CA&ssl-ca={authority}", Encrypted),
    ("tls", "127.0.0.1", "ssl-mode=VERIFY_CA&ssl-ca={other}", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "ssl-mode=VERIFY_CA", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}", Encrypted),
    ("tls", "localhost", "ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}", Encrypted),
    ("tls", "127.0.0.1", "ssl-mode=VERIFY_IDENTITY", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "ssl-mode=VERIFY_CA&ssl-ca=/nothing", Fails("parameter `ssl-ca`")),
    ("tls", "127.0.0.1", "ssl-mode=STRICT", Fails("parameter `ssl-mode`")),
    // MySQL: encrypted, without verification.
    ("tls", "0.0.0.0", "", Fails(UNKNOWN)),
    ("tls", "0.0.0.0", "ssl-ca={authority}", Encrypted),
    ("tls", "0.0.0.0", "ssl-mode=REQUIRED", Encrypted),
    ("other name", "127.0.0.1", "ssl-mode=PREFERRED", Encrypted),
    ("other name", "127.0.0.1", "ssl-mode=REQUIRED", Encrypted),
    ("other name", "127.0.0.1", "ssl-mode=VERIFY_CA&ssl-ca={authority}", Encrypted),
    ("other name", "127.0.0.1", "ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}", Fails(NAME)),
    ("other name", "0.0.0.0", "ssl-ca={authority}", Fails(NAME)),
    ("expired", "127.0.0.1", "ssl-mode=PREFERRED", Encrypted),
    ("expired", "127.0.0.1", "ssl-mode=REQUIRED", Encrypted),
    ("expired", "127.0.0.1", "ssl-mode=VERIFY_CA&ssl-ca={authority}", Fails(EXPIRED)),
    ("expired", "127.0.0.1", "ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}", Fails(EXPIRED)),
    // MySQL: encrypted.
    ("demands", "127.0.0.1", "", Fails(DEMANDED)),
    ("demands", "127.0.0.1", "ssl-mode=DISABLED", Fails(DEMANDED)),
    ("demands", "127.0.0.1", "ssl-mode=PREFERRED", Encrypted),
    ("demands", "0.0.0.0", "ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}", Encrypted),
    ("certified", "127.0.0.1", "ssl-mode=DISABLED", Fails(DEMANDED)),
    ("certified", "127.0.0.1", "ssl-mode=REQUIRED", Fails(CLIENT)),
    ("certified", "127.0.0.1", "ssl-mode=REQUIRED&ssl-cert={client}&ssl-key={client-key}", Encrypted),
    (
        "certified",
        "0.0.0.0",
        "ssl-mode=VERIFY_CA&ssl-ca={authority}&ssl-cert={client}&ssl-key={client-key}",
        Encrypted,
    ),
    (
        "certified",
        "127.0.0.1",
        "ssl-mode=REQUIRED&ssl-cert={stranger}&ssl-key={stranger-key}",
        Fails(STRANGER),
    ),
    ("certified", "127.0.0.1", "ssl-mode=REQUIRED&ssl-cert={client}", Fails("parameter `ssl-key`")),
    // The server counts a socket as secure.
    ("demands", "socket", "ssl-mode=REQUIRED", Plain),
];

/// Starts a server of this kind.
pub(super) fn start(kind: &str, authorities: &Authorities) -> MariaDb {
    let Some(files) = authorities.issue(kind) else { return MariaDb::with(&["--skip-ssl"]) };
    let arguments = [
        format!("--ssl-cert={}", path(&files.certificate)),
        format!("--ssl-key={}", path(&files.key)),
        format!("--ssl-ca={}", path(&authorities.trusted.authority())),
        format!("--require-secure-transport={}", u8::from(kind == "demands")),
    ];
    MariaDb::with(&arguments.each_ref().map(String::as_str))
}

fn address(kind: &str, form: &str, wire: &Tap, server: &MariaDb, parameters: &str) -> String {
    let user = if kind == "certified" { "certified" } else { "faststate" };
    if form == "socket" {
        let socket = path(&server.socket()).replace('/', "%2F");
        return format!("mariadb://{user}:secret@{socket}/faststate?{parameters}");
    }
    format!("mysql://{user}:secret@{form}:{}/faststate?{parameters}", wire.address().port())
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_ssl_mode_has_the_outcome_of_the_table() {
    let authorities = Authorities::new();
    let mut servers: HashMap<&str, (MariaDb, Tap)> = HashMap::new();
    for row in TABLE {
        let (kind, form, parameters, _) = row;
        let server = if *kind == "certified" { "tls" } else { kind };
        let (server, wire) = servers.entry(server).or_insert_with(|| {
            let server = start(kind, &authorities);
            let wire = Tap::to(server.address());
            (server, wire)
        });
        let address = address(kind, form, wire, server, &authorities.fill(parameters));
        wire.forget();
        check_outcome(row, DieselStore::mysql(&address).await, wire, "faststate_schema");
    }
    assert!(TABLE.len() >= 45, "{} rows", TABLE.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mysql_keeps_its_promises_over_tls() {
    let authorities = Authorities::new();
    let server = start("demands", &authorities);
    let authority = authorities.trusted.authority();
    let authority = path(&authority);
    let url = format!("{}?ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}", server.url());
    let (a, b) = tokio::join!(open(&url), open(&url));
    suites::store::all(&a, &b).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_tls_hides_records_and_passwords() {
    let authorities = Authorities::new();
    let server = start("tls", &authorities);
    let authority = authorities.trusted.authority();
    let authority = path(&authority);
    let encrypted = format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}");
    for (parameters, is_plain) in [(&*encrypted, false), ("ssl-mode=DISABLED", true)] {
        let wire = Tap::to(server.address());
        let url = format!("{}?{parameters}", MariaDb::url_at(wire.address()));
        let texts = ["recognisable data", "recognisable-id", "faststate_records"];
        check_visible(&url, &wire, &texts, is_plain).await;
    }
}
