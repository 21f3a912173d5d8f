//! PostgreSQL: each `sslmode` with each kind of server, the store and the broadcaster.

use std::{collections::HashMap, sync::Arc, time::Duration};

use faststate_core::{Broadcaster, Store};
use faststate_store_diesel::{DieselStore, PostgresBroadcaster};
use faststate_testkit::suites;
use faststate_tests::{Cable, Postgres, PostgresSettings, Tap};

use super::{
    Authorities,
    Outcome::{Encrypted, Fails, Plain},
    Row, check_error, check_outcome, check_visible, path,
};
use crate::open::open;

const NO_TLS: &str = "the server offers no encryption: enable TLS there";
const UNKNOWN: &str = "none of the trusted authorities signed the server's certificate: set `sslrootcert`";
const NAME: &str = "not valid for the host in the address";
const EXPIRED: &str = "the server's certificate has expired";
const DEMANDED: &str = "the server accepts only encrypted connections: use `sslmode=verify-full`";
const CLIENT: &str = "the server requires a client certificate: set `sslcert` and `sslkey`";
const STRANGER: &str = "does not accept the client certificate";

/// Server, host, parameters, outcome. Where libpq's documentation gives another outcome, a comment gives it.
///
/// Servers: `plain` (no TLS), `tls`, `other name` (the certificate names another host), `expired`, `demands` (accepts
/// encrypted connections only), `certified` (accepts clients with a certificate only).
const TABLE: &[Row] = &[
    ("plain", "127.0.0.1", "", Plain),
    ("plain", "127.0.0.1", "sslmode=disable", Plain),
    ("plain", "127.0.0.1", "sslmode=prefer", Plain),
    ("plain", "127.0.0.1", "sslmode=require", Fails(NO_TLS)),
    ("plain", "127.0.0.1", "sslmode=verify-ca&sslrootcert={authority}", Fails(NO_TLS)),
    ("plain", "127.0.0.1", "sslmode=verify-full&sslrootcert={authority}", Fails(NO_TLS)),
    // libpq: plain, because it prefers but does not require encryption.
    ("plain", "0.0.0.0", "", Fails(NO_TLS)),
    ("plain", "0.0.0.0", "sslmode=disable", Plain),
    ("plain", "0.0.0.0", "sslmode=prefer", Plain),
    ("plain", "0.0.0.0", "sslmode=require", Fails(NO_TLS)),
    // libpq: encrypted; no network sees this connection, so encryption would only cost time.
    ("tls", "127.0.0.1", "", Plain),
    ("tls", "127.0.0.1", "sslmode=disable", Plain),
    ("tls", "127.0.0.1", "sslmode=prefer", Encrypted),
    ("tls", "127.0.0.1", "sslmode=require", Encrypted),
    ("tls", "127.0.0.1", "sslmode=require&sslrootcert={authority}", Encrypted),
    ("tls", "127.0.0.1", "sslmode=verify-ca&sslrootcert={authority}", Encrypted),
    ("tls", "127.0.0.1", "sslmode=verify-full&sslrootcert={authority}", Encrypted),
    ("tls", "localhost", "sslmode=verify-full&sslrootcert={authority}", Encrypted),
    ("tls", "127.0.0.1", "sslmode=verify-ca", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "sslmode=verify-full", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "sslmode=verify-full&sslrootcert=system", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "sslrootcert=system", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "sslmode=require&sslrootcert=system", Fails("weaker than `verify-full`")),
    ("tls", "127.0.0.1", "sslmode=verify-ca&sslrootcert={other}", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "sslmode=require&sslrootcert={other}", Fails(UNKNOWN)),
    ("tls", "127.0.0.1", "sslmode=prefer&sslrootcert={other}", Encrypted),
    ("tls", "127.0.0.1", "sslmode=verify-full&sslrootcert=/nothing", Fails("parameter `sslrootcert`")),
    // libpq: encrypted, without verification.
    ("tls", "0.0.0.0", "", Fails(UNKNOWN)),
    ("tls", "0.0.0.0", "sslrootcert={authority}", Encrypted),
    ("tls", "0.0.0.0", "sslmode=disable", Plain),
    ("tls", "0.0.0.0", "sslmode=prefer", Encrypted),
    ("tls", "0.0.0.0", "sslmode=require", Encrypted),
    ("tls", "0.0.0.0", "sslmode=verify-full&sslrootcert={authority}", Encrypted),
    ("other name", "127.0.0.1", "sslmode=prefer", Encrypted),
    ("other name", "127.0.0.1", "sslmode=require", Encrypted),
    ("other name", "127.0.0.1", "sslmode=require&sslrootcert={authority}", Encrypted),
    ("other name", "127.0.0.1", "sslmode=verify-ca&sslrootcert={authority}", Encrypted),
    ("other name", "127.0.0.1", "sslmode=verify-full&sslrootcert={authority}", Fails(NAME)),
    ("other name", "0.0.0.0", "sslrootcert={authority}", Fails(NAME)),
    ("expired", "127.0.0.1", "sslmode=prefer", Encrypted),
    ("expired", "127.0.0.1", "sslmode=require", Encrypted),
    ("expired", "127.0.0.1", "sslmode=require&sslrootcert={authority}", Fails(EXPIRED)),
    ("expired", "127.0.0.1", "sslmode=verify-ca&sslrootcert={authority}", Fails(EXPIRED)),
    ("expired", "127.0.0.1", "sslmode=verify-full&sslrootcert={authority}", Fails(EXPIRED)),
    // libpq: encrypted.
    ("demands", "127.0.0.1", "", Fails(DEMANDED)),
    ("demands", "127.0.0.1", "sslmode=disable", Fails(DEMANDED)),
    ("demands", "127.0.0.1", "sslmode=prefer", Encrypted),
    ("demands", "127.0.0.1", "sslmode=require", Encrypted),
    ("demands", "127.0.0.1", "sslmode=require&channel_binding=require", Encrypted),
    ("demands", "127.0.0.1", "sslmode=require&channel_binding=disable", Encrypted),
    ("demands", "127.0.0.1", "sslmode=disable&channel_binding=require", Fails("parameter `channel_binding`")),
    ("demands", "0.0.0.0", "sslmode=verify-full&sslrootcert={authority}", Encrypted),
    ("certified", "127.0.0.1", "sslmode=disable", Fails(DEMANDED)),
    ("certified", "127.0.0.1", "sslmode=require", Fails(CLIENT)),
    ("certified", "127.0.0.1", "sslmode=require&sslcert={client}&sslkey={client-key}", Encrypted),
    (
        "certified",
        "0.0.0.0",
        "sslmode=verify-full&sslrootcert={authority}&sslcert={client}&sslkey={client-key}",
        Encrypted,
    ),
    ("certified", "127.0.0.1", "sslmode=require&sslcert={stranger}&sslkey={stranger-key}", Fails(STRANGER)),
    ("certified", "127.0.0.1", "sslmode=require&sslcert={client}", Fails("parameter `sslkey`")),
    (
        "certified",
        "127.0.0.1",
        "sslmode=require&sslcert={client}&sslkey={stranger-key}",
        Fails("parameter `sslkey`"),
    ),
    // The same in libpq's other form, and with the host among the parameters.
    ("tls", "keywords", "sslmode=verify-full sslrootcert='{authority}'", Encrypted),
    ("tls", "parameters", "sslmode=verify-full&sslrootcert={authority}", Encrypted),
    // libpq ignores `sslmode` for sockets.
    ("tls", "socket", "sslmode=verify-full&sslrootcert={authority}", Plain),
];

