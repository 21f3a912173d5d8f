//! Redis: one call of the store's script per save, which takes one round trip. `WATCH`, `MULTI` and `EXEC` would take three.

use async_trait::async_trait;
use bb8_redis::{
    RedisConnectionManager,
    bb8::Pool,
    redis::{RedisResult, cmd},
};
use faststate_core::{
    Key,
    store::{Precondition, Receipt, Record, SaveOutcome},
};

use super::CONNECTIONS;
use crate::Way;

pub(crate) struct Redis {
    pool: Pool<RedisConnectionManager>,
    script: String,
}

impl Redis {
    pub(crate) async fn open(url: &str) -> Self {
        let manager = RedisConnectionManager::new(url).unwrap();
        // Prevents a PING before each save.
        let pool =
            Pool::builder().max_size(CONNECTIONS).test_on_check_out(false).build(manager).await.unwrap();
        let text = include_str!("../../../../faststate-store-redis/src/scripts/save.lua");
        let mut connection = pool.get().await.unwrap();
        let script = cmd("SCRIPT").arg("LOAD").arg(text).query_async(&mut *connection).await.unwrap();
        drop(connection);
        Self { pool, script }
    }
}

#[async_trait]
impl Way for Redis {
    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: &Receipt,
    ) -> Option<SaveOutcome> {
        let name = format!("naive:{{{key}}}");
        let digest = u128::from_be_bytes(*receipt.as_bytes());
        let expected = match expect {
            Precondition::Absent => String::new(),
            Precondition::Version(version) => format!("{version} "),
        };
        let mut value = format!("{} {} ", record.version, record.schema).into_bytes();
        value.extend_from_slice(&record.data);
        let mut connection = self.pool.get().await.ok()?;
        let answer: RedisResult<u8> = cmd("EVALSHA")
            .arg(&self.script)
            .arg(2)
            .arg(&name)
            .arg(format!("{name}:{digest:032x}"))
            .arg(expected)
            .arg(value)
            .arg(record.ttl.map_or(0, |ttl| ttl.as_millis()))
            .arg(receipt.lifetime().as_millis())
            .query_async(&mut *connection)
            .await;
        match answer.ok()? {
            0 => Some(SaveOutcome::Saved),
            1 => Some(SaveOutcome::Conflict),
            _ => Some(SaveOutcome::Duplicate),
        }
    }
}
