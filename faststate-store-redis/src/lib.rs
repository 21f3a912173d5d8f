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
//! `valkey` and `valkeys` may replace `redis` and `rediss`. In a user and in a password, percent-encode the
//! characters `/`, `?`, `#` and `%`, and in a user also `:`. For example, the password `p/w` becomes `p%2Fw`.
//! The error for a wrong address names the part that is wrong. No error, log line or `Debug` output contains
//! a password.
//!
//! | parameter | meaning |
//! | --- | --- |
//! | `sslrootcert` | a PEM file with the authorities to trust; `system` is the default |
//! | `sslcert`, `sslkey` | PEM files with the certificate and the private key of this client |
//! | `sentinel_username`, `sentinel_password` | the credentials for the sentinels; the credentials before the host are sent to the servers only |
//! | `db` | the number of the database, for example on a socket, whose address has no other place for it |
//!
//! Two applications can share a database, because every key begins with a prefix.
//!
//! # Encryption
//!
//! `rediss` always encrypts and always verifies the server's certificate and its name; it never falls back to
//! an unencrypted connection. The feature `tls-native-roots` (default) trusts the authorities of the system,
//! or those in the files that the environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name. The feature
//! `tls-webpki-roots` compiles in the authorities that Mozilla trusts. Without either feature, the crate
//! contains no TLS. TLS 1.2 and 1.3 are provided by rustls with `ring`, not by OpenSSL.
//!
//! Sentinels and clusters must announce host names if the certificates contain no IP addresses: `sentinel
//! resolve-hostnames yes` with `sentinel announce-hostnames yes`, and `cluster-preferred-endpoint-type hostname`.
//!
//! # Failover
//!
//! If a server has become a replica (`READONLY`), is still loading (`LOADING`) or has lost its cluster
//! (`CLUSTERDOWN`), its connection is closed, and the next one is made to the present primary. Each new
//! connection is made to the primary that the sentinels name. All sentinels are watched as well: when one
//! announces that another server is promoted, the connections to the old primary are no longer used, even if
//! it continues to accept writes. On a cluster, a call that is refused because its slot has moved is sent to
//! the slot's new server. A command that may have been executed is never sent again.
//!
//! # Durability
//!
//! One script saves a record, its messages, its due time and its receipt atomically. Redis itself expires records, with a resolution of
//! 1 ms. The server's settings determine whether acknowledged saves survive (law 1). The store checks these
//! settings when it connects, and logs a warning if saves can be lost. [`RedisStore::durability`] returns the
//! result of the check.
//!
//! | settings | after `kill -9` of Redis | after a power failure |
//! | --- | --- | --- |
//! | `appendonly yes`, `appendfsync always` | **nothing is lost: law 1 holds** | **nothing is lost: law 1 holds** |
//! | `appendonly yes`, `appendfsync everysec` (the default of `appendfsync`) | little or nothing is lost, because the kernel keeps its buffers | up to two seconds are lost |
//! | `appendonly yes`, `appendfsync no` | as above | up to half a minute is lost |
//! | `appendonly no`, `save ..` (Redis' default) | all saves since the last snapshot are lost | all saves since the last snapshot are lost |
//! | `maxmemory` with a policy other than `noeviction` | records and receipts can vanish at any time | the same |
//! | `no-appendfsync-on-rewrite yes` | as with `appendfsync no` while the file is rewritten | the same |
//! | any settings, and a failover to a replica | saves that had not reached the replica are lost, because replication is asynchronous | the same |
//!
//! With any of these settings, `kill -9` of the application loses no acknowledged save.
//!
//! The engine notices when a server has lost saves, and starts a new epoch (law 10).
//!
//! # Costs
//!
//! Concurrent calls share pipelines over at most two connections (by default), and with `appendfsync always`
//! the saves of a pipeline share one sync. Each save and each load is one script call. A receipt is a
//! separate Redis key of about 200 bytes, which lives for 10 minutes, or for 1 minute if the engine generated
//! the receipt. The receipt of a message lives until 10 minutes after its release, at most for 8 days.
//!
//! A record with messages or a due time has an entry in one or two sorted sets, by which `due` and `pending`
//! find it; other records do not touch these sets. On a cluster, `due`, `pending` and `release` send one script
//! call to each bucket. `pending` reads all records with unfinished messages, 1,000 per script call.
//!
//! # Keys
//!
//! A record is at `prefix:v1:{key}`, as `version schema json`; its receipts are at `prefix:v1:{key}:digest` and
//! contain the answer for the sender of a refused message. A record with messages or a due time is stored as
//! `version +schema due oldest waiting parked length jsonmessages`, with the length of the JSON in bytes. Its
//! Redis key is in the sorted sets `prefix:v1:due` and `prefix:v1:oldest`, with milliseconds since 1970 as its
//! scores. A set may also contain records that have expired; these entries have no effect and are removed later.
//!
//! On a cluster, the keys are spread over 64 buckets: a record in bucket 7 is at `prefix:v1:{b7}:key`, its
//! receipts are at `prefix:v1:{b7}:key:digest`, and its sets at `prefix:v1:{b7}:due` and
//! `prefix:v1:{b7}:oldest`. The braces enclose the text that determines the slot, so each script accesses one
//! slot. With more than 16 masters, the masters get unequal shares of the buckets. To move data from a server
//! to a cluster, copy each record to its new key, and the entries of the sets to the sets of its bucket.
//!
//! Earlier versions of this crate report a record with messages as corrupt and leave it unchanged.
//!
//! Give each application its own prefix. An ACL needs `~prefix:*` and
//! `+evalsha +script|load +get +set +getrange +exists +del +pttl +pexpire +zadd +zrem +zrange +zrangebyscore
//! +zrandmember +time +ping +hello +client`. It also needs `+select` if the address contains a database other than 0, `+cluster|slots +cluster|info +asking` on
//! a cluster, and `+config|get` for the check of the settings.
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
//! If Redis does not respond, a call fails within 2 s (by default) with [`StoreError::Unavailable`]. The
//! outcome of a save is then unknown, and the engine loads the receipt to learn it. A closed connection is
//! replaced after a random pause. [`StoreError::Full`] means that Redis temporarily refuses writes (`OOM`,
//! `MISCONF`, `NOREPLICAS`) and that nothing was changed. [`StoreError::Refused`] means that the address, the
//! password or a certificate is wrong; the error states which one, and what to change.
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
mod schedule;
mod sentinels;
mod slots;
mod store;
mod tls;
mod topology;
mod transport;
mod value;

pub use self::{
    broadcaster::{RedisBroadcaster, RedisBroadcasterBuilder},
    durability::Durability,
    store::{RedisStore, RedisStoreBuilder},
};
