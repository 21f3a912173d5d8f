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
//! Requires Redis 6.2 or later, or Valkey; the suite has passed on Redis 6.2.14 and 7.0.15, and on Valkey 9.1.2. The store
//! connects to one server (or a proxy that behaves like one), not to a cluster. For `rediss://`, add the crate `redis`
//! with its feature `tokio-rustls-comp` to the application.
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
//! Concurrent calls share pipelines over at most two connections (by default), and with `appendfsync always` the saves of a
//! pipeline share one sync. A save and a load are one script call each. A receipt is a separate Redis key of about 200
//! bytes, which lives for 10 minutes, or for 1 minute if the engine generated it.
//!
//! # Keys
//!
//! A record is at `prefix:v1:{key}`, as `version schema json`; its receipts are at
//! `prefix:v1:{key}:digest`. Give each application its own prefix. An ACL needs `~prefix:*` and
//! `+evalsha +script|load +get +set +getrange +exists +del +pttl +pexpire +ping +hello +client`, and
//! `+config|get` to check the settings.
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
//! A call fails within 2 s (by default) with [`StoreError::Unavailable`]. The outcome of a save is then unknown, and the
//! engine loads the receipt to learn it. A closed connection is replaced, with jitter, and so is one whose server has
//! become a replica; no command is sent twice. [`StoreError::Full`] means that Redis temporarily refuses writes (`OOM`,
//! `MISCONF`, `NOREPLICAS`) and that nothing was changed.
//!
//! [`StoreError::Unavailable`]: faststate_core::store::StoreError::Unavailable
//! [`StoreError::Full`]: faststate_core::store::StoreError::Full
#![cfg_attr(docsrs, feature(doc_cfg))]

mod broadcaster;
#[cfg(feature = "cluster")]
mod cluster;
mod command;
mod connection;
mod durability;
mod error;
mod keys;
mod push;
mod queue;
mod store;

pub use bb8_redis::redis;

pub use self::{
    broadcaster::{RedisBroadcaster, RedisBroadcasterBuilder},
    durability::Durability,
    store::{RedisStore, RedisStoreBuilder},
};
