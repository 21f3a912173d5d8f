//! Redis and Valkey for FastState: a store that keeps what was acknowledged, and a broadcaster.
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
//! Needs Redis 6.2 or later, or Valkey (its commands are of 6.2: the suite has passed on Redis 6.2.14 and 7.0.15, and
//! on Valkey 9.1.2); one server (or what looks like one), not a cluster's client. For
//! `rediss://` add the crate `redis` with its feature `tokio-rustls-comp` to the application.
//!
//! # What it promises
//!
//! A record and its receipt are saved by one script, which Redis runs as a whole. Expiry is Redis' own,
//! to the millisecond. What is acknowledged (law 1) is as safe as the server's settings make it; the store
//! looks at them when it connects, warns in the log, and tells them as [`RedisStore::durability`]:
//!
//! | settings | after `kill -9` of Redis | after a power failure |
//! | --- | --- | --- |
//! | `appendonly yes`, `appendfsync always` | **nothing is lost: law 1 holds** | **nothing is lost: law 1 holds** |
//! | `appendonly yes`, `appendfsync everysec` (the default of the file) | what the kernel has is kept: little or nothing is lost | up to two seconds are lost |
//! | `appendonly yes`, `appendfsync no` | as above | up to half a minute is lost |
//! | `appendonly no`, `save ..` (Redis' default) | all since the last snapshot is lost | all since the last snapshot is lost |
//! | `maxmemory` with another policy than `noeviction` | records and receipts vanish at any time | the same |
//! | `no-appendfsync-on-rewrite yes` | as with `appendfsync no` while the file is rewritten | the same |
//! | a fail-over to a replica | what had not reached it is lost, whatever is set: replication is asynchronous | the same |
//!
//! `kill -9` of the application loses nothing that was acknowledged with any of them.
//!
//! A server that lost something went back in time: the engine notices and starts a new epoch (law 10).
//!
//! # What it costs
//!
//! Concurrent calls share pipelines over at most two connections (settable), and with `appendfsync
//! always` a pipeline's saves share the sync. A save is one script call, a load too. A receipt is a Redis
//! key of its own for ten minutes, some 200 bytes; one that the engine minted, for one minute.
//!
//! # Keys
//!
//! A record is at `prefix:v1:{key}`, as `version schema json`; its receipts are at
//! `prefix:v1:{key}:digest`. Give each application its own prefix. An ACL needs `~prefix:*` and
//! `+evalsha +script|load +get +set +getrange +exists +del +pttl +pexpire +ping +hello +client`, and
//! `+config|get` for the look at the settings.
//!
//! # Many nodes
//!
//! [`RedisBroadcaster`] carries changes between nodes, whatever store they share:
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
//! # When Redis is away
//!
//! A call fails within two seconds (settable) as [`StoreError::Unavailable`], and the outcome of a save
//! is then unknown: the engine asks again, with the receipt. A connection that is cut is replaced, with
//! jitter, as is one whose server has become a replica; nothing that was sent is sent again. [`StoreError::Full`] means that Redis refuses writes for
//! now (`OOM`, `MISCONF`, `NOREPLICAS`) and that nothing changed.
//!
//! [`StoreError::Unavailable`]: faststate_core::store::StoreError::Unavailable
//! [`StoreError::Full`]: faststate_core::store::StoreError::Full
#![cfg_attr(docsrs, feature(doc_cfg))]

mod broadcaster;
mod builder;
#[cfg(feature = "cluster")]
mod cluster;
mod connection;
mod durability;
mod error;
mod keys;
mod order;
mod queue;
mod store;

pub use bb8_redis::redis;

pub use self::{
    broadcaster::{RedisBroadcaster, RedisBroadcasterBuilder},
    builder::RedisStoreBuilder,
    durability::Durability,
    store::RedisStore,
};
