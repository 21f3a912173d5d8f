//! The store that `--store` names.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use faststate::{
    BoxError, MemoryStore, Store, store::StoreError, store_diesel::DieselStore, store_redis::RedisStore,
};

/// A store by its address. Its `Debug` shows no password.
#[derive(Clone)]
pub(crate) enum StoreChoice {
    Memory,
    Sqlite(PathBuf),
    Postgres(String),
    Mysql(String),
    Redis(String),
}

impl StoreChoice {
    pub(crate) async fn open(&self) -> Result<Arc<dyn Store>, BoxError> {
        let opened: Result<Arc<dyn Store>, StoreError> = match self {
            Self::Memory => Ok(Arc::new(MemoryStore::new())),
            Self::Sqlite(file) => DieselStore::sqlite(format!("sqlite://{}", file.display()))
                .await
                .map(|store| Arc::new(store) as _),
            Self::Postgres(url) => DieselStore::postgres(url).await.map(|store| Arc::new(store) as _),
            Self::Mysql(url) => DieselStore::mysql(url).await.map(|store| Arc::new(store) as _),
            Self::Redis(url) => RedisStore::connect(url.as_str()).await.map(|store| Arc::new(store) as _),
        };
        opened.map_err(|error| {
            format!("cannot open the store {self:?}: {}", crate::error::causes(&error)).into()
        })
    }
}

impl FromStr for StoreChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = || text.to_owned();
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", file)) => {
                let file = file.strip_prefix("//").unwrap_or(file);
                if file.is_empty() {
                    Err("name the file: sqlite://faststate.db")
                } else {
                    Ok(Self::Sqlite(file.into()))
                }
            }
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(url())),
            Some(("mysql" | "mariadb", _)) => Ok(Self::Mysql(url())),
            Some((scheme, _)) if is_redis(scheme) => Ok(Self::Redis(url())),
            _ => Err("a store is sqlite://FILE, postgres://.., mysql://.., redis://.. or memory:"),
        }
    }
}

/// Whether a scheme is one of Redis: `rediss`, `valkey+cluster`, `unix`.
pub(crate) fn is_redis(scheme: &str) -> bool {
    let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    matches!(
        (base, kind),
        ("unix", "") | ("redis" | "rediss" | "valkey" | "valkeys", "" | "sentinel" | "cluster" | "unix")
    )
}

impl fmt::Debug for StoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(file) => write!(f, "sqlite://{}", file.display()),
            Self::Postgres(_) => f.write_str("postgres://.."),
            Self::Mysql(_) => f.write_str("mysql://.."),
            Self::Redis(_) => f.write_str("redis://.."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_shown_without_passwords() {
        for (text, shown) in [
            ("memory:", "memory:"),
            ("sqlite://faststate.db", "sqlite://faststate.db"),
            ("sqlite:/tmp/a.db", "sqlite:///tmp/a.db"),
            ("postgres://me:secret@host/db", "postgres://.."),
            ("postgresql://me:secret@host/db", "postgres://.."),
            ("mysql://me:secret@host/db", "mysql://.."),
            ("mariadb://me:secret@host/db", "mysql://.."),
            ("redis://:secret@host", "redis://.."),
            ("rediss://:secret@host", "redis://.."),
            ("valkeys+sentinel://:secret@host/mymaster", "redis://.."),
            ("redis+cluster://:secret@host", "redis://.."),
            ("unix:///run/redis.sock", "redis://.."),
        ] {
            assert_eq!(format!("{:?}", text.parse::<StoreChoice>().unwrap()), shown);
        }
        for text in ["", "memory", "memory:x", "sqlite:", "mongodb://x", "faststate.db"] {
            assert!(text.parse::<StoreChoice>().is_err(), "{text}");
        }
    }
}
