//! Redis over TLS: what is accepted, what is refused with which advice, and what crosses the network.

use std::time::Duration;

use faststate_core::{
    Broadcaster as _, Store as _,
    broadcast::Change,
    store::{Precondition, SaveOutcome, StoreError},
};
use faststate_store_redis::{RedisBroadcaster, RedisStore};
use faststate_testkit::suites;
use faststate_tests::{CertificateFiles, Certificates, RedisServer, Tap};

use super::{connect, explain, key, record};

/// Connects a store and a broadcaster, both of which must be refused with this advice.
async fn refused(url: &str, advice: &str) {
    let store = RedisStore::connect(url).await.unwrap_err();
    let broadcaster = RedisBroadcaster::connect(url).await.unwrap_err();
    for error in [store, broadcaster] {
        let text = explain(&error);
        assert!(text.contains(advice), "{url}: {text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_a_stores_promises_over_tls() {
    let certificates = Certificates::new();
    let server = RedisServer::with_tls(&certificates, &certificates.issue(&["127.0.0.1"]), &[]);
    let url = server.tls_url(&certificates);
    let (a, b) = (connect(url.clone()).await, connect(url).await);
    suites::store::all(&a, &b).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_refusals_name_the_cause_and_the_remedy() {
    let certificates = Certificates::new();
    let valid = certificates.issue(&["127.0.0.1", "localhost"]);
    let server = RedisServer::with_tls(&certificates, &valid, &["--requirepass", "s3cret"]);
    let (address, authority) = (server.address(), certificates.authority().display().to_string());
    let port = address.port();

    let url = format!("rediss://:s3cret@localhost:{port}?sslrootcert={authority}");
    RedisStore::connect(&url).await.unwrap();
    RedisBroadcaster::connect(&url).await.unwrap();
    let valkey = format!("valkeys://default:s3cret@127.0.0.1:{port}/3?sslrootcert={authority}");
    RedisStore::connect(valkey).await.unwrap();

    refused(
        &format!("rediss://:s3cret@{address}"),
        "unknown authority: name the authority's file with `sslrootcert`",
    )
    .await;
    refused(&format!("rediss://:s3cret@{address}?sslrootcert=/nowhere.pem"), "`sslrootcert` cannot be used")
        .await;
    let other = Certificates::new();
    let url = format!("rediss://:s3cret@{address}?sslrootcert={}", other.authority().display());
    refused(&url, "unknown authority").await;
    refused(&format!("rediss://:s3cret@127.0.0.2:{port}?sslrootcert={authority}"), "cannot be reached").await;
    refused(
        &format!("rediss://:wr0ng@{address}?sslrootcert={authority}"),
        "the user or the password is wrong",
    )
    .await;
    refused(&format!("rediss://{address}?sslrootcert={authority}"), "requires a password").await;
    refused(&format!("redis://:s3cret@{address}"), "use `rediss://`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_name_and_expired_certificates_are_refused() {
    let certificates = Certificates::new();
    let authority = certificates.authority().display().to_string();
    let elsewhere = RedisServer::with_tls(&certificates, &certificates.issue(&["redis.example"]), &[]);
    let url = format!("rediss://{}?sslrootcert={authority}", elsewhere.address());
    refused(&url, "for another name: use a host name of the certificate").await;
    let old = RedisServer::with_tls(&certificates, &certificates.issue_expired(&["127.0.0.1"]), &[]);
    refused(&old.tls_url(&certificates), "has expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_is_presented_when_it_is_required() {
    let certificates = Certificates::new();
    let own = certificates.issue(&["127.0.0.1"]);
    let server = RedisServer::with_tls(&certificates, &own, &["--tls-auth-clients", "yes"]);
    let client = certificates.issue_client("app");
    let with = |client: &CertificateFiles| {
        let (certificate, key) = (client.certificate.display(), client.key.display());
        format!("{}&sslcert={certificate}&sslkey={key}", server.tls_url(&certificates))
    };
    RedisStore::connect(with(&client)).await.unwrap();
    RedisBroadcaster::connect(with(&client)).await.unwrap();
    refused(&server.tls_url(&certificates), "name its files with `sslcert` and `sslkey`").await;
    let stranger = Certificates::new();
    refused(&with(&stranger.issue_client("app")), "client certificate").await;
    let mixed = CertificateFiles { key: own.key.clone(), ..client };
    refused(&with(&mixed), "`sslkey` cannot be used").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_never_falls_back_to_a_server_without_it() {
    let server = RedisServer::start();
    let certificates = Certificates::new();
    let url = format!("rediss://{}?sslrootcert={}", server.address(), certificates.authority().display());
    refused(&url, "does not use TLS").await;
    assert!(server.command(&["INFO", "stats"]).contains("total_commands_processed:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn handshake_that_is_not_answered_names_the_remedy() {
    let server = RedisServer::start();
    let certificates = Certificates::new();
    let url = format!("rediss://{}?sslrootcert={}", server.address(), certificates.authority().display());
    server.pause();
    for _ in 0..3 {
        let error = RedisStore::builder(&url).timeout(Duration::from_secs(1)).connect().await.unwrap_err();
        let text = explain(&error);
        assert!(text.contains("did not finish the TLS handshake in time: if it does not use TLS"), "{text}");
    }
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_hides_passwords_records_and_changes_from_the_network() {
    const RECORD: &str = "a-record-in-cleartext";
    const PASSWORD: &str = "a-password-in-cleartext";

    let certificates = Certificates::new();
    let own = certificates.issue(&["127.0.0.1"]);
    for encrypted in [true, false] {
        let settings = ["--requirepass", PASSWORD];
        let server = if encrypted {
            RedisServer::with_tls(&certificates, &own, &settings)
        } else {
            RedisServer::with(&settings)
        };
        let tap = Tap::to(server.address());
        let url = if encrypted {
            let authority = certificates.authority();
            format!("rediss://:{PASSWORD}@{}?sslrootcert={}", tap.address(), authority.display())
        } else {
            format!("redis://:{PASSWORD}@{}", tap.address())
        };
        let store = RedisStore::connect(&url).await.unwrap();
        let broadcaster = RedisBroadcaster::connect(&url).await.unwrap();
        let record = record(&format!("\"{RECORD}\""));
        let saved = store.save(&key("x"), &record, Precondition::Absent, None).await.unwrap();
        assert_eq!(saved, SaveOutcome::Saved);
        assert_eq!(store.load(&key("x"), None).await.unwrap().record.unwrap().data, record.data);
        let (from, data) = (record.version, Some(record.data.clone()));
        broadcaster.publish(&Change { key: key("x"), from, to: from.next(), schema: 1, data }).await.unwrap();
        for secret in [RECORD, PASSWORD] {
            assert_eq!(tap.has_seen(secret), !encrypted, "{secret}, encrypted: {encrypted}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_of_this_machine_is_an_address() {
    let server = RedisServer::start();
    for scheme in ["unix", "redis+unix", "valkey+unix"] {
        let store =
            RedisStore::connect(format!("{scheme}://{}?db=1", server.socket().display())).await.unwrap();
        store.ping().await.unwrap();
    }
    RedisBroadcaster::connect(format!("unix://{}", server.socket().display())).await.unwrap();
    let missing = RedisStore::connect("unix:///nowhere/redis.sock").await.unwrap_err();
    assert!(matches!(missing, StoreError::Unavailable(_)), "{missing:?}");
}