fn hba(kind: &str) -> Option<&'static str> {
    match kind {
        "demands" => Some("hostssl all all all scram-sha-256\n"),
        "certified" => Some("hostssl all all all scram-sha-256 clientcert=verify-ca\n"),
        _ => None,
    }
}

/// Starts a server of this kind.
pub(super) fn start(kind: &str, authorities: &Authorities) -> Postgres {
    let certificate = authorities.issue(kind);
    Postgres::with(&PostgresSettings {
        certificate: certificate.as_ref(),
        client_authority: (kind == "certified").then(|| authorities.trusted.authority()),
        hba: hba(kind),
        socket: kind == "tls",
        ..PostgresSettings::default()
    })
}

fn address(form: &str, wire: &Tap, server: &Postgres, parameters: &str) -> String {
    let port = wire.address().port();
    match form {
        "keywords" => {
            format!("host=127.0.0.1 port={port} user=faststate password=secret dbname=postgres {parameters}")
        }
        "parameters" => format!(
            "postgresql:///?user=faststate&password=secret&dbname=postgres&host=0.0.0.0&hostaddr=127.0.0.1&port={port}&{parameters}"
        ),
        "socket" => {
            let folder = path(server.socket_folder()).replace('/', "%2F");
            let port = server.address().port();
            format!("postgres://faststate:secret@{folder}:{port}/postgres?{parameters}")
        }
        host => format!("postgres://faststate:secret@{host}:{port}/postgres?{parameters}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_sslmode_has_the_outcome_of_the_table() {
    let authorities = Authorities::new();
    let mut servers: HashMap<&str, (Postgres, Tap)> = HashMap::new();
    for row in TABLE {
        let (kind, form, parameters, _) = row;
        let (server, wire) = servers.entry(kind).or_insert_with(|| {
            let server = start(kind, &authorities);
            let wire = Tap::to(server.address());
            (server, wire)
        });
        let address = address(form, wire, server, &authorities.fill(parameters));
        wire.forget();
        check_outcome(row, DieselStore::postgres(&address).await, wire, "faststate_schema");
        wire.forget();
        check_outcome(row, PostgresBroadcaster::connect(&address).await, wire, "pg_notify");
    }
    assert!(TABLE.len() >= 60, "{} rows", TABLE.len());
}

async fn node(url: &str) -> Arc<dyn Broadcaster> {
    Arc::new(PostgresBroadcaster::connect(url).await.unwrap())
}

/// The parameters of a verified connection.
fn verified(authorities: &Authorities) -> String {
    format!(
        "sslmode=verify-full&channel_binding=require&sslrootcert={}",
        path(&authorities.trusted.authority())
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_store_and_broadcaster_keep_their_promises_over_tls() {
    let authorities = Authorities::new();
    let server = start("demands", &authorities);
    let url = format!("{}?{}", server.url(), verified(&authorities));
    let (a, b) = tokio::join!(open(&url), open(&url));
    suites::store::all(&a, &b).await.unwrap();
    suites::broadcaster::all(&[node(&url).await, node(&url).await, node(&url).await]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_tls_hides_records_and_passwords() {
    let authorities = Authorities::new();
    let server = start("tls", &authorities);
    let wire = Tap::to(server.address());
    let at = |parameters: &str| format!("{}?{parameters}", Postgres::url_at(wire.address()));
    let encrypted = verified(&authorities).replace("channel_binding=require&", "");
    for (parameters, is_plain) in [(&*encrypted, false), ("sslmode=disable", true)] {
        let texts = ["recognisable data", "recognisable-id", "faststate_records", "user\0faststate"];
        check_visible(&at(parameters), &wire, &texts, is_plain).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_require_never_falls_back_when_tls_is_stripped() {
    // An attacker answers instead of the server, and pretends to have no TLS.
    let authorities = Authorities::new();
    let (tls, plain) = (start("tls", &authorities), start("plain", &authorities));
    let cable = Cable::to(tls.address());
    let url = format!("{}?sslmode=require", Postgres::url_at(cable.address()));
    let store = DieselStore::postgres(&url).timeout(Duration::from_secs(1)).await.unwrap();
    open(&plain.url()).await;
    cable.lead_to(plain.address());
    drop(tls);
    let error = loop {
        // The first call finds the old connection closed.
        let error = store.ping().await.unwrap_err();
        if super::chain(&error).contains(NO_TLS) {
            break error;
        }
    };
    check_error(&error, NO_TLS, "stripped");
}
