//! Addresses of databases that are wrong: each is refused, and no password is shown.

use faststate_core::store::StoreError;
use faststate_store_diesel::{DieselStore, PostgresBroadcaster};
use faststate_testkit::CapturedLog;
use futures::future::join_all;
use tracing::Level;

/// The two halves of the password, between which a character is inserted.
const HALVES: [&str; 2] = ["zqxjk", "vwbpd"];

/// Characters that have a meaning in addresses, and escapes that have none.
const INSERTED: [&str; 18] =
    ["/", "?", "#", "@", "%", ":", "&", "=", "[", "]", " ", "\\", "'", ",", "%zz", "%00", "%ff", "&secret="];

/// Addresses, with `{}` for the password. Nothing listens on port 1.
const ADDRESSES: [&str; 13] = [
    "postgres://me:{}@127.0.0.1:1/db",
    "postgres://me:{}@127.0.0.1:99999/db",
    "postgresql://me:{}@[::1/db?sslmode=disable",
    "postgres://me:{}@127.0.0.1:1/db?nonsense=1",
    "postgres://127.0.0.1:1/db?user=me&password={}",
    "postgres://127.0.0.1:1/db?password={}&sslmode=wrong",
    "host=127.0.0.1 port=1 user=me password={}",
    "host=127.0.0.1 port=1 password='{}' sslmode=wrong",
    "postgres//me:{}@127.0.0.1/db",
    "mysql://me:{}@127.0.0.1:1/db",
    "mariadb://me:{}@127.0.0.1:1/db?ssl-mode=wrong",
    "mysql://me:{}@127.0.0.1:1",
    "mysql://127.0.0.1:1/db?password={}",
];

#[tokio::test]
async fn wrong_address_never_shows_its_password() {
    let log = CapturedLog::start(Level::TRACE);
    let addresses: Vec<_> = ADDRESSES
        .iter()
        .flat_map(|address| INSERTED.iter().map(|inserted| address.replace("{}", &HALVES.join(inserted))))
        .collect();
    assert!(addresses.len() >= 200, "{} addresses", addresses.len());
    let shown = join_all(addresses.iter().map(async |address| {
        if address.starts_with("m") {
            return vec![refused(address, DieselStore::mysql(address)).await];
        }
        let broadcaster = PostgresBroadcaster::connect(address).await.map(drop).unwrap_err();
        vec![refused(address, DieselStore::postgres(address)).await, texts(&broadcaster)]
    }));
    for (address, shown) in addresses.iter().zip(shown.await) {
        for text in &shown {
            assert!(!HALVES.iter().any(|half| text.contains(half)), "{address}: {text}");
        }
    }
    let log = log.text();
    assert!(!HALVES.iter().any(|half| log.contains(half)), "{log}");
}

/// Everything that a builder and its error show.
async fn refused(address: &str, builder: faststate_store_diesel::DieselStoreBuilder) -> String {
    let shown = format!("{builder:?}");
    let error = builder.await.map(drop).expect_err(address);
    shown + &texts(&error)
}

fn texts(error: &StoreError) -> String {
    format!("{error:?} {}", crate::tls::chain(error))
}

#[tokio::test]
async fn refused_address_names_the_part_that_is_wrong() {
    for (address, expected) in [
        ("postgres://me:12/34@127.0.0.1/db", "the database name in the address"),
        ("postgres://me:1@2@127.0.0.1/db", "write an `@` of the user or the password as `%40`"),
        ("postgres://127.0.0.1:99999/db", "the port in the address is not a number"),
        ("postgres:///db", "the host in the address is missing"),
        ("postgres://db!/db", "the host in the address is not a name"),
        ("mysql://127.0.0.1/db", "the scheme in the address is unknown: begin with `postgres://`"),
        ("postgres://127.0.0.1/db?sslmod=require", "parameter `sslmod` in the address is unknown"),
        ("postgres://127.0.0.1/db?sslmode=on", "parameter `sslmode` in the address is none of"),
        ("postgres://127.0.0.1/db?sslmode=allow", "use `require`"),
        (
            "postgres://127.0.0.1/db?sslmode=require&sslmode=disable",
            "parameter `sslmode` in the address is given twice",
        ),
        ("postgres://127.0.0.1/db?pgbouncer=yes", "parameter `pgbouncer`"),
        ("postgres://127.0.0.1/db?target_session_attrs=standby", "use `read-write`"),
        ("postgres://127.0.0.1/db?connect_timeout=soon", "parameter `connect_timeout`"),
        ("postgres://127.0.0.1/db?options=a=b", "write `=` in its value as `%3D`"),
        ("postgres://a,b/db?port=1,2,3", "parameter `port`"),
        ("postgres://127.0.0.1/db?hostaddr=db", "parameter `hostaddr`"),
        ("postgres://127.0.0.1/db?sslnegotiation=direct", "parameter `sslnegotiation`"),
        ("postgres://127.0.0.1/db?sslcert=file", "parameter `sslkey`"),
    ] {
        let error = DieselStore::postgres(address).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{address}: {error:?}");
        assert!(texts(&error).contains(expected), "{address}: {error}");
    }
    for (address, expected) in [
        ("postgres://127.0.0.1/db", "begin with `mysql://` or `mariadb://`"),
        ("mysql://127.0.0.1", "the database name in the address is missing"),
        ("mysql://a,b/db", "the host in the address is a list"),
        ("mysql://127.0.0.1/db?sslaccept=strict", "parameter `sslaccept`"),
        ("mysql://127.0.0.1/db?ssl-mode=on", "parameter `ssl-mode`"),
        ("mysql://127.0.0.1/db?ssl-key=file", "parameter `ssl-cert`"),
        ("mysql://127.0.0.1/db?charset=latin1", "parameter `charset`"),
    ] {
        let error = DieselStore::mysql(address).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{address}: {error:?}");
        assert!(texts(&error).contains(expected), "{address}: {error}");
    }
}
