//! The broadcaster that `--broadcast` names, which carries changes between nodes.

use std::{fmt, str::FromStr, sync::Arc};

use faststate::{
    BoxError, Broadcaster, store::StoreError, store_diesel::PostgresBroadcaster,
    store_redis::RedisBroadcaster,
};

use crate::store::is_redis;

/// A broadcaster by its address. Its `Debug` shows no password.
#[derive(Clone)]
pub(crate) enum BroadcasterChoice {
    Postgres(String),
    Redis(String),
}

impl BroadcasterChoice {
    pub(crate) async fn open(&self) -> Result<Arc<dyn Broadcaster>, BoxError> {
        let opened: Result<Arc<dyn Broadcaster>, StoreError> = match self {
            Self::Postgres(url) => PostgresBroadcaster::connect(url).await.map(|nodes| Arc::new(nodes) as _),
            Self::Redis(url) => {
                RedisBroadcaster::connect(url.as_str()).await.map(|nodes| Arc::new(nodes) as _)
            }
        };
        opened.map_err(|error| {
            format!("cannot reach the other nodes through {self:?}: {}", crate::error::causes(&error)).into()
        })
    }
}

impl FromStr for BroadcasterChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            Some((scheme, _)) if is_redis(scheme) => Ok(Self::Redis(text.to_owned())),
            _ => Err("a broadcaster is redis://.. or postgres://.."),
        }
    }
}

impl fmt::Debug for BroadcasterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres(_) => "postgres://..",
            Self::Redis(_) => "redis://..",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_shown_without_passwords() {
        for (text, shown) in
            [("postgres://me:secret@host/db", "postgres://.."), ("redis://:secret@host", "redis://..")]
        {
            assert_eq!(format!("{:?}", text.parse::<BroadcasterChoice>().unwrap()), shown);
        }
        for text in ["", "memory:", "sqlite://a.db", "nats://host"] {
            assert!(text.parse::<BroadcasterChoice>().is_err(), "{text}");
        }
    }
}
