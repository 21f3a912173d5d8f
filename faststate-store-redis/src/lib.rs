//! Redis and Valkey for FastState: a store that keeps acknowledged saves, and a broadcaster.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use faststate_core::StateRegistry;
//! use faststate_store_redis::RedisStore;
//!
//! let store = RedisStore::builder("redis://127.0.0.1/").prefix("shop").connect().await?;
//! let registry = StateRegistry::builder().store(store).build()?;
//! # Ok(())
//! # }
//! ```
//!
//! Requires Redis 6.2 or later, or Valkey; the suite has passed on Redis 6.2.14 and 7.0.15, and on Valkey 9.1.2. A
//! cluster requires Redis 7 or later.
//!
//! # Addresses
//!
//! | address | connects to |
//! | --- | --- |
//! | `redis://[[user]:password@]host[:port][/database]` | one server, or a proxy that behaves like one; the port is 6379 by default |
//! | `redis://host1,host2:6380/database` | the first of the hosts that accepts writes |
//! | `rediss://..` | the same, encrypted |
//! | `redis+sentinel://[[user]:password@]host1[:port],host2/service[/database]` | the primary that the sentinels name; their port is 26379 by default |
//! | `redis+cluster://[[user]:password@]host1[:port],host2` | a cluster, through any of its servers |
//! | `rediss+sentinel://..`, `rediss+cluster://..` | the same, encrypted, including the connections to the sentinels |
//! | `unix:///path/to/redis.sock`, `redis+unix://..` | a server on this machine |
//!
//! `valkey` and `valkeys` may replace `redis` and `rediss`. In a user and a password, the characters `/`, `?`, `#`, `%`
//! and in a user also `:` are percent-encoded: `p/w` is `p%2Fw`. An address that is not understood is refused with an
//! error that names the part. No error, log or `Debug` contains a password.
//!
//! | parameter | meaning |
//! | --- | --- |
//! | `sslrootcert` | a PEM file with the authorities to trust; `system` is the default |
//! | `sslcert`, `sslkey` | PEM files with the certificate and the private key of this client |
//! | `sentinel_username`, `sentinel_password` | the credentials for the sentinels, which do not get the servers' |
//! | `db` | the database, for example of a socket |
//!
//! Two applications can share a database, because every key begins with a prefix.
//!
//! # Encryption
//!
//! `rediss` always encrypts, and always verifies the server's certificate and its name; it never falls back. With the
//! feature `tls-native-roots` (default), the authorities of the system are trusted, or those of the files in the
//! environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR`. With `tls-webpki-roots`, the authorities that Mozilla
//! trusts are compiled in. Without any of the two, no TLS is compiled. TLS 1.2 and 1.3 are provided by rustls with
//! `ring`, not by OpenSSL.
//!
//! Sentinels and clusters must announce host names if the certificates contain no IP addresses: `sentinel
//! resolve-hostnames yes` with `sentinel announce-hostnames yes`, and `cluster-preferred-endpoint-type hostname`.
//!
//! # Failover
//!
//! A connection whose server has become a replica, is still loading or has lost its cluster (`READONLY`, `LOADING`,
//! `CLUSTERDOWN`) is closed, and the next one is made to the present primary. Sentinels are asked for each new
//! connection, and all of them are watched: when they promote another server, every connection to the old one is closed,
//! even if it goes on accepting writes. On a cluster, a call follows a moved slot, since the server that refused it has
//! not executed it; no command is sent again that may have been executed.
//!
//! # Durability
//!
//! One script saves a record and its receipt atomically. Redis itself expires records, with a resolution of 1 ms. The
//! server's settings determine whether acknowledged saves survive (law 1). The store checks them when it connects, logs
//! a warning, and returns them from [`RedisStore::durability`]:
//!
//! | settings | after `kill -9` of Redis | after a power failure |
//! | --- | --- | --- |
//! | `appendonly yes`, `appendfsync always` | **nothing is lost: law 1 holds** | **nothing is lost: law 1 holds** |
//! | `appendonly yes`, `appendfsync everysec` (the default of the file) | the kernel's buffers are kept: little or nothing is lost | up to two seconds are lost |
//! | `appendonly yes`, `appendfsync no` | as above | up to half a minute is lost |
//! | `appendonly no`, `save ..` (Redis' default) | all saves since the last snapshot are lost | all saves since the last snapshot are lost |
//! | `maxmemory` with another policy than `noeviction` | records and receipts can vanish at any time | the same |
//! | `no-appendfsync-on-rewrite yes` | as with `appendfsync no` while the file is rewritten | the same |
//! | a fail-over to a replica | saves that had not reached the replica are lost with any settings, because replication is asynchronous | the same |
//!
//! With any of them, `kill -9` of the application loses no acknowledged save.
//!
//! The engine notices when a server has lost saves, and starts a new epoch (law 10).
//!
//! # Costs
//!
//! Concurrent calls share pipelines over at most two connections (by default), and with `appendfsync always` the saves
//! of a pipeline share one sync. A save and a load are one script call each. A receipt is a separate Redis key of about
//! 200 bytes, which lives for 10 minutes, or for 1 minute if the engine generated it.
//!
//! # Keys
//!
//! A record is at `prefix:v1:{key}`, as `version schema json`; its receipts are at `prefix:v1:{key}:digest`. On a
//! cluster, the keys are spread over 64 buckets: `prefix:v1:{b7}:key` and `prefix:v1:{b7}:key:digest`. The braces
//! enclose the text that determines the slot, so the scripts of one key touch one slot. A cluster of more than 16
//! masters gets unequal shares. Data moves from a server to a cluster only by copying each record under its new key.
//!
//! Give each application its own prefix. An ACL needs `~prefix:*` and
//! `+evalsha +script|load +get +set +getrange +exists +del +pttl +pexpire +ping +hello +client`, on a cluster also
//! `+cluster|slots +cluster|info +asking`, and `+config|get` to check the settings.
//!
//! # Multiple nodes
//!
//! [`RedisBroadcaster`] carries changes between nodes over any shared store:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # use faststate_core::StateRegistry;
//! use faststate_store_redis::{RedisBroadcaster, RedisStore};
//!
//! let registry = StateRegistry::builder()
//!     .store(RedisStore::connect("redis://127.0.0.1/").await?)
//!     .broadcaster(RedisBroadcaster::connect("redis://127.0.0.1/").await?)
//!     .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Outages
//!
//! A call fails within 2 s (by default) with [`StoreError::Unavailable`]. The outcome of a save is then unknown, and
//! the engine loads the receipt to learn it. A closed connection is replaced, with jitter. [`StoreError::Full`] means
//! that Redis temporarily refuses writes (`OOM`, `MISCONF`, `NOREPLICAS`) and that nothing was changed.
//! [`StoreError::Refused`] means that the address, the password or a certificate is wrong; the error states which and
//! what to change.
//!
//! [`StoreError::Unavailable`]: faststate_core::store::StoreError::Unavailable
//! [`StoreError::Full`]: faststate_core::store::StoreError::Full
//! [`StoreError::Refused`]: faststate_core::store::StoreError::Refused
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod broadcaster;
mod cluster_transport;
mod command;
mod connection;
mod dialer;
mod durability;
mod error;
mod keys;
mod primary;
mod push;
mod queue;
mod router;
mod sentinels;
mod slots;
mod store;
mod tls;
mod topology;
mod transport;

pub use self::{
    broadcaster::{RedisBroadcaster, RedisBroadcasterBuilder},
    durability::Durability,
    store::{RedisStore, RedisStoreBuilder},
};
